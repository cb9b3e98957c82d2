"""The step that paints label maps from instance annotations."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from PIL import Image

from lightcluster.datasets.entries import Entry
from lightcluster.datasets.formats.coco_things import COCO_THINGS
from lightcluster.datasets.instances import Instances
from lightcluster.datasets.listing import list_dataset
from lightcluster.datasets.manifest import REFUSED, Rejection, write_rows
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.errors import ImageError
from lightcluster.extraction.images import image_size
from lightcluster.files import replacing
from lightcluster.locations import source_of
from lightcluster.progress import progress

log = logging.getLogger(__name__)


def paint_entries(
    entries: Iterable[Entry], instances: Instances, folder: Path, max_pixels: int
) -> list[Rejection]:
    """Write the label map of each image into `folder`; return those that cannot be painted.

    Images that cannot be read have no label map either; `index_dataset` reports them.
    """
    rejections = []
    for entry in progress(list(entries), "paint"):
        try:
            entry.image_id.encode()
            size = image_size(source_of(entry.path), max_pixels)
        except (ImageError, UnicodeEncodeError):
            continue
        try:
            label = instances.paint(PurePosixPath(entry.image_id).name, size)
        except ImageError as error:
            rejections.append(Rejection(entry.image_id, "label", str(error)))
            continue
        Image.fromarray(label).save(folder / entry.label_id)
    return rejections


def paint_labels(dataset: DatasetSettings, output: Path) -> None:
    """Write the label maps of all images of a dataset into the folder `output`.

    The file `manifest.REFUSED` beside them lists those that cannot be painted, with the reasons.
    """
    entries = list_dataset(dataset, output)
    (source,) = COCO_THINGS.step_reads(dataset)
    instances = Instances(source)
    remarks = [Rejection(source.name, "annotations", remark) for remark in instances.remarks]
    with replacing(output) as folder:
        folder.mkdir()
        rejections = paint_entries(entries, instances, folder, dataset.max_pixels)
        write_rows(folder / REFUSED, [*remarks, *rejections], Rejection)
    log.info("%d of %d label maps not painted", len(rejections), len(entries))
