"""The exports that there are."""

from __future__ import annotations

from pathlib import Path

from lightcluster.exports.coco import COCO
from lightcluster.exports.coco_polygons import COCO_POLYGONS
from lightcluster.exports.cvat import CVAT
from lightcluster.exports.fiftyone import FIFTYONE
from lightcluster.exports.geojson import GEOJSON
from lightcluster.exports.geotiff import GEOTIFF
from lightcluster.exports.label_studio import LABEL_STUDIO
from lightcluster.exports.labelme import LABELME
from lightcluster.exports.panoptic import PANOPTIC
from lightcluster.exports.protocol import Exporter, Options
from lightcluster.exports.yolo import YOLO

_LISTED: tuple[Exporter, ...] = (
    COCO, COCO_POLYGONS, PANOPTIC, YOLO, LABELME, LABEL_STUDIO, CVAT, FIFTYONE, GEOJSON,
    GEOTIFF,
)  # fmt: skip

EXPORTERS = {exporter.name: exporter for exporter in _LISTED}
"""Exporters by the value of ``--to``."""

DEFAULT = _LISTED[0].name


def export(
    place: Path, output: Path, to: str, options: Options | None = None, seed: int | None = None
) -> int:
    """Write the segmentations of a run for another tool.

    Parameters
    ----------
    place : Path
        The folder of a run or of the output of `segment`, or the folder of its segmentations.
    output : Path
        File or folder, as the exporter says.
    to : str
        Key of `EXPORTERS`.
    options : Options, optional
    seed : int, optional
        Labelling seed; by default that which new images are segmented with, if there is a model,
        else the lowest.

    Returns
    -------
    int
        Number of objects.

    Raises
    ------
    StoreError
        If there are no segmentations, or one of their files, or the manifest above them, is missing
        or damaged.
    """
    from lightcluster.exports.segmentation import open_segmentation

    exporter = EXPORTERS[to]
    return exporter.write(open_segmentation(place, seed), output, options or Options())
