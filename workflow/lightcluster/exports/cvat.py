"""CVAT for images 1.1: an XML file."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from lightcluster.exports.protocol import Exporter, Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    from lightcluster.exports.segmentation import Region, Segmentation

CONFIDENCE = "confidence"
"""Name of the attribute of each shape."""


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write all objects as shapes of CVAT; those of one object have one `group_id`.

    Shapes are polygons, or, without tolerance, masks.
    """
    from lightcluster.regions.palette import hex_color

    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for category in segmentation.categories:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = category.name
        SubElement(label, "color").text = hex_color(category.color)
        _declare_confidence(SubElement(label, "attributes"))
    count = 0
    for picture in segmentation.pictures():
        row = picture.row
        image = SubElement(
            root, "image", id=str(picture.number - 1),
            name=options.place_of(row.image_id, row.image_id),
            width=str(row.width), height=str(row.height),
        )  # fmt: skip
        for number, region in enumerate(picture.regions, start=1):
            _add_shapes(image, region, number, options.tolerance)
        count += len(picture.regions)
    indent(root)
    with replacing(output) as temporary:
        ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    return count


def _declare_confidence(attributes: Element) -> None:
    """Add the one attribute of a label; a text, for numbers of CVAT go in steps."""
    attribute = SubElement(attributes, "attribute")
    for name, value in (
        ("name", CONFIDENCE),
        ("mutable", "False"),
        ("input_type", "text"),
        ("default_value", ""),
        ("values", ""),
    ):
        SubElement(attribute, name).text = value


def _add_shapes(image: Element, region: Region, number: int, tolerance: float) -> None:
    """Add the shapes of an object to its image."""
    from lightcluster.exports.outlines import rings_of

    common = {"label": region.category.name, "source": "auto", "occluded": "0", "z_order": "0"}
    if tolerance == 0:
        left, top, width, height = map(str, region.box)
        shapes = [
            SubElement(
                image, "mask", common, group_id=str(number), rle=run_lengths(region),
                left=left, top=top, width=width, height=height,
            )
        ]  # fmt: skip
    else:
        rings = (
            ";".join(f"{x:.2f},{y:.2f}" for x, y in ring) for ring in rings_of(region, tolerance)
        )
        shapes = [
            SubElement(image, "polygon", common, group_id=str(number), points=points)
            for points in rings
        ]
    for shape in shapes:
        if region.confidence is not None:
            attribute = SubElement(shape, "attribute", name=CONFIDENCE)
            attribute.text = f"{region.confidence:.4f}"


def run_lengths(region: Region) -> str:
    """Return the runs of a region's mask, row by row in its box, beginning with one outside."""
    runs = [(bool(value), len(list(run))) for value, run in groupby(region.mask.ravel().tolist())]
    lengths = [length for _, length in runs]
    return ", ".join(map(str, [0, *lengths] if runs[0][0] else lengths))


CVAT = Exporter(name="cvat", summary="CVAT for images 1.1, an XML file", write=write)
