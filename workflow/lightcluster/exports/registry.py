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


def export(segmentation: Path, output: Path, to: str, options: Options | None = None) -> int:
    """Write the segmentations of a run for another tool.

    Parameters
    ----------
    segmentation : Path
        `segmentation/seed-N` of a run, or a folder `segmentation` that `segment` wrote.
    output : Path
        File or folder, as the exporter says.
    to : str
        Key of `EXPORTERS`.
    options : Options, optional

    Returns
    -------
    int
        Number of objects.

    Raises
    ------
    StoreError
        If a file of `segmentation`, or the manifest above it, is missing or damaged.
    """
    from lightcluster.exports.segmentation import open_segmentation

    exporter = EXPORTERS[to]
    return exporter.write(open_segmentation(segmentation), output, options or Options())
