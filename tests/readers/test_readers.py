"""Exports as the tools they are for read them: labelme, Label Studio, datumaro, FiftyOne, GDAL.

These tools are large, so they are an extra of their own: ``make test-readers``. It also installs
Label Studio itself, in an environment of its own, and names its program in ``LABEL_STUDIO``.
"""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

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


class LabelStudio:
    """A client of a Label Studio that runs, as the pages of its own that are open in a browser."""

    def __init__(self, address: str, email: str, password: str) -> None:
        requests = pytest.importorskip("requests")
        self.address, self.session = address, requests.Session()
        login = f"{address}/user/login/"
        self.session.get(login).raise_for_status()
        token = self.session.cookies["csrftoken"]
        form = {"email": email, "password": password, "csrfmiddlewaretoken": token}
        self.session.post(login, data=form, headers={"Referer": login}).raise_for_status()

    def call(self, method: str, path: str, **given: Any) -> Any:
        headers = {"X-CSRFToken": self.session.cookies["csrftoken"], "Referer": self.address}
        answer = self.session.request(method, self.address + path, headers=headers, **given)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer


@pytest.fixture(scope="module")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A Label Studio that serves the files of all tests, started as the how-to says."""
    if "LABEL_STUDIO" not in os.environ:
        pytest.skip(
            "LABEL_STUDIO does not name the program of Label Studio; see `make test-readers`"
        )
    data, root = tmp_path_factory.mktemp("label-studio"), tmp_path_factory.getbasetemp()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    email, password = "me@example.com", "a long password"
    command = [
        os.environ["LABEL_STUDIO"], "start", "--no-browser", "--internal-host", "127.0.0.1",
        "--port", port, "--username", email, "--password", password,
    ]  # fmt: skip
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(root),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    log = data / "log.txt"
    with log.open("w") as file:
        server = subprocess.Popen(
            command, env=os.environ | settings, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        # Creating its database takes a minute or more.
        deadline = time.monotonic() + 600
        while server.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            time.sleep(1)
        else:
            pytest.fail(f"Label Studio did not start:\n{log.read_text()[-2000:]}")
        yield LabelStudio(f"http://127.0.0.1:{port}", email, password)
    finally:
        server.terminate()
        server.wait(60)


@tolerances
def test_label_studio_itself(
    label_studio: LabelStudio, segmentation: Path, tmp_path: Path, tolerance: float,
    tmp_path_factory: pytest.TempPathFactory,
):  # fmt: skip
    """The steps of docs/howto/export.md; predictions accepted there come back as they were."""
    images, call = tmp_path / "images", label_studio.call
    below = quote(str(images.relative_to(tmp_path_factory.getbasetemp())))
    export(
        segmentation, tmp_path / "tasks", "label-studio",
        Options(tolerance=tolerance, images=f"/data/local-files/?d={below}"),
    )  # fmt: skip
    configuration = (tmp_path / "tasks" / "config.xml").read_text()
    given = {"title": "scenes", "label_config": configuration}
    project = call("POST", "/api/projects/", json=given).json()["id"]
    call("POST", "/api/storages/localfiles", json={
        "project": project, "path": str(images), "use_blob_urls": True
    })  # fmt: skip
    with (tmp_path / "tasks" / "tasks.json").open("rb") as file:
        read = call("POST", f"/api/projects/{project}/import", files={"file": file}).json()
    assert (read["task_count"], read["prediction_count"]) == (len(SCENES), len(SCENES))

    everything = {"selectedItems": {"all": True, "excluded": []}}
    accept = f"/api/dm/actions?id=predictions_to_annotations&project={project}"
    call("POST", accept, json=everything)
    exported = f"/api/projects/{project}/export?exportType="
    tasks = {task["id"]: task for task in call("GET", f"{exported}JSON").json()}
    named = {}
    for number, task in tasks.items():
        place = task["data"]["image"]
        named[number] = unquote(place).split(f"{unquote(below)}/")[1]
        served = call("GET", place).content
        assert served == (images / named[number]).read_bytes()
        (annotation,) = task["annotations"]
        scores = {tuple(r["value"][r["type"]]): r["score"] for r in annotation["result"]}
        assert scores == {(name,): score for name, score in CONFIDENCE.items()}
    assert sorted(named.values()) == sorted(SCENES)

    kind = "COCO" if tolerance else "BRUSH_TO_PNG"
    archive = zipfile.ZipFile(io.BytesIO(call("GET", exported + kind).content))
    painted = {name: np.zeros(classes.shape, int) for name, classes in SCENES.items()}
    if tolerance:
        masks = pytest.importorskip("pycocotools.mask")
        found = json.loads(archive.read("result.json"))
        names = {category["id"]: category["name"] for category in found["categories"]}
        files = {image["id"]: Path(image["file_name"]).name for image in found["images"]}
        by_file = {Path(name).name: classes for name, classes in painted.items()}
        for one in found["annotations"]:
            classes = by_file[files[one["image_id"]]]
            rle = masks.merge(masks.frPyObjects(one["segmentation"], *classes.shape))
            classes[masks.decode(rle).astype(bool)] = VALUES[names[one["category_id"]]]
    else:
        for file_name in archive.namelist():
            number, label = re.match(
                r"task-(\d+)-annotation-\d+-by-\d+-label-(.*)-\d+\.png$", file_name
            ).groups()
            mask = np.asarray(Image.open(io.BytesIO(archive.read(file_name)))) > 0
            painted[named[int(number)]][mask] = VALUES[label]
    for name, classes in painted.items():
        assert agreement(classes, name) > (0.97 if tolerance else 0.9999)
        assert set(np.unique(classes)) == set(VALUES.values())


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
