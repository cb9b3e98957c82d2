"""labelme: a JSON file of shapes for each image."""

from __future__ import annotations

import os
from base64 import b64encode
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lightcluster.exports.protocol import Exporter, Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    from lightcluster.exports.segmentation import Region, Segmentation

VERSION = "5.5.0"
"""Version of the labelme format; later versions read it."""


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write a file for each image into a folder; the shapes of one object have one `group_id`.

    Shapes are polygons, or, without tolerance, masks. An image that is no file of its own, but in a
    tar or a parquet file, is in the JSON file itself.
    """
    from lightcluster.exports.coco_json import write_json
    from lightcluster.exports.segmentation import content_of

    count = 0
    with replacing(output) as folder:
        folder.mkdir()
        for picture in segmentation.pictures():
            row = picture.row
            name = PurePosixPath(row.output).with_suffix(".json")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            here = (output / name).parent.resolve()
            place, data = PurePosixPath(row.image_id).name, None
            if isinstance(row.path, Path):
                place = os.path.relpath(row.path, here)
            elif options.images is None:
                data = b64encode(content_of(row.path)).decode()
            content: dict[str, Any] = {
                "version": VERSION,
                "flags": {},
                "shapes": [
                    shape
                    for number, region in enumerate(picture.regions, start=1)
                    for shape in _shapes(region, number, options.tolerance)
                ],
                "imagePath": options.place_of(row.image_id, place),
                "imageData": data,
                "imageHeight": row.height,
                "imageWidth": row.width,
            }
            write_json(content, path)
            count += len(picture.regions)
    return count


def _shapes(region: Region, number: int, tolerance: float) -> list[dict[str, Any]]:
    """Return the shapes of an object."""
    from lightcluster.exports.outlines import rings_of

    common = {
        "label": region.category.name,
        "group_id": number,
        "description": "" if region.confidence is None else f"confidence {region.confidence:.2f}",
        "flags": {},
        **region.rated("score"),  # a key that labelme does not show, but keeps
    }
    if tolerance > 0:
        rings = rings_of(region, tolerance)
        return [
            {**common, "shape_type": "polygon", "points": ring.round(2).tolist()} for ring in rings
        ]
    left, top, width, height = region.box
    corners = [[left, top], [left + width - 1, top + height - 1]]  # both belong to the mask
    return [{**common, "shape_type": "mask", "points": corners, "mask": _as_png(region)}]


def _as_png(region: Region) -> str:
    from PIL import Image

    content = BytesIO()
    Image.fromarray(region.mask).save(content, "PNG")
    return b64encode(content.getvalue()).decode()


LABELME = Exporter(
    name="labelme",
    summary="labelme, a folder with a JSON file for each image",
    write=write,
)
