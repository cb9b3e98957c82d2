"""The configuration section `dataset`, and checks for contradictions in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from lightcluster import places
from lightcluster.datasets.formats.demo import DemoKeys
from lightcluster.datasets.formats.field import FieldKeys
from lightcluster.datasets.formats.folder import FolderKeys
from lightcluster.datasets.formats.parquet import ParquetKeys
from lightcluster.datasets.formats.registry import FIELD_FORMATS, FORMATS
from lightcluster.datasets.formats.webdataset import WebDatasetKeys
from lightcluster.sections import Name, Section

LARGEST_SHARD = 65_536
"""Largest value of `shard_size`."""

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(FORMATS)]


def _describe_formats() -> str:
    """Describe the formats, for the table entry of `dataset.format`."""
    others = [form for name, form in FORMATS.items() if name not in FIELD_FORMATS]
    notes = [form.summary for form in FIELD_FORMATS.values() if form.summary]
    return (
        "; ".join(f"`{form.name}`: {form.summary}" for form in others)
        + "; the others: a standard dataset in the layout in which it is distributed, below "
        f"`root`. {'; '.join(notes)}."
    )


def _describe_splits() -> str:
    """Describe the default splits, for the table entry of `dataset.split`."""
    titles: dict[str, str] = {}
    for form in FIELD_FORMATS.values():
        titles.setdefault(form.split, form.title)
    first, *others = titles
    taken = "".join([f"`{first}`", *(f", or `{split}` for {titles[split]}" for split in others)])
    listed = "".join(
        f" `{name}`: any split with a file in `{form.ids.rpartition('/')[0]}`."
        for name, form in FIELD_FORMATS.items()
        if form.ids is not None
    )
    return f"Split of the standard dataset. If not set: {taken}.{listed}"


def _without_background() -> str:
    """Return the formats without a background class."""
    *others, last = (f"`{name}`" for name, form in FORMATS.items() if form.background is None)
    return f"{', '.join(others)} and {last}"


class _Named(Section):
    name: Name = Field("demo", description="Name of the output folder in `results/`.")
    format: FormatName = Field(next(iter(FORMATS)), description=_describe_formats())


class _Read(Section):
    background: int | None = Field(
        0,
        ge=0,
        le=254,
        description="Class id of the background; none: masks are not evaluated. If not set: 0, "
        f"but none for {_without_background()}, which have no background class.",
    )
    ignore: int = Field(
        255, ge=0, le=65_535, description="Label value of pixels that are excluded from all scores."
    )
    on_bad_image: Literal["record", "stop"] = Field(
        "record",
        description="`record`: list the image in `rejected.csv` and continue; `stop`: stop the "
        "run.",
    )
    max_pixels: int = Field(
        150_000_000,
        ge=1,
        le=100_000_000_000,
        description="Images with more pixels are rejected (protection against decompression "
        "bombs).",
    )
    depth: Literal["auto", "full", "stretch"] | Annotated[int, Field(ge=8, le=32)] = Field(
        "auto",
        description="Which value is white in images of more than 8 bits. `auto`: as declared "
        "by the file (10, 12 or 14 bits), otherwise the first of 8, 10, 12, 14 and 16 bits that "
        "fits all samples of the image (1 for floats up to 1; the range in use for negative "
        "numbers and other floats); a number, such as `12`: this number of bits for all images; "
        "`full`: the range of the data type; `stretch`: the range in use in each image. `check` "
        "reports the depths it found.",
    )
    shard_size: Annotated[int, Field(ge=1, le=LARGEST_SHARD)] | Literal["auto"] = Field(
        "auto",
        description="Maximum average number of images per shard, the unit of parallel work; "
        "the number of shards is a power of two. `auto`: 256, or up to 65,536 if that would give "
        "over 64 shards. See [how many jobs](../docs/howto/clusters.md#how-many-jobs).",
    )


# Pydantic lists the keys of the last base class first.
class DatasetSettings(DemoKeys, _Read, ParquetKeys, WebDatasetKeys, FolderKeys, FieldKeys, _Named):
    """The images, and their labels, if there are any."""

    split: Name | None = Field(None, description=_describe_splits())

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow_the_format(cls, raw: Any) -> Any:
        """Set the defaults of the format for keys that are not set."""
        name = raw.get("format") if isinstance(raw, Mapping) else None
        if not isinstance(name, str) or name not in FORMATS:
            return raw
        return {**FORMATS[name].defaults, **raw}


LISTED = (
    "format",
    *dict.fromkeys(
        key for form in FORMATS.values() for key in form.keys.model_fields if key != "classes"
    ),
    "demo",
)
"""Keys that say which files a dataset has."""

_FORMATS_OF = {
    key: [name for name, form in FORMATS.items() if key in form.keys.model_fields]
    for form in FORMATS.values()
    for key in form.keys.model_fields
}
"""The formats that read a key, for keys that not all formats read."""


def contradictions(dataset: DatasetSettings) -> Iterator[str]:
    """Yield a message for a reserved dataset name, and for each contradiction between two keys."""
    if place := places.taken(dataset.name, places.OF_RESULTS):
        yield (
            f"dataset.name = {dataset.name!r}: 'results/{place}' is reserved for the workflow; "
            "choose another name"
        )
    if dataset.background is not None and dataset.background == dataset.ignore:
        yield (
            f"dataset.ignore = {dataset.ignore}: is the same as dataset.background, so the "
            "background would not be scored; choose different values"
        )
    yield from FORMATS[dataset.format].contradictions(dataset)
    for key, formats in _FORMATS_OF.items():
        value = getattr(dataset, key)
        if dataset.format not in formats and value != DatasetSettings.model_fields[key].default:
            to = f"one of {', '.join(formats)}" if len(formats) > 1 else formats[0]
            yield (
                f"dataset.{key} = {str(value)!r}: not used by `format: {dataset.format}`; remove "
                f"it, or set `format` in `dataset` to {to}"
            )
