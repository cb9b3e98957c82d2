"""Georeferenced images: their coordinates are read, and kept by GeoTIFF and GeoJSON."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image
from pyproj import Transformer

from lightcluster.datasets.manifest import Row, gather_csv, write_rows
from lightcluster.errors import StoreError
from lightcluster.exports import places
from lightcluster.exports.protocol import Options
from lightcluster.exports.registry import export
from lightcluster.images.georeference import TAGS, read_georeference
from lightcluster.regions.painting import save_indexed

EAST, NORTH, SIDE = 500_000.0, 5_400_000.0, 2.0
"""The upper left corner in UTM zone 33 N, and the side of a pixel in metres."""

SHAPE = (40, 60)


def keys(*entries: tuple[int, int]) -> tuple[int, ...]:
    """A directory of keys that hold numbers."""
    return (1, 1, 0, len(entries), *(n for key, value in entries for n in (key, 0, 1, value)))


def write_geotiff(path: Path, directory: tuple[int, ...], *more, orientation: int = 1) -> Path:
    tags = [
        (33550, 12, 3, (SIDE, SIDE, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, EAST, NORTH, 0.0), True),
        (34735, 3, len(directory), directory, True),
        (274, 3, 1, orientation, True),
        *more,
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.zeros((*SHAPE, 3), np.uint8)
    tifffile.imwrite(path, rgb, photometric="rgb", metadata=None, extratags=tags)
    return path


UTM = keys((1024, 1), (1025, 1), (3072, 32633))
DEGREES = keys((1024, 2), (1025, 1), (2048, 4326))
NAMELESS = keys((1024, 1), (1025, 1), (3072, 32767))


def test_pixels_have_coordinates(tmp_path):
    found = read_georeference(write_geotiff(tmp_path / "a.tif", UTM))
    assert found.epsg == 32633
    assert {tag.code for tag in found.tags} == {33550, 33922, 34735} < set(TAGS)
    np.testing.assert_allclose(
        found.place(np.array([[0, 0], [10, 5]])), [[EAST, NORTH], [EAST + 20, NORTH - 10]]
    )


def test_a_pixel_may_stand_for_its_centre(tmp_path):
    points = keys((1024, 1), (1025, 2), (3072, 32633))
    found = read_georeference(write_geotiff(tmp_path / "a.tif", points))
    np.testing.assert_allclose(found.place(np.array([[0.5, 0.5]])), [[EAST, NORTH]])


def test_a_turned_grid_is_read_from_its_matrix(tmp_path):
    matrix = (0.0, 3.0, 0, 7.0, 2.0, 0.0, 0, 9.0, 0, 0, 0, 0, 0, 0, 0, 1)
    path = tmp_path / "a.tif"
    tags = [(34264, 12, 16, matrix, True), (34735, 3, len(UTM), UTM, True)]
    tifffile.imwrite(path, np.zeros(SHAPE, np.uint8), metadata=None, extratags=tags)
    np.testing.assert_allclose(read_georeference(path).place(np.array([[1, 2]])), [[13, 11]])


@pytest.mark.parametrize("what", ["plain", "turned", "no TIFF", "damaged"])
def test_what_has_no_georeference(tmp_path, what):
    path = tmp_path / "a.tif"
    if what == "plain":
        tifffile.imwrite(path, np.zeros(SHAPE, np.uint8))
    elif what == "no TIFF":
        Image.new("RGB", (8, 8)).save(path, format="PNG")
    elif what == "turned":
        write_geotiff(path, UTM, orientation=6)
    else:
        tags = [(33550, 2, 5, "12345", True), (33922, 12, 6, (0.0,) * 6, True)]
        tifffile.imwrite(path, np.zeros(SHAPE, np.uint8), metadata=None, extratags=tags)
    assert read_georeference(path) is None


@pytest.fixture
def classes() -> np.ndarray:
    """A rectangle with a hole."""
    painted = np.zeros(SHAPE, np.uint16)
    painted[10:30, 20:50] = 3
    painted[15:20, 30:40] = 0
    return painted


@pytest.fixture
def segmentation(tmp_path, classes) -> Path:
    """Segmentations of three georeferenced images and one that is not."""
    folder, rows = tmp_path / "out" / "segmentation", []
    for name, directory in (("utm.tif", UTM), ("sub/degrees.tif", DEGREES), ("none.tif", NAMELESS)):
        path = write_geotiff(tmp_path / "images" / name, directory)
        rows.append(Row(name, path, None, f"{name[:-4]}.png", *SHAPE))
    Image.new("RGB", SHAPE[::-1]).save(tmp_path / "images" / "plain.png")
    rows.append(Row("plain.png", tmp_path / "images" / "plain.png", None, "plain.png", *SHAPE))
    for row in rows:
        save_indexed(classes, folder / row.output)
    write_rows(tmp_path / "0000.csv", rows, Row)
    gather_csv([tmp_path / "0000.csv"], tmp_path / "out" / "manifest.csv")
    (folder / "classes.csv").write_text(
        "id,name,color\n0,background,#000000\n1,a,#800000\n2,b,#008000\n3,lake,#0000ff\n"
    )
    return folder


def test_geojson_is_in_longitude_and_latitude(segmentation, tmp_path, classes, caplog):
    with caplog.at_level(logging.WARNING):
        assert export(segmentation, tmp_path / "geo", "geojson", Options(tolerance=0)) == 4
    assert "none.tif: coordinates are in pixels" in caplog.text
    back = Transformer.from_crs(4326, 32633, always_xy=True)
    for name, spoken in (
        ("utm", "longitude and latitude"),
        ("sub/degrees", "longitude and latitude"),
        ("none", "pixels"),
        ("plain", "pixels"),
    ):
        content = json.loads((tmp_path / "geo" / f"{name}.geojson").read_text())
        assert content["coordinates"] == spoken
        (feature,) = content["features"]
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        if name == "utm":
            assert shape.exterior.is_ccw  # as RFC 7946 wants it
            assert 14.9 < shape.centroid.x < 15.1
            shape = shapely.transform(shape, lambda p: np.stack(back.transform(*p.T), axis=-1))
        if spoken != "pixels":
            corner = np.array([EAST, NORTH])
            shape = shapely.transform(shape, lambda p: (p - corner) / [SIDE, -SIDE])  # noqa: B023
        assert shape.area == pytest.approx(np.count_nonzero(classes), abs=0.01)
        assert shape.bounds == pytest.approx((20, 10, 50, 30), abs=0.001)


def test_geotiff_has_the_tags_and_the_classes(segmentation, tmp_path, classes, caplog):
    with caplog.at_level(logging.WARNING):
        assert export(segmentation, tmp_path / "rasters", "geotiff") == 4
    assert "not georeferenced: 1 of the images, such as 'plain.png'" in caplog.text
    for name in ("utm", "sub/degrees", "none", "plain"):
        path = tmp_path / "rasters" / f"{name}.tif"
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            np.testing.assert_array_equal(page.asarray(), classes)
            assert page.colormap[:, 3].tolist() == [0, 0, 65_535]
        if name == "plain":
            assert read_georeference(path) is None
            continue
        found = read_georeference(path)
        given = read_georeference(tmp_path / "images" / f"{name}.tif")
        assert (found.tags, found.epsg) == (given.tags, given.epsg)
    table = (tmp_path / "rasters" / "classes.csv").read_text()
    assert table.splitlines()[3] == "3,lake,#0000ff"


def test_more_classes_than_a_byte_holds(segmentation, tmp_path, classes):
    table = segmentation / "classes.csv"
    table.write_text(table.read_text() + "".join(f"{n},c{n},#010203\n" for n in range(4, 301)))
    for path in segmentation.rglob("*.png"):
        save_indexed(classes * 100, path)
    export(segmentation, tmp_path / "rasters", "geotiff")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "rasters" / "utm.tif"), classes * 100)


@pytest.mark.parametrize("target", ["geotiff", "geojson"])
def test_an_image_that_is_gone_is_named(segmentation, tmp_path, target):
    (tmp_path / "images" / "utm.tif").unlink()
    with pytest.raises(StoreError, match=r"utm\.tif: there is no such image"):
        export(segmentation, tmp_path / "geo", target)


def test_without_pyproj_it_is_said_what_to_install(segmentation, tmp_path, monkeypatch):
    places.to_longitude_latitude.cache_clear()
    monkeypatch.setitem(sys.modules, "pyproj", None)
    with pytest.raises(StoreError, match=r"pip install 'lightcluster\[geo\]'"):
        export(segmentation, tmp_path / "geo", "geojson")
