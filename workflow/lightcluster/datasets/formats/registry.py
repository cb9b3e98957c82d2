"""The list of all dataset formats."""

from __future__ import annotations

from lightcluster.datasets.formats.cityscapes import CITYSCAPES
from lightcluster.datasets.formats.coco_stuff import COCO_STUFF
from lightcluster.datasets.formats.coco_things import COCO_THINGS
from lightcluster.datasets.formats.demo import DEMO
from lightcluster.datasets.formats.field import FieldFormat
from lightcluster.datasets.formats.folder import FOLDER
from lightcluster.datasets.formats.listed import LIST
from lightcluster.datasets.formats.parquet import PARQUET
from lightcluster.datasets.formats.protocol import Format
from lightcluster.datasets.formats.voc import VOC
from lightcluster.datasets.formats.webdataset import WEBDATASET

_LISTED: tuple[Format, ...] = (
    DEMO,
    FOLDER,
    LIST,
    WEBDATASET,
    PARQUET,
    VOC,
    *COCO_STUFF,
    COCO_THINGS,
    CITYSCAPES,
)

FORMATS = {form.name: form for form in _LISTED}
"""Formats by the value of `dataset.format`; the first is the default."""

FIELD_FORMATS = {name: form for name, form in FORMATS.items() if isinstance(form, FieldFormat)}
"""The formats of standard datasets."""
