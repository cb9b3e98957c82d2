"""YOLO's format for segmentation: a text file of polygons for each image."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lightcluster.exports.protocol import Exporter, Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lightcluster.exports.segmentation import Segmentation


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write ``data.yaml``, ``labels/`` and, with links to the images, ``images/`` into a folder.

    A line of a text file is a polygon: its class, counted from 0 in the order of ``classes.csv``
    without the background, then x and y as shares of the image's width and height. An object
    whose parts touch at corners alone is a line for each of them.
    """
    import yaml

    from lightcluster.exports.outlines import rings_of
    from lightcluster.exports.segmentation import link_image, suffix_of_image

    number = {category.id: index for index, category in enumerate(segmentation.categories)}
    count = 0
    with replacing(output) as folder:
        folder.mkdir()
        for picture in segmentation.pictures():
            count += len(picture.regions)
            size = picture.row.width, picture.row.height
            lines = [
                _line(number[region.category.id], ring / size)
                for region in picture.regions
                for ring in rings_of(region, options.tolerance)
            ]
            labels = folder / "labels" / PurePosixPath(picture.row.output).with_suffix(".txt")
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text("".join(lines), encoding="utf-8")
            image = PurePosixPath(picture.row.output).with_suffix(suffix_of_image(picture.row))
            link_image(picture.row, folder / "images" / image)
        names = {number[category.id]: category.name for category in segmentation.categories}
        (folder / "data.yaml").write_text(
            yaml.safe_dump(
                {"train": "images", "val": "images", "names": names},
                sort_keys=False,
                allow_unicode=True,
            ),
            encoding="utf-8",
        )
    return count


def _line(category: int, ring: NDArray[np.float64]) -> str:
    return f"{category} {' '.join(f'{share:.6f}' for share in ring.ravel())}\n"


YOLO = Exporter(
    name="yolo",
    summary="polygons for YOLO, a folder with data.yaml, labels and links to the images",
    write=write,
)
