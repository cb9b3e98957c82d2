"""WebDataset: tars of samples, whose images and label maps are read in place.

The members of a sample have the same key, which is their name up to the first dot of its last part:
``a/0001.jpg`` and ``a/0001.seg.png`` belong to the sample ``a/0001`` and have the extensions
``jpg`` and ``seg.png``. See https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from lightcluster.cached import cached
from lightcluster.datasets.entries import Entry, Inside, output_names
from lightcluster.datasets.formats.own import (
    OwnFormat,
    OwnKeys,
    list_containers,
    stamp_of_containers,
)
from lightcluster.datasets.others import IMAGE_SUFFIXES, is_picture
from lightcluster.errors import DatasetError, reason_of
from lightcluster.locations import Member
from lightcluster.paths import require_file
from lightcluster.sections import Section

if TYPE_CHECKING:
    from tarfile import TarInfo

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of compressed files, and the program that unpacks them."""

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Suffixes of files that are listed; compressed tars are listed so that they are reported."""

_INDEX = "tar-1"
"""Name and version of the cached contents of tars."""

_BLOCK = 512


class WebDatasetKeys(OwnKeys):
    """Keys of the section `dataset` that this format reads."""

    image_extension: str | None = Field(
        None,
        description="Extension of the image in a sample (`format: webdataset`): what follows the "
        "first dot of its name, such as `jpg` or `rgb.png`. None: any suffix of an image.",
    )
    label_extension: str | None = Field(
        None,
        description="Extension of the label map in a sample (`format: webdataset`), such as "
        "`seg.png`; none: no evaluation.",
    )

    @field_validator("image_extension", "label_extension")
    @classmethod
    def _is_an_extension(cls, extension: str | None) -> str | None:
        """Reject what cannot be the extension of a member; upper and lower case are the same."""
        if extension is not None and not (
            all(extension.split(".")) and extension.isprintable() and not set("/ ") & {*extension}
        ):
            raise PydanticCustomError(
                "extension", "must be what follows the first dot of a name, such as jpg or seg.png"
            )
        return None if extension is None else extension.lower()


class Found(NamedTuple):
    """A member of a tar.

    Attributes
    ----------
    name : str
    offset, size : int
        Where its content is.
    problem : str
        Why it cannot be read; empty if it can.
    """

    name: str
    offset: int
    size: int
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class WebDatasetFormat(OwnFormat):
    """Tars of images and label maps."""

    keys: ClassVar[type[Section]] = WebDatasetKeys
    labels_key: ClassVar[str] = "label_extension"

    def contradictions(self, dataset: Any) -> Iterator[str]:
        """Yield a message for each missing key, and for equal extensions."""
        yield from super().contradictions(dataset)
        if dataset.image_extension and dataset.image_extension == dataset.label_extension:
            yield (
                f"dataset.label_extension = {dataset.label_extension!r}: is also the extension of "
                "the images; choose different ones"
            )

    def entries(self, dataset: WebDatasetKeys, generated: Path, others: list[str]) -> list[Entry]:
        """List the images of all tars; what cannot be used is listed with the reason."""
        assert dataset.images is not None  # see `contradictions`
        folder, tars = list_containers(
            dataset.images, SUFFIXES, others, one="tar",
            many="tars found, not even in subfolders; for images that are files of their own, set "
            "`format: folder`",
        )  # fmt: skip
        listed = [
            entry
            for tar in tars
            for entry in list_tar(
                folder, tar, dataset.image_extension, dataset.label_extension, others
            )
        ]
        if not listed:
            wanted = dataset.image_extension or "jpg, png or another suffix of images"
            raise DatasetError(
                f"dataset.images = {str(dataset.images)!r}: no images found in {len(tars)} tar(s); "
                f"the extension of a member after the first dot of its name must be {wanted}"
            )
        listed.sort(key=lambda entry: entry.image_id)
        names = output_names([entry.image_id for entry in listed])
        reason = "the tar has no member {!r} (see dataset.label_extension)"
        if dataset.label_extension is None or any(entry.labels for entry in listed):
            reason = ""  # some images may have none
        return [
            replace(
                entry, output=name, unlabelled=entry.unlabelled or reason.format(entry.label_id)
            )
            for entry, name in zip(listed, names, strict=True)
        ]

    def listing_stamp(self, dataset: WebDatasetKeys) -> str:
        """Return a digest of the names of all files and of the states of the tars."""
        assert dataset.images is not None  # see `contradictions`
        return stamp_of_containers(dataset.images, SUFFIXES)


def list_tar(
    folder: Path, tar: str, image: str | None, label: str | None, others: list[str]
) -> Iterator[Entry]:
    """Yield the images of a tar, and one that is not usable for each problem.

    Parameters
    ----------
    folder : Path
    tar : str
        Path of the tar below `folder`.
    image : str or None
        Extension of images; None: any suffix of an image, except `label`.
    label : str or None
        Extension of label maps.
    others : list of str
        The names of pictures that are not the images of their sample are added to this list.

    Yields
    ------
    Entry
        Without its output.
    """

    def unusable(name: str, reason: str) -> Entry:
        return Entry(name, folder, None, "", inside=Inside(tar, ""), unusable=reason)

    path = folder / tar
    try:
        found = cached(path, _INDEX, read_tar)
    except OSError as error:
        yield unusable(tar, f"the tar cannot be read ({error.strerror or error})")
        return
    if found["problem"]:
        yield unusable(tar, found["problem"])
    samples: dict[str, Found] = {}
    labels: dict[str, list[Found]] = {}
    for member in (Found(*values) for values in found["members"]):
        key, extension = split_name(member.name)
        if extension == label:
            labels.setdefault(key, []).append(member)
        elif extension != image if image else f".{extension}" not in IMAGE_SUFFIXES:
            if is_picture(member.name):
                others.append(f"{tar}/{member.name}")
        elif problem := _problem_of(member, samples.get(key)):
            yield unusable(f"{tar}/member at byte {member.offset}", f"{member.name!r}: {problem}")
        else:
            samples[key] = member
    for key, member in samples.items():
        of_sample = labels.get(key, [])
        wanted = of_sample[0].name if of_sample else f"{key}.{label}" * bool(label)
        reason = _label_problem(of_sample)
        usable = len(of_sample) == 1 and not reason
        yield Entry(
            image_id=f"{tar}/{member.name}",
            images=folder,
            labels=folder if usable else None,
            output="",
            label_id=wanted,
            unlabelled=reason,
            inside=Inside(tar, _part(path, member), _part(path, of_sample[0]) if usable else ""),
        )


def _part(tar: Path, member: Found) -> str:
    """Return where a member is in its tar, see `locations.locate`."""
    return Member(tar, member.name, member.offset, member.size).part


def _problem_of(member: Found, before: Found | None) -> str:
    """Return why the image of a sample cannot be used; empty if it can."""
    if member.problem:
        return member.problem
    if before is None:
        return ""
    if before.name == member.name:
        return "an earlier member of the tar has the same name, and is used"
    return f"{before.name!r} is the image of this sample (see dataset.image_extension)"


def _label_problem(found: list[Found]) -> str:
    """Return why the label map of a sample cannot be used, if there is one and it cannot."""
    if len(found) > 1:
        return f"the tar has {len(found)} label maps for this image, such as {found[1].name!r}"
    return found[0].problem if found else ""


def split_name(name: str) -> tuple[str, str]:
    """Return the key of a member, and its extension in lower case."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def read_tar(path: Path) -> dict[str, Any]:
    """Read the headers of a tar.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        ``members`` holds the values of a `Found` for each file; hidden files and folders are left
        out. ``problem`` says what is wrong with the tar, or is empty.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """
    import tarfile

    members: list[Found] = []
    with require_file(path).open("rb") as file:
        start = file.read(8)
        for magic, program in COMPRESSED.items():
            if start.startswith(magic):
                remedy = f"images in it cannot be read in place; unpack it with {program}"
                return {"members": [], "problem": f"the tar is compressed: {remedy}"}
        file.seek(0, 2)
        end = file.tell()
        file.seek(0)
        try:
            with tarfile.open(
                fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape"
            ) as tar:
                for item in tar:
                    if not item.isdir() and (member := _found(item, end)):
                        members.append(member)
                stopped = tar.offset
            file.seek(stopped)
            block = file.read(_BLOCK)
            problem = "" if block == bytes(_BLOCK) else _why_stopped(block, stopped)
        except Exception as error:  # damaged tars raise all kinds of errors
            problem = f"damaged or truncated tar ({reason_of(error)})"
    if problem:
        problem += f"; the {len(members)} files before that are used"
    return {"members": members, "problem": problem}


def _why_stopped(block: bytes, offset: int) -> str:
    """Return why a tar does not end with a block of zeros, given what is there instead."""
    if block:
        return f"damaged or truncated tar (no header at byte {offset})"
    return f"the tar has no end marker at byte {offset}, and may be truncated"


def _found(item: TarInfo, end: int) -> Found | None:
    """Return a member of a tar; None if it is hidden, or in a hidden folder."""
    name = item.name.removeprefix("./")
    parts = name.split("/")
    problem = ""
    if "\0" in name or "" in parts or "." in parts or ".." in parts:
        problem = "the name leads out of the tar's folder, or is not a plain path"
    elif any(part.startswith(".") for part in parts):
        return None
    elif not item.isreg():
        problem = "a link or special file, not a file"
    elif item.issparse():
        problem = "stored as a sparse file, which cannot be read in place"
    elif item.offset_data + item.size > end:
        problem = "the tar is truncated in this file"
    return Found(name, item.offset_data, item.size, problem)


WEBDATASET = WebDatasetFormat(
    name="webdataset",
    summary="WebDataset, tars of images that are read in place, with label maps beside them",
    reads="the folder of the tars, or one tar",
)
