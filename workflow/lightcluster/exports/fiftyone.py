"""FiftyOne: images and COCO objects in the layout of its `COCODetectionDataset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightcluster.exports.coco import outline_of
from lightcluster.exports.coco_json import write_objects
from lightcluster.exports.protocol import Exporter, Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    from lightcluster.exports.segmentation import Segmentation


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write ``labels.json`` and, with links to the images, ``data/`` into a folder.

    Masks are exact, whatever the tolerance.
    """
    from lightcluster.exports.segmentation import link_image

    with replacing(output) as folder:
        folder.mkdir()
        for sample in segmentation.samples:
            link_image(sample.row, folder / "data" / sample.row.image_id)
        return write_objects(segmentation, folder / "labels.json", outline_of, Options())


FIFTYONE = Exporter(
    name="fiftyone",
    summary="FiftyOne's COCODetectionDataset, a folder with labels.json and links to the images",
    write=write,
)
