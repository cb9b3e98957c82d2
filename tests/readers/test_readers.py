"""Exports as the tools they are for read them: labelme, Label Studio, datumaro, FiftyOne, GDAL.

These tools are large, so they are an extra of their own: ``make test-readers``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lightcluster.datasets.manifest import Row, gather_csv, write_rows
from lightcluster.exports.protocol import Options
from lightcluster.exports.registry import export
from lightcluster.regions.painting import save_indexed

VALUES = {"background": 0, "cat": 1, "dog & co": 2}
CONFIDENCE = {"cat": 0.75, "dog & co": 0.5}


def scene(seed: int) -> NDArray[np.uint16]:
    """Two discs of different classes, one with a hole."""
    rows, columns = np.mgrid[:90, :120]
    rng = np.random.default_rng(seed)
    classes = np.zeros((90, 120), np.uint16)
    for number, column in ((1, 35), (2, 85)):
        distance = np.hypot(rows - rng.integers(35, 55), columns - column)
        classes[distance < 28] = number
        if number == 1:
            classes[distance < 12] = 0
    return classes


SCENES = {"one.png": scene(0), "sub folder/two.png": scene(1)}
tolerances = pytest.mark.parametrize("tolerance", [0.0, 1.0])


@pytest.fixture
def segmentation(tmp_path: Path) -> Path:
    """Segmentations of images that are there."""
    folder, rows = tmp_path / "out" / "segmentation", []
    for name, classes in SCENES.items():
        image = tmp_path / "images" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((classes * 90).astype(np.uint8)).convert("RGB").save(image)
        rows.append(Row(name, image, None, name, *classes.shape))
        save_indexed(classes, folder / name)
    write_rows(tmp_path / "0000.csv", rows, Row)
    gather_csv([tmp_path / "0000.csv"], tmp_path / "out" / "manifest.csv")
    (folder / "classes.csv").write_text(
        "id,name,color\n0,background,#000000\n1,cat,#800000\n2,dog & co,#008000\n"
    )
    regions = ["shard,image_id,region,cluster,confidence,area,top,left,bottom,right"]
    for name, classes in SCENES.items():
        for number in (1, 2):
            where = np.argwhere(classes == number)
            box = [*where.min(axis=0).tolist(), *(where.max(axis=0) + 1).tolist()]
            confidence = list(CONFIDENCE.values())[number - 1]
            fields = ("0000", name, number, number, confidence, len(where), *box)
            regions.append(",".join(map(str, fields)))
    (folder / "regions.csv").write_text("\n".join([*regions, ""]))
    return folder


def agreement(painted: NDArray[np.integer], name: str) -> float:
    return float((painted == SCENES[name]).mean())


@tolerances
def test_labelme(segmentation: Path, tmp_path: Path, tolerance: float):
    label_file = pytest.importorskip("labelme._label_file")
    shapes_to_label = pytest.importorskip("labelme.utils").shapes_to_label
    export(segmentation, tmp_path / "labelme", "labelme", Options(tolerance=tolerance))
    for name, classes in SCENES.items():
        file = label_file.LabelFile(str((tmp_path / "labelme" / name).with_suffix(".json")))
        assert file.imageData  # it found and read the image
        painted, _ = shapes_to_label(classes.shape, file.shapes, VALUES)
        assert agreement(painted, name) > (0.97 if tolerance else 0.9999)
        for shape in file.shapes:
            assert shape["other_data"] == {"score": CONFIDENCE[shape["label"]]}
            assert shape["description"] == f"confidence {CONFIDENCE[shape['label']]:.2f}"


@tolerances
def test_label_studio(segmentation: Path, tmp_path: Path, tolerance: float):
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    export(segmentation, tmp_path / "ls", "label-studio", Options(tolerance=tolerance))
    project = interface((tmp_path / "ls" / "config.xml").read_text())
    for task, name in zip(
        json.loads((tmp_path / "ls" / "tasks.json").read_text()), SCENES, strict=True
    ):
        (prediction,) = task.pop("predictions")  # which its `validate_task` forgets to hand over
        assert project.validate_task(task)
        assert project.validate_prediction(prediction, return_errors=True) == []
        assert prediction["score"] == min(CONFIDENCE.values())
        for result in prediction["result"]:
            assert result["score"] == CONFIDENCE[result["value"][result["type"]][0]]
        if tolerance:
            continue
        painted = np.zeros_like(SCENES[name])
        for result in prediction["result"]:
            rgba = brush.decode_rle(result["value"]["rle"]).reshape(*painted.shape, 4)
            (label,) = result["value"]["brushlabels"]
            painted[rgba[..., 3] > 0] = VALUES[label]
        assert agreement(painted, name) == 1


def test_cvat(segmentation: Path, tmp_path: Path):
    dataset_of = pytest.importorskip("datumaro").Dataset
    (tmp_path / "cvat").mkdir()
    (tmp_path / "cvat" / "images").symlink_to(tmp_path / "images")
    export(segmentation, tmp_path / "cvat" / "annotations.xml", "cvat")
    masks = pytest.importorskip("pycocotools.mask")
    dataset = dataset_of.import_from(str(tmp_path / "cvat"), "cvat")
    labels = [label.name for label in next(iter(dataset.categories().values()))]
    assert labels == ["cat", "dog & co"]
    found = {item.id: item for item in dataset}
    assert set(found) == {name.removesuffix(".png") for name in SCENES}
    for name, classes in SCENES.items():
        painted = np.zeros(classes.shape, int)
        for polygon in found[name.removesuffix(".png")].annotations:
            rle = masks.merge(masks.frPyObjects([list(polygon.points)], *classes.shape))
            painted[masks.decode(rle).astype(bool)] = VALUES[labels[polygon.label]]
            confidence = polygon.attributes["confidence"]
            assert float(confidence) == CONFIDENCE[labels[polygon.label]]
        assert agreement(painted, name) > 0.97


def test_fiftyone(segmentation: Path, tmp_path: Path):
    coco = pytest.importorskip("fiftyone.utils.coco")
    export(segmentation, tmp_path / "fo", "fiftyone")
    importer = coco.COCODetectionDatasetImporter(
        dataset_dir=str(tmp_path / "fo"), label_types=["segmentations"]
    )
    read = {}
    with importer:
        for path, _, labels in importer:
            name = str(Path(path).relative_to(tmp_path / "fo" / "data"))
            painted = np.zeros(SCENES[name].shape, int)
            segmented = labels["segmentations"] if isinstance(labels, dict) else labels
            for detection in segmented.detections:
                left, top, *_ = detection.bounding_box
                height, width = detection.mask.shape
                row, column = round(top * painted.shape[0]), round(left * painted.shape[1])
                window = painted[row : row + height, column : column + width]
                window[detection.mask.astype(bool)] = VALUES[detection.label]
                assert detection.confidence == CONFIDENCE[detection.label]
            read[name] = painted
    assert set(read) == set(SCENES)
    assert all(agreement(painted, name) > 0.999 for name, painted in read.items())


@pytest.fixture
def on_earth(segmentation: Path, tmp_path: Path) -> dict[str, Path]:
    """The images of the segmentation, georeferenced by GDAL itself."""
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.transform.from_origin(500_000, 5_400_000, 2, 2)
    manifest, places = tmp_path / "out" / "manifest.csv", {}
    text = manifest.read_text()
    for name, classes in SCENES.items():
        places[name] = (tmp_path / "images" / name).with_suffix(".tif")
        with rasterio.open(
            places[name], "w", driver="GTiff", height=classes.shape[0], width=classes.shape[1],
            count=3, dtype="uint8", crs="EPSG:32633", transform=transform,
        ) as file:  # fmt: skip
            file.write(np.repeat(classes[None].astype(np.uint8) * 90, 3, axis=0))
        text = text.replace(str(tmp_path / "images" / name), str(places[name]))
    manifest.write_text(text)
    return places


def test_geotiff_lies_where_its_image_lies(segmentation: Path, on_earth, tmp_path: Path):
    rasterio = pytest.importorskip("rasterio")
    assert export(segmentation, tmp_path / "geo", "geotiff") == 4
    for name, image in on_earth.items():
        raster = (tmp_path / "geo" / name).with_suffix(".tif")
        with rasterio.open(image) as given, rasterio.open(raster) as made:
            assert made.crs == given.crs
            assert made.crs.to_epsg() == 32633
            assert made.transform == given.transform
            assert made.bounds == given.bounds
            assert made.nodata == 0
            assert made.colormap(1)[1][:3] == (0x80, 0, 0)
            np.testing.assert_array_equal(made.read(1), SCENES[name])


def test_geojson_covers_the_pixels_of_the_image(segmentation: Path, on_earth, tmp_path: Path):
    rasterio = pytest.importorskip("rasterio")
    warp = pytest.importorskip("rasterio.warp")
    features = pytest.importorskip("rasterio.features")
    assert export(segmentation, tmp_path / "geo", "geojson", Options(tolerance=0)) == 4
    for name, image in on_earth.items():
        content = json.loads((tmp_path / "geo" / name).with_suffix(".geojson").read_text())
        with rasterio.open(image) as given:
            shapes = [
                (
                    warp.transform_geom("EPSG:4326", given.crs, feature["geometry"]),
                    VALUES[feature["properties"]["class"]],
                )
                for feature in content["features"]
            ]
            painted = features.rasterize(shapes, given.shape, transform=given.transform)
        np.testing.assert_array_equal(painted, SCENES[name])
