"""A user's own folder of images, with an optional folder of label maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import splitext
from typing import ClassVar
from unicodedata import normalize

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from lightcluster.datasets.entries import Entry, folded, output_names, walk
from lightcluster.datasets.formats.own import OwnFormat, OwnKeys
from lightcluster.datasets.others import is_image, looked_for
from lightcluster.digests import combine
from lightcluster.errors import DatasetError
from lightcluster.sections import Section

SHOWN = 3
"""Number of files that a message lists."""


class FolderKeys(OwnKeys):
    """Keys of the section `dataset` that this format reads."""

    labels: Path | None = Field(
        None,
        description="Folder of label PNGs, one per image (`format: folder`); none: no evaluation.",
    )
    label_pattern: str = Field(
        "{stem}.png",
        description="Path of an image's label map in `labels`, within the same subfolder as "
        "the image in `images`. `{stem}` is the file name without its suffix, `{name}` with it; "
        "for example `{stem}_mask.png` or `masks/{name}.png`.",
    )

    @field_validator("label_pattern")
    @classmethod
    def _pattern_names_one_label(cls, pattern: str) -> str:
        """Reject a pattern that is the same for all images or leaves the folder."""
        rest = pattern.replace("{stem}", "").replace("{name}", "")
        parts = pattern.split("/")
        hidden = any(not part or part.startswith(".") or part != part.strip() for part in parts)
        if rest == pattern or set("{}\\\0") & set(rest) or hidden:
            raise PydanticCustomError(
                "pattern",
                "must contain {stem} or {name}, such as {stem}_mask.png, and no other braces, "
                "hidden folders, '..' or empty parts",
            )
        return pattern


@dataclass(frozen=True, kw_only=True)
class FolderFormat(OwnFormat):
    """A folder of images, with an optional folder of label maps."""

    keys: ClassVar[type[Section]] = FolderKeys
    labels_key: ClassVar[str] = "labels"

    def entries(self, dataset: FolderKeys, generated: Path, others: list[str]) -> list[Entry]:
        """List all images of the folder and its subfolders."""
        assert dataset.images is not None  # see `contradictions`
        images, labels = dataset.images, dataset.labels
        for key, folder in (("images", images), ("labels", labels)):
            if folder is not None and not folder.is_dir():
                raise DatasetError(f"dataset.{key} = {str(folder)!r}: there is no such folder")
        if labels is not None and labels.resolve().is_relative_to(images.resolve()):
            raise DatasetError(
                f"dataset.labels = {str(labels)!r}: is inside the image folder, so the label maps "
                "would be read as images; use separate folders"
            )
        found = list(walk(images))
        ids = sorted(filter(is_image, found))
        others.extend(name for name in found if not is_image(name))
        if not ids:
            raise DatasetError(
                f"dataset.images = {str(images)!r}: no images found, not even in subfolders; "
                f"{looked_for(others)}"
            )
        there = set(walk(labels)) if labels is not None else set()
        label_ids = [label_name(image_id, dataset.label_pattern) for image_id in ids]
        reasons = [""] * len(ids) if labels is None else why_unlabelled(ids, label_ids, there)
        return [
            Entry(
                image_id=image_id,
                images=images,
                labels=labels if label_id in there else None,
                output=output,
                label_id=label_id,
                unlabelled=reason,
            )
            for image_id, label_id, reason, output in zip(
                ids, label_ids, reasons, output_names(ids), strict=True
            )
        ]

    def listing_stamp(self, dataset: FolderKeys) -> str:
        """Return a digest of the names of all files, in the order in which they are found.

        The times of folders would be read sooner, but mounted object storage makes them up.
        """
        assert dataset.images is not None  # see `contradictions`
        folders = [dataset.images, *filter(None, [dataset.labels])]
        if not all(folder.is_dir() for folder in folders):
            return ""
        return combine(combine(walk(folder)) for folder in folders)


def label_name(image_id: str, pattern: str) -> str:
    """Return the path of an image's label map, relative to the label folder.

    Parameters
    ----------
    image_id : str
    pattern : str
        See `FolderKeys.label_pattern`.

    Returns
    -------
    str
    """
    folder, _, name = image_id.rpartition("/")
    label = pattern.replace("{name}", "\0").replace("{stem}", splitext(name)[0])
    return f"{folder}/{label}".lstrip("/").replace("\0", name)


def why_unlabelled(
    image_ids: Sequence[str], label_ids: Sequence[str], there: Iterable[str]
) -> list[str]:
    """Explain missing label maps by files with a similar name.

    Parameters
    ----------
    image_ids, label_ids : sequence of str
        Paths of the images and of their expected label maps.
    there : iterable of str
        Paths of all files in the label folder.

    Returns
    -------
    list of str
        One reason per image; empty if it has a label map, or if no file has a similar name (unless
        no image has a label map).
    """
    files = set(there)
    absent = [label_id not in files for label_id in label_ids]
    if not any(absent):
        return [""] * len(image_ids)
    spare = sorted(files.difference(label_ids))
    resembling: dict[str, str] = {}
    for path in spare:
        for part in _parts(path.rpartition("/")[2]):
            resembling.setdefault(part, path)
    reasons = []
    for image_id, label_id, lacks in zip(image_ids, label_ids, absent, strict=True):
        stem = folded(splitext(image_id.rpartition("/")[2])[0])
        beside = repr(resembling[stem]) if lacks and stem in resembling else ""
        if beside and normalize("NFC", resembling[stem]) == normalize("NFC", label_id):
            beside += ", whose accents are encoded differently"
        if lacks and not beside and all(absent):
            beside = ", ".join(map(repr, spare[:SHOWN])) + ", …" * (len(spare) > SHOWN)
            beside = beside or "no file at all"
        reasons.append(
            f"there is no label map {label_id!r}; there is {beside} (see dataset.label_pattern)"
            if beside
            else ""
        )
    return reasons


def _parts(name: str) -> Iterator[str]:
    """Yield the parts of a label map's name before and after each separator."""
    text = folded(name)
    for place, letter in enumerate(text):
        if letter in "._- ":
            yield from (text[:place], text[place + 1 :], splitext(text[place + 1 :])[0])


FOLDER = FolderFormat(
    name="folder",
    summary="any folder of images, including its subfolders",
    reads="the folder of the images",
)
