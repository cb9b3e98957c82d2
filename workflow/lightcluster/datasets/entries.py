"""The listed images of a dataset: file names only, without their contents.

Nothing heavy is imported here, because it is used while Snakemake parses the workflow.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import splitext
from unicodedata import normalize

from lightcluster.errors import DatasetError, ImageError, reason_of
from lightcluster.locations import Location, locate
from lightcluster.paths import LONGEST, cut, fits


@dataclass(frozen=True)
class LabelFile:
    """A label map on disk.

    Attributes
    ----------
    path : Location
    taxonomy : str
        Name of the format that maps its values to classes; empty if the values are class ids.
    digest: str
        Digest of its content when it was indexed, see `digests.digest_of`; empty before that.
    """

    path: Location
    taxonomy: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Inside:
    """Where an image is inside a larger file, such as a tar.

    Attributes
    ----------
    container : str
        Path of that file below the image folder.
    image, label : str
        Where the image and its label map are in it, see `locations.locate`; `label` is empty if
        there is none.
    block : str
        Name of the part of the file that is read as a whole, such as a row group, and therefore
        belongs to one shard; empty if that is the file itself.
    """

    container: str
    image: str
    label: str = ""
    block: str = ""

    @property
    def whole(self) -> tuple[str, str]:
        """What is not divided among shards if there are enough of them."""
        return self.container, self.block


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a dataset.

    Attributes
    ----------
    image_id : str
        Path below the image folder, with ``/``; unique.
    images : Path
        The folder of the images.
    labels : Path or None
        The folder of the label maps, if there is one for this image.
    output : str
        Path of its PNGs below an output folder; unique, ends in ``.png``.
    label_id : str
        Path of its label map below that folder.
    taxonomy : str
        How to read the label map, see `LabelFile`.
    unlabelled : str
        Why an expected label map is missing; empty if none is expected or it exists.
    inside : Inside or None
        Where the image and its label map are if they are not files of their own.
    unusable : str
        Why the image cannot be used, if listing has already found that out; else empty.
    """

    image_id: str
    images: Path
    labels: Path | None
    output: str
    label_id: str = ""
    taxonomy: str = ""
    unlabelled: str = ""
    inside: Inside | None = None
    unusable: str = ""

    @property
    def path(self) -> Location:
        """Where the image is.

        Raises
        ------
        ImageError
            If it is `unusable`.
        """
        if self.unusable:
            raise ImageError(self.unusable)
        if self.inside is None:
            return self.images / self.image_id
        return locate(self.images / self.inside.container, self.inside.image)

    @property
    def label(self) -> LabelFile | None:
        """The label map, if there is one."""
        if self.labels is None:
            return None
        if self.inside is None:
            return LabelFile(self.labels / self.label_id, self.taxonomy)
        container = self.labels / self.inside.container
        return LabelFile(locate(container, self.inside.label), self.taxonomy)

    @property
    def places(self) -> tuple[str, str]:
        """Paths of the files with the image and its label map (empty if there is none), as text."""
        image, label = self.image_id, self.label_id
        if self.inside is not None:
            image = label = self.inside.container
        return f"{self.images}/{image}", "" if self.labels is None else f"{self.labels}/{label}"


def walk(folder: Path) -> Iterator[str]:
    """Yield the paths of all files below `folder`, relative to it.

    Hidden files and folders are skipped. Links are followed, except to a folder that contains
    them. Broken links, pipes and the like are yielded too, so that they are reported as bad images
    rather than overlooked.

    Raises
    ------
    DatasetError
        If a folder cannot be listed.
    """
    pending = [("", _and_above(os.path.realpath(folder)))]
    while pending:
        below, above = pending.pop()
        try:
            with os.scandir(folder / below) as found:
                items = [item for item in found if not item.name.startswith(".")]
        except OSError as error:
            raise DatasetError(
                f"{str(folder / below)!r}: cannot be listed ({reason_of(error)})"
            ) from None
        for item in items:
            try:
                is_folder = item.is_dir()
            except OSError:  # a link to itself
                is_folder = False
            if is_folder:
                real = os.path.realpath(item.path)
                if real not in above:
                    pending.append((f"{below}{item.name}/", above | _and_above(real)))
            else:
                yield below + item.name


def _and_above(real: str) -> frozenset[str]:
    """Return a folder and all its parents."""
    return frozenset({real, *map(str, Path(real).parents)})


def output_names(image_ids: list[str]) -> list[str]:
    """Return a unique output path for each image: its own path with the suffix ``.png``.

    Images of one folder that differ only in the suffix keep it (``a.jpg.png``, ``a.tif.png``); if
    that is not enough, a digest is appended. Names that differ only in case or in the encoding of
    accents count as equal, because some file systems do not distinguish them. No name equals that
    of a folder. Names longer than 255 bytes are shortened and get a digest.

    Parameters
    ----------
    image_ids : list of str
        Paths below the image folder.

    Returns
    -------
    list of str
        In the same order.
    """
    holding = {image_id.rpartition("/")[0] for image_id in image_ids} - {""}
    folders = {
        folded(str(folder))
        for deepest in holding
        for folder in (PurePosixPath(deepest), *PurePosixPath(deepest).parents)
    }
    names = [f"{splitext(image_id)[0]}.png" for image_id in image_ids]
    others: tuple[Callable[[str, str], str], ...] = (
        lambda name, image_id: f"{image_id}.png",
        lambda name, image_id: _with_digest(name, digest_name(image_id)[:8]),
        lambda name, image_id: _with_digest(name, digest_name(image_id)),
    )
    for other in others:
        keys = [folded(name) for name in names]
        taken = Counter([*keys, *folders])
        names = [
            name if taken[key] == 1 and fits(name) else other(name, image_id)
            for name, key, image_id in zip(names, keys, image_ids, strict=True)
        ]
    return names


def _with_digest(name: str, digest: str) -> str:
    folder, slash, last = name.rpartition("/")
    ending = f".{digest}.png"
    return f"{folder}{slash}{cut(last.removesuffix('.png'), LONGEST - len(ending))}{ending}"


def folded(name: str) -> str:
    """Return a key that is equal for names that some file systems do not distinguish."""
    if name.isascii():
        return name.lower()
    return normalize("NFD", normalize("NFD", name).casefold())


def digest_name(text: str) -> str:
    """Return a digest of a name, 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
