"""Parquet files with a column of images, as Hugging Face datasets store them.

A cell holds the bytes of an image file, either by themselves or as the field ``bytes`` of a struct.
To read a cell, the column of its row group is read, so that a shard consists of whole row groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

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
from lightcluster.errors import DatasetError, reason_of
from lightcluster.locations import LARGEST_GROUP, NEEDS_PYARROW, Cell
from lightcluster.paths import LONGEST, require_file
from lightcluster.sections import Section

_SUFFIXES = (".parquet",)

_INDEX = "parquet-1"
"""Name and version of the cached contents of parquet files."""


class ParquetKeys(OwnKeys):
    """Keys of the section `dataset` that this format reads."""

    image_column: str = Field("image", description="Column of the images (`format: parquet`).")
    label_column: str | None = Field(
        None, description="Column of the label maps (`format: parquet`); none: no evaluation."
    )

    @field_validator("image_column", "label_column")
    @classmethod
    def _is_a_column(cls, column: str | None) -> str | None:
        """Reject what cannot be the name of a column."""
        if column is not None and not (0 < len(column) <= LONGEST and column.isprintable()):
            raise PydanticCustomError("column", f"must be a name of 1 to {LONGEST} characters")
        return column


@dataclass(frozen=True, kw_only=True)
class ParquetFormat(OwnFormat):
    """Parquet files of images and label maps."""

    keys: ClassVar[type[Section]] = ParquetKeys
    labels_key: ClassVar[str] = "label_column"

    def entries(self, dataset: ParquetKeys, generated: Path, others: list[str]) -> list[Entry]:
        """List the rows of all files; a file that cannot be used is listed with the reason."""
        assert dataset.images is not None  # see `contradictions`
        folder, files = list_containers(
            dataset.images, _SUFFIXES, others, one="file",
            many="parquet files found, not even in subfolders",
        )  # fmt: skip
        listed = sorted(
            (entry for file in files for entry in _list_file(folder, file, dataset)),
            key=lambda entry: entry.image_id,
        )
        if not listed:
            raise DatasetError(f"dataset.images = {str(dataset.images)!r}: has no rows")
        names = output_names([entry.image_id for entry in listed])
        return [replace(entry, output=name) for entry, name in zip(listed, names, strict=True)]

    def listing_stamp(self, dataset: ParquetKeys) -> str:
        """Return a digest of the names of all files and of the states of the parquet files."""
        assert dataset.images is not None  # see `contradictions`
        return stamp_of_containers(dataset.images, _SUFFIXES)


def _list_file(folder: Path, file: str, dataset: ParquetKeys) -> Iterator[Entry]:
    """Yield the images of a file without their outputs, or one that says why there are none."""

    def unusable(reason: str) -> Entry:
        return Entry(file, folder, None, "", inside=Inside(file, ""), unusable=reason)

    path = folder / file
    try:
        found = cached(path, _INDEX, read_parquet)
    except OSError as error:
        yield unusable(f"the file cannot be read ({error.strerror or error})")
        return
    wanted = [dataset.image_column, *filter(None, [dataset.label_column])]
    if problem := found["problem"] or _column_problem(wanted, found):
        yield unusable(problem)
        return
    first = 0
    for group, (rows, sizes) in enumerate(found["groups"]):
        largest = max(sizes[column] for column in wanted)
        for row in range(rows):
            number = first + row
            image, label = (
                Cell(path, column, group, row, number).part if column else ""
                for column in (dataset.image_column, dataset.label_column)
            )
            yield Entry(
                image_id=f"{file}/{number:08d}",
                images=folder,
                labels=folder if label else None,
                output="",
                label_id=f"{file}/{number:08d}" if label else "",
                inside=Inside(file, image, label, f"row group {group}"),
                unusable=f"its row group has {largest} bytes; at most {LARGEST_GROUP} are allowed"
                if largest > LARGEST_GROUP
                else "",
            )
        first += rows


def _column_problem(wanted: list[str], found: dict[str, Any]) -> str:
    """Return why the wanted columns cannot be read; empty if they can."""
    for column in wanted:
        if column not in found["columns"]:
            there = ", ".join(map(repr, found["columns"])) or "none"
            return f"there is no column {column!r} with the bytes of files; such columns: {there}"
    return ""


def read_parquet(path: Path) -> dict[str, Any]:
    """Read the footer of a parquet file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        ``columns``: names of the columns that can hold images; ``groups``: the number of rows of
        each row group, and the size of each of these columns in bytes, uncompressed; ``problem``:
        why the file cannot be read, or empty.

    Raises
    ------
    DatasetError
        If pyarrow is not installed.
    OSError
        If the file cannot be opened.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise DatasetError(f"dataset.format = 'parquet': {NEEDS_PYARROW}") from None
    with require_file(path).open("rb") as file:
        try:
            stored = pyarrow.parquet.ParquetFile(file)
            columns = [field.name for field in stored.schema_arrow if _holds_bytes(field.type)]
            groups = [
                _group(stored.metadata.row_group(number), columns)
                for number in range(stored.num_row_groups)
            ]
        except Exception as error:  # damaged files raise all kinds of errors
            problem = f"damaged parquet file ({reason_of(error)})"
            return {"columns": [], "groups": [], "problem": problem}
    return {"columns": columns, "groups": groups, "problem": ""}


def _holds_bytes(kind: Any) -> bool:
    """Return whether a column of an Arrow type can hold the bytes of files."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _group(group: Any, columns: list[str]) -> tuple[int, dict[str, int]]:
    """Return the number of rows of a row group, and the size of each column."""
    sizes = dict.fromkeys(columns, 0)
    for number in range(group.num_columns):
        leaf = group.column(number)
        column = leaf.path_in_schema.partition(".")[0]
        if column in sizes:
            sizes[column] += leaf.total_uncompressed_size
    return group.num_rows, sizes


PARQUET = ParquetFormat(
    name="parquet",
    summary="parquet files with a column of images, as Hugging Face datasets store them",
    reads="the folder of the parquet files, or one file",
)
