"""Exports: what another tool reads is what was segmented."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage.draw import polygon2mask

from lightcluster.datasets.manifest import Row, gather_csv, write_rows
from lightcluster.errors import StoreError
from lightcluster.exports.label_studio import brush_rle
from lightcluster.exports.panoptic import panoptic_colors
from lightcluster.exports.protocol import Options
from lightcluster.exports.registry import export
from lightcluster.exports.segmentation import find_objects, open_segmentation
from lightcluster.regions.painting import save_indexed

CLASSES = {
    "a b.jpg": np.array([[0, 1, 1, 0], [0, 1, 0, 2], [2, 0, 0, 2]]),
    "sub/é.png": np.zeros((2, 3), int),
    "c.jpg": np.array([[3, 3], [0, 3]]),
}


def slow_objects(classes: NDArray[np.integer]) -> set[tuple[int, frozenset[tuple[int, int]]]]:
    """Flood fill: the class and the pixels of each object."""
    left = {tuple(place) for place in np.argwhere(classes)}
    found = set()
    while left:
        start = left.pop()
        members, edge = {start}, [start]
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            same = {place for place in near if classes[place] == classes[start]}
            left -= same
            members |= same
            edge += same
        found.add((int(classes[start]), frozenset(members)))
    return found


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3))
)
def test_objects_are_connected_pixels_of_one_class(classes):
    found = find_objects(classes)
    listed = set()
    for index in range(len(found.area)):
        places = np.argwhere(found.label == index + 1)
        listed.add((int(found.category[index]), frozenset(map(tuple, places.tolist()))))
        (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0)
        assert found.box[index].tolist() == [left, top, right - left + 1, bottom - top + 1]
        assert found.area[index] == len(places)
    assert listed == slow_objects(classes)
    assert len(listed) == len(found.area)


@pytest.fixture(params=["flat", "by shard"])
def segmentation(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The segmentations of `CLASSES`, as `segment` and as a run of the workflow leave them."""
    folder = tmp_path / "out" / "segmentation"
    rows = [
        Row(name, Path(name), None, f"{name[:-4]}.png", *classes.shape)
        for name, classes in CLASSES.items()
    ]
    write_rows(tmp_path / "0001.csv", rows, Row)
    gather_csv([tmp_path / "0001.csv"], tmp_path / "out" / "manifest.csv")
    within = folder if request.param == "flat" else folder / "0001"
    for row in rows:
        save_indexed(CLASSES[row.image_id].astype(np.uint16), within / row.output)
    (folder / "classes.csv").write_text(
        "id,name,color,regions\n0,background,#000000,\n1,cluster 1,#800000,3\n"
        "2,cluster 2,#008000,1\n3,cluster 3,#808000,0\n"
    )
    return folder


def test_pycocotools_reads_the_masks_back(segmentation: Path, tmp_path: Path):
    assert export(segmentation, tmp_path / "coco.json", "coco") == 4
    coco = COCO(str(tmp_path / "coco.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == [
        "cluster 1", "cluster 2", "cluster 3"
    ]  # fmt: skip
    assert coco.cats[2]["color"] == [0, 128, 0]
    for image in coco.loadImgs(coco.getImgIds()):
        painted = np.zeros((image["height"], image["width"]), int)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum()
            left, top, width, height = annotation["bbox"]
            assert mask[top : top + height, left : left + width].sum() == mask.sum()
            assert not painted[mask].any()
            painted[mask] = annotation["category_id"]
        np.testing.assert_array_equal(painted, CLASSES[image["file_name"]])


def test_panoptic_segments_are_painted_by_their_ids(segmentation: Path, tmp_path: Path):
    assert export(segmentation, tmp_path / "panoptic", "panoptic") == 4
    content = json.loads((tmp_path / "panoptic" / "panoptic.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    assert all(category["isthing"] == 1 for category in content["categories"])
    for annotation in content["annotations"]:
        with Image.open(tmp_path / "panoptic" / "panoptic" / annotation["file_name"]) as image:
            colors = np.asarray(image).astype(int)
        segment = colors @ [1, 256, 65_536]
        painted = np.zeros(segment.shape, int)
        for info in annotation["segments_info"]:
            painted[segment == info["id"]] = info["category_id"]
            assert info["area"] == (segment == info["id"]).sum()
        assert set(np.unique(segment)) - {0} == {s["id"] for s in annotation["segments_info"]}
        np.testing.assert_array_equal(painted, CLASSES[names[annotation["image_id"]]])


def test_the_folder_of_a_run_stands_for_its_segmentations(segmentation: Path, tmp_path: Path):
    first, second = (segmentation.parent / f"of-run/segmentation/seed-{seed}" for seed in (2, 3))
    for folder in (first, second):
        shutil.copytree(segmentation, folder)
    table = second / "classes.csv"
    table.write_text(table.read_text().replace("cluster", "other"))
    run = segmentation.parent / "of-run"
    exports = {}
    for name, place, seed in (
        ("first", run, None), ("second", run, 3), ("out", segmentation.parent, None)
    ):  # fmt: skip
        assert export(place, tmp_path / f"{name}.json", "coco", seed=seed) == 4
        categories = COCO(str(tmp_path / f"{name}.json")).cats.values()
        exports[name] = [category["name"] for category in categories]
    clusters = ["cluster 1", "cluster 2", "cluster 3"]
    assert exports == {
        "first": clusters,
        "second": ["other 1", "other 2", "other 3"],
        "out": clusters,
    }
    with pytest.raises(StoreError, match="has no segmentations of seed 4"):
        export(run, tmp_path / "coco.json", "coco", seed=4)


def test_more_segments_than_a_byte_holds():
    label = np.array([[255, 256, 65_535, 65_536, 16_777_215]])
    np.testing.assert_array_equal(panoptic_colors(label).astype(int) @ [1, 256, 65_536], label)


def test_what_is_missing_is_named(segmentation: Path, tmp_path: Path):
    (segmentation / "classes.csv").rename(tmp_path / "kept.csv")
    with pytest.raises(StoreError, match="has no segmentations; name a finished run, or"):
        export(segmentation, tmp_path / "coco.json", "coco")
    (segmentation / "classes.csv").write_text("id,name\n0,background\n")
    with pytest.raises(StoreError, match=r"classes\.csv: cannot be read"):
        export(segmentation, tmp_path / "coco.json", "coco")
    (tmp_path / "kept.csv").rename(segmentation / "classes.csv")
    empty = tmp_path / "seed-1"
    empty.mkdir()
    shutil.copy(segmentation / "classes.csv", empty)
    with pytest.raises(StoreError, match=r"seed-1: no segmentation .* `report.segmentations: all`"):
        export(empty, tmp_path / "coco.json", "coco")
    png = next(segmentation.rglob("c.png"))
    png.write_bytes(png.read_bytes()[:40])
    with pytest.raises(StoreError, match=r"c\.png: cannot be read"):
        export(segmentation, tmp_path / "panoptic", "panoptic")
    assert not (tmp_path / "panoptic").exists()
    (tmp_path / "out" / "manifest.csv").unlink()
    with pytest.raises(StoreError, match=r"no manifest\.csv in the folders above"):
        export(segmentation, tmp_path / "coco.json", "coco")


def test_a_class_that_the_table_lacks_is_named(segmentation: Path, tmp_path: Path):
    table = segmentation / "classes.csv"
    table.write_text(table.read_text().replace("3,cluster 3,#808000,0\n", ""))
    with pytest.raises(StoreError, match=r"c\.png: holds the class 3, which .*classes\.csv lacks"):
        export(segmentation, tmp_path / "coco.json", "coco")


def test_the_regions_of_an_image_are_its_objects(segmentation: Path):
    for picture in open_segmentation(segmentation).pictures():
        painted = np.zeros((picture.row.height, picture.row.width), int)
        for region in picture.regions:
            left, top, width, height = region.box
            assert region.area == region.mask.sum()
            assert region.category.name == f"cluster {region.category.id}"
            painted[top : top + height, left : left + width][region.mask] = region.category.id
        np.testing.assert_array_equal(painted, CLASSES[picture.row.image_id])


def test_without_background_each_class_is_one_object(segmentation: Path, tmp_path: Path):
    table = segmentation / "classes.csv"
    table.write_text(table.read_text().replace("0,background", "0,cluster 0"))
    assert export(segmentation, tmp_path / "coco.json", "coco") == sum(
        len(np.unique(classes)) for classes in CLASSES.values()
    )
    coco = COCO(str(tmp_path / "coco.json"))
    assert sorted(coco.cats) == [1, 2, 3, 4]
    assert [coco.cats[number]["name"] for number in (1, 2)] == ["cluster 0", "cluster 1"]
    assert not any(category["isthing"] for category in coco.cats.values())
    for image in coco.imgs.values():
        painted = np.zeros((image["height"], image["width"]), int)
        for annotation in coco.imgToAnns[image["id"]]:
            painted += annotation["category_id"] * coco.annToMask(annotation).astype(int)
        np.testing.assert_array_equal(painted - 1, CLASSES[image["file_name"]])


def test_clusters_of_one_name_are_one_class_and_background_is_none(
    segmentation: Path, tmp_path: Path
):
    (segmentation / "classes.csv").write_text(
        "id,name,color\n0,background,#000000\n1,dog,#800000\n2,background,#008000\n3,dog,#808000\n"
    )
    export(segmentation, tmp_path / "coco.json", "coco")
    coco = COCO(str(tmp_path / "coco.json"))
    assert {number: category["name"] for number, category in coco.cats.items()} == {1: "dog"}
    assert sum(annotation["area"] for annotation in coco.anns.values()) == sum(
        np.isin(classes, (1, 3)).sum() for classes in CLASSES.values()
    )


@pytest.mark.parametrize(
    ("given", "place"),
    [(None, "sub/é.png"), ("s3://bucket", "s3://bucket/sub/é.png"), ("/a/", "/a/sub/é.png"),
     ("/data/local-files/?d=", "/data/local-files/?d=sub/é.png")],
)  # fmt: skip
def test_where_images_are_for_the_reader(segmentation, tmp_path, given, place):
    export(segmentation, tmp_path / "coco.json", "coco", Options(images=given))
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert place in {image["file_name"] for image in images}


BIG = {name: classes.repeat(20, 0).repeat(20, 1) for name, classes in CLASSES.items()}
"""Large enough for the rounding of polygons not to matter, and with a hole."""
BIG["c.jpg"][5:15, 25:35] = 0


@pytest.fixture
def big(segmentation: Path, tmp_path: Path) -> Path:
    """The segmentations of `BIG`."""
    for name, classes in BIG.items():
        (path,) = segmentation.rglob(Path(name[:-4]).name + ".png")
        save_indexed(classes.astype(np.uint16), path)
    manifest = tmp_path / "out" / "manifest.csv"
    text = manifest.read_text()
    for height, width in ((3, 4), (2, 3), (2, 2)):
        text = text.replace(f",255,1,{height},{width},", f",255,1,{20 * height},{20 * width},")
    manifest.write_text(text)
    return segmentation


def paint(shape: tuple[int, int], corners: np.ndarray) -> NDArray[np.bool_]:
    """Fill a polygon of x and y where the first pixel spans 0 to 1."""
    return np.asarray(polygon2mask(shape, corners[:, ::-1] - 0.5))


def value(name: str) -> int:
    return int(name.removeprefix("cluster "))


@pytest.mark.parametrize("tolerance", [0, 1])
def test_labelme(big: Path, tmp_path: Path, tolerance: float):
    assert export(big, tmp_path / "out2", "labelme", Options(tolerance=tolerance)) == 4
    for name, classes in BIG.items():
        file = tmp_path / "out2" / f"{name[:-4]}.json"
        content = json.loads(file.read_text())
        assert (content["imageHeight"], content["imageWidth"]) == classes.shape
        assert (file.parent / content["imagePath"]).resolve() == Path(name).resolve()
        painted = np.zeros(classes.shape, int)
        for shape in content["shapes"]:
            points = np.asarray(shape["points"])
            if tolerance:
                painted[paint(classes.shape, points)] = value(shape["label"])
                continue
            (left, top), (right, bottom) = points
            mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
            painted[top : bottom + 1, left : right + 1][mask] = value(shape["label"])
        assert (painted == classes).mean() > (0.97 if tolerance else 0.9999)


@pytest.mark.parametrize("tolerance", [0, 1])
def test_label_studio(big: Path, tmp_path: Path, tolerance: float):
    assert export(big, tmp_path / "ls", "label-studio", Options(tolerance=tolerance)) == 4
    view = ElementTree.parse(tmp_path / "ls" / "config.xml").getroot()
    kind = "Polygon" if tolerance else "Brush"
    assert [label.get("value") for label in view.iter("Label")] == [
        "cluster 1", "cluster 2", "cluster 3"
    ]  # fmt: skip
    (control,) = view.iter(f"{kind}Labels")
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    assert len(tasks) == len(BIG)
    for task in tasks:
        assert task["data"]["image"].startswith("/data/local-files/?d=")
        classes = BIG[unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))]
        painted = np.zeros_like(classes)
        (prediction,) = task["predictions"]
        for result in prediction["result"]:
            assert (result["from_name"], result["to_name"]) == (
                control.get("name"), control.get("toName")
            )  # fmt: skip
            assert (result["original_height"], result["original_width"]) == classes.shape
            (name,) = result["value"][result["type"]]
            if tolerance:
                share = np.asarray(result["value"]["points"]) / 100
                inside = paint(classes.shape, share * classes.shape[::-1])
            else:
                inside = decode_brush(result["value"]["rle"], classes.shape)
            painted[inside] = value(name)
        assert (painted == classes).mean() > (0.97 if tolerance else 0.9999)


def decode_brush(code: list[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read the run-length code of Label Studio's brush bit by bit, as its program does."""
    bits = "".join(f"{byte:08b}" for byte in code)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        is_run, length = take(1), take(lengths[take(2)]) + 1
        values += [take(word)] * length if is_run else [take(word) for _ in range(length)]
    rgba = np.array(values).reshape(*shape, 4)
    assert set(np.unique(rgba)) <= {0, 255}
    return rgba[..., 3] == 255


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_brush_runs_are_the_mask(mask):
    np.testing.assert_array_equal(decode_brush(brush_rle(mask), mask.shape), mask)


def test_brush_runs_longer_than_a_run_can_be():
    mask = np.zeros((150, 150), bool)
    mask[120:, :7] = True
    np.testing.assert_array_equal(decode_brush(brush_rle(mask), mask.shape), mask)


@pytest.mark.parametrize("tolerance", [0, 1])
def test_cvat(big: Path, tmp_path: Path, tolerance: float):
    assert export(big, tmp_path / "cvat.xml", "cvat", Options(tolerance=tolerance)) == 4
    root = ElementTree.parse(tmp_path / "cvat.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert [name.text for name in root.iterfind("meta/task/labels/label/name")] == [
        "cluster 1", "cluster 2", "cluster 3"
    ]  # fmt: skip
    images = list(root.iter("image"))
    assert [image.get("id") for image in images] == ["0", "1", "2"]
    for image in images:
        classes = BIG[image.attrib["name"]]
        assert (int(image.attrib["height"]), int(image.attrib["width"])) == classes.shape
        painted = np.zeros(classes.shape, int)
        for shape in image:
            if tolerance:
                pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
                inside = paint(classes.shape, np.array(pairs, float))
            else:
                left, top, width, height = (
                    int(shape.attrib[side]) for side in ("left", "top", "width", "height")
                )
                runs = [int(run) for run in shape.attrib["rle"].split(",")]
                flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
                inside = np.zeros(classes.shape, bool)
                inside[top : top + height, left : left + width] = flat.reshape(height, width)
            painted[inside] = value(shape.attrib["label"])
        assert (painted == classes).mean() > (0.97 if tolerance else 0.9999)


REGIONS = {
    # Two regions of one class touch in `a b.jpg`, and one of class 2 is in two pieces.
    "a b.jpg": [
        (1, 0.9, 800, 0, 20, 40, 40),
        (1, 0.3, 400, 0, 40, 20, 60),
        (2, 0.5, 1200, 20, 0, 60, 80),
    ],
    "c.jpg": [(3, 0.25, 1100, 0, 0, 40, 40)],
}
CONFIDENCE = {("a b.jpg", 1): 0.7, ("a b.jpg", 2): 0.5, ("c.jpg", 3): 0.25}
"""By image and class: the mean of 0.9 and 0.3, the first of twice the area, is 0.7."""


@pytest.fixture
def rated(big: Path) -> Path:
    """The segmentations of `BIG`, with the table of their regions."""
    header = "image_id,region,cluster,confidence,area,top,left,bottom,right"
    lines = [
        f"{name},{number},{','.join(map(str, region))}"
        for name, regions in REGIONS.items()
        for number, region in enumerate(regions, start=1)
    ]
    if (big / "0001").is_dir():
        (big / "0001.csv").write_text("\n".join([header, *lines, ""]))
    else:
        lines = [f"0001,{line}" for line in lines]
        (big / "regions.csv").write_text("\n".join([f"shard,{header}", *lines, ""]))
    return big


def by_class(found: list[tuple[str, str, float]]) -> dict[tuple[str, int], float]:
    """By image and class, of objects of an image, a class and a confidence."""
    return {(name, value(category)): score for name, category, score in found}


def test_objects_have_the_confidence_of_their_regions(rated: Path):
    found = [
        (picture.row.image_id, region.category.name, region.confidence)
        for picture in open_segmentation(rated).pictures()
        for region in picture.regions
    ]
    assert len(found) == 4  # the piece that is apart has the confidence of its region
    assert by_class(found) == pytest.approx(CONFIDENCE)
    assert all(confidence is not None for _, _, confidence in found)


@pytest.mark.parametrize("target", ["coco", "coco-polygons", "panoptic", "fiftyone"])
def test_coco_has_it_as_score(rated: Path, tmp_path: Path, monkeypatch, target: str):
    monkeypatch.chdir(tmp_path)
    for name, classes in BIG.items():
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(classes.astype(np.uint8)).save(name)
    export(rated, tmp_path / "out3", target)
    file = {"panoptic": "out3/panoptic.json", "fiftyone": "out3/labels.json"}.get(target, "out3")
    content = json.loads((tmp_path / file).read_text())
    images = {image["id"]: image["file_name"] for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = [
        (images[one["image_id"]], names[part["category_id"]], part["score"])
        for one in content["annotations"]
        for part in one.get("segments_info", [one])
    ]
    assert by_class(found) == pytest.approx(CONFIDENCE)


def test_detections_with_scores_are_results_of_coco(rated: Path, tmp_path: Path):
    """What evaluates detections reads the same objects as its results."""
    export(rated, tmp_path / "coco.json", "coco")
    truth = COCO(str(tmp_path / "coco.json"))
    results = truth.loadRes(list(truth.anns.values()))
    evaluation = COCOeval(truth, results, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


@pytest.mark.parametrize("tolerance", [0, 1])
def test_annotation_tools_have_it(rated: Path, tmp_path: Path, tolerance: float):
    options = Options(tolerance=tolerance)
    for target in ("labelme", "label-studio", "cvat", "geojson"):
        export(rated, tmp_path / target, target, options)
    found = []
    for name in CLASSES:
        content = json.loads((tmp_path / "labelme" / f"{name[:-4]}.json").read_text())
        for shape in content["shapes"]:
            found.append((name, shape["label"], shape["score"]))
            assert shape["description"] == f"confidence {shape['score']:.2f}"
    assert by_class(found) == pytest.approx(CONFIDENCE)

    found = []
    for task in json.loads((tmp_path / "label-studio" / "tasks.json").read_text()):
        name = unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
        (prediction,) = task["predictions"]
        scores = [result["score"] for result in prediction["result"]]
        assert prediction.get("score") == min(scores, default=None)
        for result in prediction["result"]:
            found.append((name, result["value"][result["type"]][0], result["score"]))
    assert by_class(found) == pytest.approx(CONFIDENCE)

    root = ElementTree.parse(tmp_path / "cvat").getroot()
    declared = {node.text for node in root.iterfind("meta/task/labels/label/attributes//name")}
    assert declared == {"confidence"}
    found = [
        (image.attrib["name"], shape.attrib["label"], float(shape.findtext("attribute")))
        for image in root.iter("image")
        for shape in image
    ]
    assert by_class(found) == pytest.approx(CONFIDENCE)

    found = []
    for name in CLASSES:
        content = json.loads((tmp_path / "geojson" / f"{name[:-4]}.geojson").read_text())
        for properties in (feature["properties"] for feature in content["features"]):
            found.append((name, properties["class"], properties["confidence"]))
            assert properties["measurements"]["confidence"] == properties["confidence"]
    assert by_class(found) == pytest.approx(CONFIDENCE)


def test_a_damaged_table_of_regions_is_named(rated: Path, tmp_path: Path):
    (table,) = [path for path in rated.glob("*.csv") if path.name != "classes.csv"]
    table.write_text(table.read_text().replace("0.25", "much"))
    with pytest.raises(StoreError, match=rf"{table.name}: cannot be read"):
        export(rated, tmp_path / "coco.json", "coco")


def test_fiftyone_has_the_images_beside_the_objects(segmentation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="there is no such image"):
        export(segmentation, tmp_path / "fo", "fiftyone")
    for name, classes in CLASSES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(classes.astype(np.uint8)).save(name)
    assert export(segmentation, tmp_path / "fo", "fiftyone") == 4
    coco = COCO(str(tmp_path / "fo" / "labels.json"))
    for image in coco.imgs.values():
        with Image.open(tmp_path / "fo" / "data" / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"])
