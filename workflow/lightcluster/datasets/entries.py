"""The images of a dataset as they are listed: names of files, and nothing of what they hold.

Nothing heavy is imported here: the workflow is parsed with it.
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

from lightcluster.errors import DatasetError
from lightcluster.paths import LONGEST, cut, fits


@dataclass(frozen=True)
class LabelFile:
    """A label map on disk.

    Attributes
    ----------
    path : Path
    taxonomy : str
        Name of the format that knows which class each value in it stands for; empty where values
        are class ids.
    digest: str
        Of its content when it was indexed, see `digests.digest_of`; empty before that.
    """

    path: Path
    taxonomy: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image file of a dataset.

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
        How the label map is to be read, see `LabelFile`.
    unlabelled : str
        Why it has no label map where one is to be expected; empty: none is.
    """

    image_id: str
    images: Path
    labels: Path | None
    output: str
    label_id: str = ""
    taxonomy: str = ""
    unlabelled: str = ""

    @property
    def path(self) -> Path:
        """Where the image is."""
        return self.images / self.image_id

    @property
    def label(self) -> LabelFile | None:
        """Its label map, if there is one."""
        if self.labels is None:
            return None
        return LabelFile(self.labels / self.label_id, self.taxonomy)

    @property
    def places(self) -> tuple[str, str]:
        """Where the image and its label map are, as text; without a label map, it is empty."""
        image = f"{self.images}/{self.image_id}"
        return image, "" if self.labels is None else f"{self.labels}/{self.label_id}"


def walk(folder: Path) -> Iterator[str]:
    """Yield the path below `folder` of all files.

    Hidden files and folders are skipped, links followed, but not to a folder that they are in.
    Links to nothing, pipes and the like are yielded, too, so that they are named as bad images
    rather than overlooked.
    """
    pending = [("", _and_above(os.path.realpath(folder)))]
    while pending:
        below, above = pending.pop()
        try:
            with os.scandir(folder / below) as found:
                items = [item for item in found if not item.name.startswith(".")]
        except OSError as error:
            raise DatasetError(f"{str(folder / below)!r}: cannot be listed ({error})") from None
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
    """Return a folder and all that it is in."""
    return frozenset({real, *map(str, Path(real).parents)})


def output_names(image_ids: list[str]) -> list[str]:
    """Return a unique ``.png`` path for each image: its own with the suffix replaced.

    Images of one folder that differ in the suffix alone keep it (``a.jpg.png``, ``a.tif.png``), and
    get a digest where that does not help. Upper and lower case are not told apart, nor are ways to
    encode an accent, as on some file systems. No name is that of a folder, and none is longer than
    255 bytes: a longer one is cut, and gets a digest too.
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
    """Return what names that some file systems take for the same have in common."""
    if name.isascii():
        return name.lower()
    return normalize("NFD", normalize("NFD", name).casefold())


def digest_name(text: str) -> str:
    """Return a digest of a name, 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
