"""GeoTIFF: a raster of classes for each image, with the georeference of the image."""

from __future__ import annotations

import csv
import logging
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lightcluster.exports.places import georeference_of
from lightcluster.exports.protocol import Exporter, Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from lightcluster.exports.segmentation import Category, Segmentation
    from lightcluster.images.georeference import GeoTag

log = logging.getLogger(__name__)

_NODATA, _ASCII = 42113, 2
"""GDAL's tag for the value of pixels without data."""


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write a GeoTIFF for each image into a folder, and ``classes.csv`` with its values.

    A pixel has the id of its class, or 0, which is marked as no data. An image that is not
    georeferenced becomes a plain TIFF.
    """
    import numpy as np

    from lightcluster.regions.palette import hex_color

    count, plain = 0, []
    with replacing(output) as folder:
        folder.mkdir()
        for picture in segmentation.pictures():
            count += len(picture.regions)
            found = georeference_of(picture.row)
            if found is None:
                plain.append(picture.row.image_id)
            ids = np.concatenate([[0], picture.objects.category])[picture.objects.label]
            path = folder / PurePosixPath(picture.row.output).with_suffix(".tif")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_raster(path, ids, segmentation.categories, found.tags if found else ())
        with (folder / "classes.csv").open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(["id", "name", "color"])
            lines.writerows([c.id, c.name, hex_color(c.color)] for c in segmentation.categories)
    if plain:
        log.warning("not georeferenced: %d of the images, such as %r", len(plain), plain[0])
    return count


def write_raster(
    path: Path,
    ids: NDArray[np.integer],
    categories: Sequence[Category],
    tags: Sequence[GeoTag],
) -> None:
    """Write ids of classes as TIFF: 8 bits with colours, or 16 bits from class 256 on.

    Parameters
    ----------
    path : Path
    ids : int array, shape (height, width)
    categories : sequence of Category
    tags : sequence of GeoTag
        Of the georeference.
    """
    import numpy as np
    import tifffile

    largest = max((category.id for category in categories), default=0)
    colors = np.zeros((3, 256), np.uint16)
    for category in categories if largest < 256 else ():
        colors[:, category.id] = np.array(category.color, np.uint16) * 257  # of 16 bits in TIFF
    extra = [(tag.code, tag.dtype, tag.count, tag.value, True) for tag in tags]
    tifffile.imwrite(
        path, ids.astype(np.uint8 if largest < 256 else np.uint16),
        photometric="palette" if largest < 256 else "minisblack",
        colormap=colors if largest < 256 else None,
        compression="deflate", predictor=False, metadata=None, rowsperstrip=256,
        extratags=[*extra, (_NODATA, _ASCII, 2, "0", True)],
    )  # fmt: skip


GEOTIFF = Exporter(
    name="geotiff",
    summary="GeoTIFF, a folder with a raster of classes for each image, georeferenced as it is",
    write=write,
)
