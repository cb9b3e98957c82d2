"""Label Studio: tasks with pre-annotations, and the labelling configuration that goes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from lightcluster import __version__
from lightcluster.exports.protocol import Exporter, Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lightcluster.exports.segmentation import Picture, Region, Segmentation

LOCAL_FILES = "/data/local-files/?d="
"""URL under which Label Studio serves local files."""

IMAGE, LABEL = "image", "label"
"""Names of the two tags of the configuration."""

_RUN_BITS = 16
_WORD_BITS = 8


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write ``tasks.json`` and ``config.xml`` into a folder.

    Regions are polygons, or, without tolerance, brush masks.
    """
    kind = "polygon" if options.tolerance > 0 else "brush"
    count = 0
    with replacing(output) as folder:
        folder.mkdir()
        _write_configuration(segmentation, folder / "config.xml", kind)
        with (folder / "tasks.json").open("w", encoding="utf-8") as file:
            file.write("[\n")
            for picture in segmentation.pictures():
                row = picture.row
                place = options.place_of(quote(row.image_id), LOCAL_FILES + quote(row.image_id))
                results = [
                    result
                    for number, region in enumerate(picture.regions, start=1)
                    for result in _results(picture, number, region, kind, options.tolerance)
                ]
                prediction = {
                    "model_version": f"LightCluster {__version__}",
                    "result": results,
                    **_score_of(picture),
                }
                task = {"data": {IMAGE: place}, "predictions": [prediction]}
                file.write(",\n" * (picture.number > 1) + json.dumps(task))
                count += len(picture.regions)
            file.write("\n]\n")
    return count


def _write_configuration(segmentation: Segmentation, path: Path, kind: str) -> None:
    """Write the labelling configuration: an image, and the classes with their colours."""
    from lightcluster.regions.palette import hex_color

    view = Element("View")
    SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true")
    labels = SubElement(view, f"{kind.capitalize()}Labels", name=LABEL, toName=IMAGE)
    for category in segmentation.categories:
        SubElement(labels, "Label", value=category.name, background=hex_color(category.color))
    indent(view)
    ElementTree(view).write(path, encoding="unicode")


def _score_of(picture: Picture) -> dict[str, float]:
    """Return the lowest confidence of an image, by which Label Studio sorts what to look at."""
    rated = [region.confidence for region in picture.regions if region.confidence is not None]
    return {"score": min(rated)} if rated else {}


def _results(
    picture: Picture, number: int, region: Region, kind: str, tolerance: float
) -> list[dict[str, Any]]:
    """Return the results of an object: a mask, or a polygon for each of its parts."""
    from lightcluster.exports.outlines import rings_of

    row = picture.row
    common = {
        "type": f"{kind}labels",
        "from_name": LABEL,
        "to_name": IMAGE,
        "original_width": row.width,
        "original_height": row.height,
        "image_rotation": 0,
        **region.rated("score"),
    }
    named = {f"{kind}labels": [region.category.name]}
    if kind == "brush":
        value = {"format": "rle", "rle": brush_rle(picture.objects.label == number), **named}
        return [{**common, "id": str(number), "value": value}]
    size = row.width, row.height
    rings = rings_of(region, tolerance)
    return [
        {
            **common,
            "id": f"{number}.{part}",
            "value": {"points": (100 * ring / size).round(4).tolist(), "closed": True, **named},
        }
        for part, ring in enumerate(rings, start=1)
    ]


def brush_rle(mask: NDArray[np.bool_]) -> list[int]:
    """Return a mask in the run-length code of Label Studio's brush: a list of bytes.

    It is a string of bits: 32 with the count of values (four for each pixel: red, green, blue and
    opacity), five with the length of a value less one, four with each of four lengths of a run's
    length less one; then, of each run, 1, two bits with which of these lengths it has, its length
    less one, and its value. All runs here have the longest.

    Parameters
    ----------
    mask : bool array, shape (height, width)
    """
    import numpy as np

    values = np.repeat(mask.ravel(), 4)
    ends = np.flatnonzero(np.diff(values)) + 1
    starts, ends = np.concatenate([[0], ends]), np.concatenate([ends, [len(values)]])
    bits = [f"{len(values):032b}", f"{_WORD_BITS - 1:05b}"]
    bits += [f"{length - 1:04b}" for length in (3, 4, 8, _RUN_BITS)]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        value = f"{255 * int(values[start]):0{_WORD_BITS}b}"
        for begin in range(start, end, 2**_RUN_BITS):
            length = min(end - begin, 2**_RUN_BITS)
            bits.append(f"111{length - 1:0{_RUN_BITS}b}{value}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


LABEL_STUDIO = Exporter(
    name="label-studio",
    summary="pre-annotations for Label Studio, a folder with tasks.json and config.xml",
    write=write,
)
