"""Exports: what another tool reads is what was segmented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from skimage.draw import polygon2mask

from lightcluster.datasets.manifest import Row, write_rows
from lightcluster.errors import StoreError
from lightcluster.exports.panoptic import panoptic_colors
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
    write_rows(tmp_path / "rows.csv", rows, Row)
    header, *lines = (tmp_path / "rows.csv").read_text().splitlines()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.csv").write_text(
        "\n".join([f"shard,{header}", *(f"0001,{line}" for line in lines), ""])
    )
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


def test_more_segments_than_a_byte_holds():
    label = np.array([[255, 256, 65_535, 65_536, 16_777_215]])
    np.testing.assert_array_equal(panoptic_colors(label).astype(int) @ [1, 256, 65_536], label)


def test_what_is_missing_is_named(segmentation: Path, tmp_path: Path):
    (segmentation / "classes.csv").rename(tmp_path / "kept.csv")
    with pytest.raises(StoreError, match=r"no folder of segmentations .* name `segmentation/seed"):
        export(segmentation, tmp_path / "coco.json", "coco")
    (segmentation / "classes.csv").write_text("id,name\n0,background\n")
    with pytest.raises(StoreError, match=r"classes\.csv: cannot be read"):
        export(segmentation, tmp_path / "coco.json", "coco")
    with pytest.raises(StoreError, match=rf"did you mean {re.escape(str(segmentation))}\?"):
        export(segmentation.parent, tmp_path / "coco.json", "coco")
    (tmp_path / "kept.csv").rename(segmentation / "classes.csv")
    png = next(segmentation.rglob("c.png"))
    png.write_bytes(png.read_bytes()[:40])
    with pytest.raises(StoreError, match=r"c\.png: cannot be read"):
        export(segmentation, tmp_path / "panoptic", "panoptic")
    assert not (tmp_path / "panoptic").exists()
    (tmp_path / "out" / "manifest.csv").unlink()
    with pytest.raises(StoreError, match=r"no manifest\.csv in the folders above"):
        export(segmentation, tmp_path / "coco.json", "coco")


def test_the_snippet_for_label_studio_draws_the_objects(
    segmentation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = Path(__file__).parents[2] / "docs" / "howto" / "export.md"
    (snippet,) = re.findall(
        r"```python\n(import json\n.*?)```", page.read_text(encoding="utf-8"), flags=re.S
    )
    big = {name: classes.repeat(20, axis=0).repeat(20, axis=1) for name, classes in CLASSES.items()}
    for name, classes in big.items():
        (path,) = segmentation.rglob(Path(name[:-4]).name + ".png")
        save_indexed(classes.astype(np.uint16), path)
    manifest = tmp_path / "out" / "manifest.csv"
    text = manifest.read_text()
    for height, width in ((3, 4), (2, 3), (2, 2)):
        text = text.replace(f",255,1,{height},{width},", f",255,1,{20 * height},{20 * width},")
    manifest.write_text(text)
    export(segmentation, tmp_path / "objects.json", "coco")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, page.name, "exec"), {})
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert len(tasks) == len(CLASSES)
    for task in tasks:
        classes = big[task["data"]["image"].removeprefix("/data/local-files/?d=")]
        painted = np.zeros_like(classes)
        for result in task["predictions"][0]["result"]:
            assert (result["original_height"], result["original_width"]) == classes.shape
            points = np.asarray(result["value"]["points"]) / 100 * classes.shape[::-1]
            (name,) = result["value"]["polygonlabels"]
            inside = polygon2mask(classes.shape, points[:, ::-1] - 0.5)
            painted[inside] = int(name.removeprefix("cluster "))
        assert (painted == classes).mean() > 0.97


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


def test_a_segmentation_without_background_has_no_objects(segmentation: Path, tmp_path: Path):
    table = segmentation / "classes.csv"
    table.write_text(table.read_text().replace("0,background", "0,cluster 0"))
    with pytest.raises(StoreError, match="without background has no objects"):
        export(segmentation, tmp_path / "coco.json", "coco")
