"""Polygons of exports: what another tool fills by them is what was segmented."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from lightcluster.datasets.manifest import Row, gather_csv, write_rows
from lightcluster.errors import StoreError
from lightcluster.exports.outlines import outline, single_rings
from lightcluster.exports.protocol import Options
from lightcluster.exports.registry import export
from lightcluster.exports.segmentation import Category, Region, open_segmentation
from lightcluster.regions.painting import save_indexed

shapely = pytest.importorskip("shapely")

SIZE = (90, 140)
NAMES = {1: "ring and disc", 2: "cross", 3: "blocks"}


def scene() -> NDArray[np.uint16]:
    """A ring around a cross, a disc of the ring's class on it, and blocks that touch at corners."""
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    classes = np.zeros(SIZE, np.uint16)
    classes[(y - 45) ** 2 + (x - 45) ** 2 < 40**2] = 1
    classes[(y - 45) ** 2 + (x - 45) ** 2 < 30**2] = 0
    classes[25:66, 40:51] = classes[40:51, 25:66] = 2
    classes[(y - 45) ** 2 + (x - 45) ** 2 < 4**2] = 1
    classes[20:40, 95:115] = classes[40:60, 115:135] = 3
    return classes


SCENES = {"a.jpg": scene(), "b.png": scene()[::-1], "c.jpg": np.zeros((5, 7), np.uint16)}


@pytest.fixture
def segmentation(tmp_path: Path) -> Path:
    """The segmentations of `SCENES`, whose images are there, as `segment` leaves them."""
    folder = tmp_path / "out" / "segmentation"
    (tmp_path / "images").mkdir()
    rows = []
    for name, classes in SCENES.items():
        path = tmp_path / "images" / name
        Image.fromarray((classes * 60).astype(np.uint8)).convert("RGB").save(path)
        rows.append(Row(name, path, None, f"{name[:-4]}.png", *classes.shape))
        save_indexed(classes, folder / rows[-1].output)
    write_rows(tmp_path / "0000.csv", rows, Row)
    gather_csv([tmp_path / "0000.csv"], tmp_path / "out" / "manifest.csv")
    (folder / "classes.csv").write_text(
        "id,name,color,regions\n0,background,#000000,\n"
        + "".join(f"{number},{name},#80{number:02d}00,1\n" for number, name in NAMES.items())
    )
    return folder


def overlap(found: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """IoU of all that is no background, where only equal classes count."""
    either = (found > 0) | (truth > 0)
    return float(((found == truth) & either).sum() / max(1, either.sum()))


def region_of(mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> Region:
    height, width = mask.shape
    return Region(Category(1, "one", (0, 0, 0)), int(mask.sum()), (left, top, width, height), mask)


masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any)


@given(masks, st.integers(0, 5), st.integers(0, 5))
def test_an_exact_outline_has_the_area_of_its_pixels_and_fills_them(mask, left, top):
    parts = outline(region_of(mask, left, top), 0)
    assert parts.is_valid
    assert parts.area == mask.sum()
    whole = np.zeros((20, 20), bool)
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    rings = [ring.ravel().tolist() for ring in single_rings(parts)]
    filled = rle.decode(rle.merge(rle.frPyObjects(rings, 20, 20)))
    np.testing.assert_array_equal(filled.astype(bool), whole)


@given(masks, st.sampled_from([0.5, 1.0, 3.0]))
def test_a_simplified_outline_is_valid_and_has_no_more_corners(mask, tolerance):
    exact, simple = (outline(region_of(mask), value) for value in (0, tolerance))
    assert simple.is_valid
    assert simple.area > 0
    assert len(shapely.get_coordinates(simple)) <= len(shapely.get_coordinates(exact))


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 3.0])
def test_a_simplified_outline_is_no_farther_off_than_it_may_be(tolerance):
    for number in NAMES:
        region = region_of(scene() == number)
        exact, simple = (outline(region, value) for value in (0, tolerance))
        assert len(shapely.get_coordinates(simple)) <= len(shapely.get_coordinates(exact))
        corners = shapely.points(shapely.get_coordinates(exact))
        assert shapely.distance(corners, simple.boundary).max() <= tolerance


@pytest.mark.parametrize(("tolerance", "least", "corners"), [(0.0, 1.0, 900), (1.0, 0.95, 200)])
def test_pycocotools_fills_the_polygons_and_leaves_holes_out(
    segmentation: Path, tmp_path: Path, tolerance: float, least: float, corners: int
):
    options = Options(tolerance=tolerance)
    assert export(segmentation, tmp_path / "coco.json", "coco-polygons", options) == 8
    coco = COCO(str(tmp_path / "coco.json"))
    number = 0
    for image in coco.imgs.values():
        painted = np.zeros((image["height"], image["width"]), int)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            painted[coco.annToMask(annotation) > 0] = annotation["category_id"]
            number += sum(len(ring) // 2 for ring in annotation["segmentation"])
        truth = SCENES[image["file_name"]]
        assert overlap(painted, truth) >= least or not truth.any()
    assert number < corners


def test_supervision_reads_the_polygons_of_yolo(segmentation: Path, tmp_path: Path):
    supervision = pytest.importorskip("supervision")
    assert export(segmentation, tmp_path / "yolo", "yolo") == 8
    folder = tmp_path / "yolo"
    dataset = supervision.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
    )
    assert dataset.classes == list(NAMES.values())
    seen = set()
    for path, image, found in dataset:
        truth = SCENES[Path(path).name]
        assert image.shape[:2] == truth.shape
        painted = np.zeros(truth.shape, int)
        for mask, category in zip(found.mask, found.class_id, strict=True) if len(found) else ():
            painted[mask] = category + 1
        assert overlap(painted, truth) > 0.85 or not truth.any()  # it fills the edges, too
        seen.add(Path(path).name)
    assert seen == set(SCENES)


def test_yolo_names_an_image_that_is_gone(segmentation: Path, tmp_path: Path):
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(StoreError, match=r"b\.png: there is no such image"):
        export(segmentation, tmp_path / "yolo", "yolo")
    assert not (tmp_path / "yolo").exists()


def test_shapely_reads_the_features_of_geojson(segmentation: Path, tmp_path: Path):
    assert export(segmentation, tmp_path / "geo", "geojson", Options(tolerance=0)) == 8
    numbers = {name: number for number, name in NAMES.items()}
    for picture in open_segmentation(segmentation).pictures():
        truth = SCENES[picture.row.image_id]
        path = (tmp_path / "geo" / picture.row.output).with_suffix(".geojson")
        painted, centres = np.zeros(truth.shape, int), np.indices(truth.shape) + 0.5
        for feature in json.loads(path.read_text())["features"]:
            shape = shapely.geometry.shape(feature["geometry"])
            assert shape.is_valid
            assert shape.area == feature["properties"]["area"]
            inside = shapely.contains_xy(shape, centres[1], centres[0])
            painted[inside] = numbers[feature["properties"]["classification"]["name"]]
        np.testing.assert_array_equal(painted, truth)
