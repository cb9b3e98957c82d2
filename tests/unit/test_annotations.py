"""COCO's instance annotations: what is right is painted, what is not is named and never painted."""

from __future__ import annotations

import copy
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import quick
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as rasteriser

from layouts import COCO_IDS, STYLE, annotation, rectangle, run_lengths, write_instances
from lightcluster.config import parse_config
from lightcluster.datasets import annotations as read
from lightcluster.datasets.annotations import decode_runs, mask_of
from lightcluster.datasets.instances import Instances
from lightcluster.datasets.labels import built_in_classes, read_label, write_classes
from lightcluster.datasets.manifest import index_dataset, read_manifest
from lightcluster.datasets.painting import paint_labels
from lightcluster.errors import DatasetError, ImageError
from lightcluster.preview import check_all

SIZE = (STYLE.height, STYLE.width)
PIXELS = STYLE.height * STYLE.width
SQUARE = rectangle(10, 20, 40, 50)

# ---- masks ---------------------------------------------------------------------------------------


@quick
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)), st.booleans())
def test_runs_are_painted_as_they_were_taken(mask, compressed):
    runs = run_lengths(mask)
    if compressed:
        packed = rasteriser.encode(np.asfortranarray(mask, np.uint8))
        runs = {"size": list(mask.shape), "counts": packed["counts"].decode()}
        assert decode_runs(runs["counts"]) == run_lengths(mask)["counts"]
    assert mask_of(runs, mask.shape).tolist() == mask.tolist()


def is_inside(x: float, y: float, corners: np.ndarray) -> bool:
    """Tell by a ray to the right whether a point is in a polygon."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            crossings += 1
    return crossings % 2 == 1


def is_near(x: float, y: float, corners: np.ndarray) -> bool:
    """Tell whether a point is within a pixel of an outline."""
    start, along = corners, np.roll(corners, -1, axis=0) - corners
    length = np.maximum((along**2).sum(axis=1), 1e-9)
    place = np.clip((([x, y] - start) * along).sum(axis=1) / length, 0, 1)
    nearest = start + place[:, None] * along
    return bool((np.hypot(*(nearest - [x, y]).T) < 1.1).any())


@quick
@given(st.lists(hnp.arrays(np.int64, (4, 2), elements=st.integers(-9, 29)), min_size=1, max_size=3))
def test_polygons_cover_what_is_inside_them(polygons):
    """As in a slow statement of it; on outlines pycocotools has rules of its own."""
    mask = mask_of([corners.ravel().tolist() for corners in polygons], (18, 20))
    for row, column in np.ndindex(18, 20):
        point = (column + 0.5, row + 0.5)
        if not any(is_near(*point, corners) for corners in polygons):
            assert mask[row, column] == any(is_inside(*point, corners) for corners in polygons)


def test_many_polygons_are_joined_soon(monkeypatch):
    """Their union is that of pycocotools; none is joined to all of those before it."""
    corners = np.random.default_rng(0).uniform(0, 36, (5000, 1, 2))
    polygons = np.add(corners, [[0, 0], [3, 1], [2, 4]]).reshape(5000, 6).tolist()
    expected = rasteriser.decode(rasteriser.merge(rasteriser.frPyObjects(polygons[:99], 40, 40)))
    assert mask_of(polygons[:99], (40, 40)).tolist() == expected.astype(bool).tolist()
    merge, joined = rasteriser.merge, []
    monkeypatch.setattr(rasteriser, "merge", lambda some: joined.append(len(some)) or merge(some))
    assert mask_of(polygons, (40, 40)).mean() > 0.9
    assert max(joined) <= 16
    assert sum(joined) < 1.1 * 5000


def test_polygons_are_those_of_pycocotools():
    polygons = [[3.2, 4.9, 15.5, 2.25, 12, 17.75, 3, 9.1], [0, 0, 5, 0, 5, 5]]
    expected = rasteriser.decode(rasteriser.frPyObjects(polygons, 18, 20)).any(axis=2)
    assert mask_of(polygons, (18, 20)).tolist() == expected.tolist()


ENDLESS: list[Any] = []
for _ in range(200):
    ENDLESS = [ENDLESS]

DAMAGED: dict[str, tuple[Any, str]] = {
    "nothing": (None, "has null instead of a segmentation"),
    "text": ("10 20 40 50", "instead of a segmentation"),
    "a number": (7, "has 7 instead of a segmentation"),
    "empty": ([], "has an empty segmentation"),
    "an empty polygon": ([[]], "has a polygon of 0 numbers; allowed: 6, 8, 10, …"),
    "a point": ([[1, 2]], "has a polygon of 2 numbers"),
    "a box": ([[1, 2, 30, 40]], "has a polygon of 4 numbers"),
    "an odd polygon": ([[1, 2, 30, 40, 5, 6, 7]], "has a polygon of 7 numbers"),
    "the second is odd": ([SQUARE[0], [1, 2, 3]], "has a polygon of 3 numbers"),
    "a flat polygon": (SQUARE[0], "has 10 instead of a polygon"),
    "nested": ([[SQUARE[0]]], "has a polygon of 1 numbers"),
    "nested further": ([[[1, 2]] * 6], "has the coordinate a list"),
    "nested without end": (ENDLESS, "has a polygon of 1 numbers"),
    "far away": ([[1, 2, 1e15, 2, 3, 40]], "has the coordinate 1000000000000000.0 in a polygon"),
    "far above": ([[1, 2, 30, -73, 3, 40]], "has the coordinate -73 in a polygon; its image is 96"),
    "endless": ([[1, 2, float("inf"), 2, 3, 40]], "has the coordinate inf"),
    "no number": ([[1, 2, float("nan"), 2, 3, 40]], "has the coordinate nan"),
    "a huge number": ([[1, 2, 10**400, 2, 3, 40]], "has the coordinate 10000"),
    "text in a polygon": ([[1, 2, "30", 2, 3, 40]], "has the coordinate '30'"),
    "true in a polygon": ([[1, 2, True, 2, 3, 40]], "has the coordinate true"),
    "a long outline": ([[0, 0, 96, 72] * 40_000], "has outlines that are"),
    "runs without a size": (
        {"counts": [PIXELS]},
        "has runs of the size null, but its image has",
    ),
    "runs of another size": ({"size": [3, 4], "counts": [12]}, "has runs of the size [3, 4]"),
    "runs turned": ({"size": [96, 72], "counts": [PIXELS]}, "has runs of the size [96, 72]"),
    "runs of a huge size": ({"size": [10**6, 10**6], "counts": [10**12]}, "the size [1000000, 1"),
    "runs of fractions": ({"size": [72.0, 96.0], "counts": [PIXELS]}, "the size a list"),
    "counts are absent": ({"size": [72, 96]}, "has null instead of run lengths"),
    "too few": (
        {"size": [72, 96], "counts": [5, 5]},
        "has runs of 10 pixels in total, but its image has 691",
    ),
    "none": ({"size": [72, 96], "counts": []}, "has runs of 0 pixels in total"),
    "too many": ({"size": [72, 96], "counts": [PIXELS, 1]}, "has runs of 6913 pixels in total"),
    "negative": ({"size": [72, 96], "counts": [-1, PIXELS + 1]}, "has a run of -1 pixels"),
    "fractions": ({"size": [72, 96], "counts": [float(PIXELS)]}, "has a run of 6912.0 pixels"),
    "text runs": ({"size": [72, 96], "counts": [str(PIXELS)]}, "has a run of '6912' pixels"),
    "true runs": ({"size": [72, 96], "counts": [True, PIXELS - 1]}, "has a run of true pixels"),
    "a huge run": ({"size": [72, 96], "counts": [2**64]}, "has a run of 18446744073709551616"),
    "many runs": ({"size": [72, 96], "counts": [0] * 60_000}, "has 60,000 runs"),
    "letters": ({"size": [72, 96], "counts": "no run lengths"}, "damaged compressed runs"),
    "other letters": ({"size": [72, 96], "counts": "ż"}, "damaged compressed runs"),
    "cut off": ({"size": [72, 96], "counts": "P"}, "truncated compressed runs"),
    "never ending": ({"size": [72, 96], "counts": "o" * 99}, "damaged compressed runs"),
    "one": (
        {"size": [72, 96], "counts": "1"},
        "has runs of 1 pixels in total, but its image has 6912",
    ),
    "empty text": ({"size": [72, 96], "counts": ""}, "has runs of 0 pixels in total"),
    "negative text": ({"size": [72, 96], "counts": "O"}, "has a run of -1 pixels"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_segmentation_is_refused(name):
    segmentation, reason = DAMAGED[name]
    with pytest.raises(ImageError) as caught:
        mask_of(segmentation, SIZE)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200


NUMBERS = st.one_of(
    st.integers(-30, 60), st.integers(), st.floats(), st.booleans(), st.text(max_size=3), st.none()
)
SEGMENTATIONS = st.one_of(
    st.lists(st.lists(st.floats(-12, 24, width=16), min_size=5, max_size=9), max_size=3),
    st.lists(st.lists(NUMBERS, max_size=9), max_size=3),
    st.fixed_dictionaries(
        {"size": st.just([8, 12]) | st.lists(NUMBERS, max_size=3)},
        optional={
            "counts": st.lists(st.integers(0, 96), max_size=9)
            | st.lists(NUMBERS, max_size=5)
            | st.text(st.characters(min_codepoint=44, max_codepoint=115), max_size=12)
        },
    ),
    st.recursive(NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
)


@quick
@given(SEGMENTATIONS)
@example({"size": [8, 12], "counts": "1"})
def test_whatever_a_segmentation_holds_it_is_painted_once_and_for_all_or_refused(segmentation):
    try:
        mask = mask_of(segmentation, (8, 12))
    except ImageError:
        return
    assert (mask.shape, mask.dtype) == ((8, 12), bool)
    assert mask_of(segmentation, (8, 12)).tolist() == mask.tolist()
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        runs = decode_runs(counts) if isinstance(counts, str) else counts
        assert mask.sum() == sum(runs[1::2])


# ---- the file ------------------------------------------------------------------------------------

ANNOTATIONS = [
    annotation(COCO_IDS[0], 18, SQUARE),
    annotation(COCO_IDS[1], 1, rectangle(0, 0, 5, 5)),
    annotation(COCO_IDS[2], 62, run_lengths(np.tri(*SIZE, dtype=bool)), crowd=True),
]

Change = Callable[[dict], None]


def changed(root: Path, change: Change) -> Path:
    """Write images and annotations that `change` has spoilt."""
    path = write_instances(root, copy.deepcopy(ANNOTATIONS))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def results(tmp_path, monkeypatch, capsys):
    """``results(change)``: rejected labels with reasons, labels painted, and what `check` says."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)

    def run(change: Change) -> tuple[dict[str, str], dict[str, np.ndarray], str]:
        changed(Path("data"), change)
        raw = {
            "dataset": {"name": "d", "format": "coco_things", "root": "data"},
            "backbone": {"model": "mean_color"},
        }
        dataset = parse_config(raw)["lightcluster"].dataset
        write_classes(built_in_classes("coco_things"), Path("classes.csv"), 0, 255)
        made = Path("made")
        shutil.rmtree(made, ignore_errors=True)
        paint_labels(dataset, made)
        index_dataset(dataset, made, 0, 1, Path("classes.csv"), Path("m.csv"), Path("r.csv"))
        with Path("r.csv").open(newline="") as file:
            rejected = {row["image_id"].removesuffix(".jpg"): row["reason"]
                        for row in csv.DictReader(file)}  # fmt: skip
        labels = {Path(row.image_id).stem: read_label(row.label, SIZE)
                  for row in read_manifest(Path("m.csv")) if row.label}  # fmt: skip
        Path("it.yaml").write_text(json.dumps(raw))
        check_all([Path("it.yaml")])
        return rejected, labels, capsys.readouterr().out

    return run


def test_a_sound_file_is_painted_and_sound(results):
    rejected, labels, said = results(lambda content: None)
    assert rejected == {}
    assert list(labels) == COCO_IDS
    assert labels[COCO_IDS[0]][20:50, 10:40].tolist() == np.full((30, 30), 17).tolist()
    assert (labels[COCO_IDS[0]] > 0).sum() == 900
    assert "all sound" in said


def setting(part: str, place: int, **values: Any) -> Change:
    """Return what changes a record; a value that is ... is taken away."""

    def change(content: dict) -> None:
        record = content[part][place]
        record.update(values)
        for key in [key for key, value in values.items() if value is ...]:
            del record[key]

    return change


def adding(part: str, place: int, **values: Any) -> Change:
    """Return what adds a copy of a record with other values."""
    return lambda content: content[part].append({**content[part][place], **values})


OF_AN_IMAGE: dict[str, tuple[Change, str]] = {
    "an undeclared category": (setting("annotations", 1, category_id=2), "annotation 2 has the cate"
                               "gory 2, which the file does not declare"),
    "a category that is none": (setting("annotations", 1, category_id=12), "has the category 12"),
    "a category as text": (setting("annotations", 1, category_id="1"), "has the category '1'"),
    "a category as a fraction": (setting("annotations", 1, category_id=1.0), "category 1.0, which"),
    "a category as true": (setting("annotations", 1, category_id=True), "has the category true"),
    "no category": (setting("annotations", 1, category_id=...), "has the category null"),
    "a category in a list": (setting("annotations", 1, category_id=[1]), "has the category a list"),
    "an image id as text": (setting("annotations", 1, image_id="285"), "annotation 2 has the image"
                            "_id '285'; in the list of images, the id is 285"),
    "an image id as a fraction": (setting("annotations", 1, image_id=285.0), "the image_id 285.0"),
    "a listed id as text": (setting("images", 1, id="285"), "has the image_id 285; in the list "
                            "of images, the id is '285'"),
    "a listed id as a fraction": (setting("images", 1, id=285.0), "its id in the annotations is 285"
                                  ".0; ids must be integers"),
    "no annotation id": (setting("annotations", 1, id=...), "annotation null has no id"),
    "an annotation id in a list": (setting("annotations", 1, id=[2]), "an id that is not an int"),
    "two annotations of an id": (adding("annotations", 1), "2 has the same id as 1 other"),
    "two images of a file": (adding("images", 1, id=999), "list this image twice, as 285 and 999"),
    "an image twice": (adding("images", 1), "list this image twice, as 285 and 285"),
    "no segmentation": (setting("annotations", 1, segmentation=...), "2 has null instead of a"),
    "an empty one": (setting("annotations", 1, segmentation=[]), "annotation 2 has an empty segme"),
    "another height": (setting("images", 1, height=71), "71 x 96, but the image is 72 x 96 (h"),
    "turned": (setting("images", 1, height=96, width=72), "96 x 72, but the image is 72 x 96"),
    "a huge image": (setting("images", 1, height=10**6, width=10**6), "size of 1000000 x 1000000"),
    "a height of text": (setting("images", 1, height="72"), "its height in the annotations is '72"),
    "a width as a fraction": (setting("images", 1, width=96.0), "its width in the annotations is "),
    "no width": (setting("images", 1, width=...), "its width in the annotations is null"),
    "a negative width": (setting("images", 1, width=-96), "its width in the annotations is -96"),
    "a huge run-length image": (
        setting("annotations", 1, segmentation={"size": [10**6, 10**6], "counts": [10**12]}),
        "annotation 2 has runs of the size [1000000, 1000000], but its image has [72, 96]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_AN_IMAGE)
def test_what_is_wrong_costs_the_label_of_its_image_alone_and_is_said_by_check(results, name):
    change, reason = OF_AN_IMAGE[name]
    rejected, labels, said = results(change)
    assert list(rejected) == [COCO_IDS[1]]
    assert reason in rejected[COCO_IDS[1]]
    assert list(labels) == [name for name in COCO_IDS if name != COCO_IDS[1]]
    assert f"label '{COCO_IDS[1]}.jpg': {rejected[COCO_IDS[1]]}" in said
    assert "usable, but look at 1 warning(s)" in said


@pytest.mark.parametrize("value", [None, ...])
def test_an_image_without_an_id_loses_its_label_and_its_annotations_are_named(results, value):
    rejected, _, said = results(setting("images", 1, id=value))
    assert rejected[COCO_IDS[1]] == "its id in the annotations is null; ids must be integers"
    assert "(image_id 285)" in rejected["instances_val2017.json"]
    assert "usable, but look at 2 warning(s)" in said


def test_a_number_of_thousands_of_digits_costs_what_it_belongs_to_alone(tmp_path):
    path = changed(tmp_path / "one", lambda content: None)
    text = path.read_text()
    assert text.count('"image_id": 285') == 1
    path.write_text(text.replace('"image_id": 285', '"image_id": ' + "9" * 9999))
    found = read.read_annotations(path)
    assert "1 of its annotations belong to none of its images (image_id inf)" in found.remarks
    assert [listed.reason for listed in found.images.values()] == [""] * len(found.images)
    path.write_text(text + "9" * 9999)  # where it is no number of JSON, the file is refused
    with pytest.raises(DatasetError, match="not a file of instance annotations"):
        read.read_annotations(path)


def test_two_images_of_one_id_both_lose_their_labels(results):
    rejected, _, said = results(setting("images", 1, id=139))
    assert set(rejected) == set(COCO_IDS[:2]) | {"instances_val2017.json"}
    assert "its id 139 in the annotations is also that of '000000000285.jpg'" in said
    assert "1 of its annotations belong to none of its images (image_id 285)" in said


def test_a_category_that_is_declared_twice_costs_the_labels_that_use_it(results):
    rejected, labels, _ = results(adding("categories", 0))
    assert rejected == {
        COCO_IDS[1]: "annotation 2 has the category 1, which the file declares 2 times"
    }
    assert len(labels) == 5


OF_NO_IMAGE: dict[str, tuple[Change, str]] = {
    "an unknown image": (adding("annotations", 1, id=9, image_id=424242), "(image_id 424242)"),
    "no image": (adding("annotations", 1, id=9, image_id=None), "(image_id null)"),
    "an image in a list": (adding("annotations", 1, id=9, image_id=[285]), "(image_id a list)"),
    "an image as true": (adding("annotations", 1, id=9, image_id=True), "(image_id true)"),
    "an image without end": (adding("annotations", 1, id=9, image_id=float("inf")), "(image_id in"),
    "no annotation": (lambda content: content["annotations"].append(7), "(image_id not an object)"),
    "no image record": (lambda content: content["images"].append("x"), "1 record(s) of its images"),
    "a nameless image": (adding("images", 1, id=9, file_name=None), "have no `file_name`"),
    "a numbered image": (adding("images", 1, id=9, file_name=285), "have no `file_name`"),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_NO_IMAGE)
def test_what_belongs_to_no_image_is_recorded_and_said_by_check(results, name):
    change, reason = OF_NO_IMAGE[name]
    rejected, labels, said = results(change)
    assert list(rejected) == ["instances_val2017.json"]
    assert reason in rejected["instances_val2017.json"]
    assert list(labels) == COCO_IDS
    assert rejected["instances_val2017.json"] in said
    assert "usable, but look at 1 warning(s)" in said


def test_of_many_that_belong_to_none_the_first_are_named(results):
    def change(content: dict) -> None:
        content["annotations"] += [{"id": n, "image_id": n} for n in range(1000, 1050)]

    rejected, _, _ = results(change)
    assert rejected["instances_val2017.json"] == (
        "50 of its annotations belong to none of its images (image_id 1000, 1001, 1002, …)"
    )


def test_images_that_are_listed_and_not_there_are_said_by_check(tmp_path, results):
    def change(content: dict) -> None:
        for number in (7, 8):
            content["images"].append(
                {**content["images"][0], "id": number, "file_name": f"{number}"}
            )

    rejected, _, said = results(change)
    assert rejected == {}
    assert "2 of 8 images that the annotations list are not there, such as '7'" in said
    assert "usable, but look at 1 warning(s) above" in said


def test_images_that_are_not_listed_have_no_label(results):
    rejected, labels, said = results(lambda content: content["images"].pop())
    assert rejected == {COCO_IDS[5]: "the instance annotations do not list this image"}
    assert COCO_IDS[5] not in labels
    assert f"'{COCO_IDS[5]}.jpg': the instance annotations do not list this image" in said


def test_ids_may_be_text_if_all_are(results):
    def change(content: dict) -> None:
        for image in content["images"]:
            image["id"] = str(image["id"])
        for item in content["annotations"]:
            item["image_id"], item["id"] = str(item["image_id"]), f"a{item['id']}"

    rejected, labels, _ = results(change)
    assert rejected == {}
    assert labels[COCO_IDS[1]].sum() == 25


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ('{"images": [', "Expecting value"),
        ("[]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [], "annotations": ' + '{"a":' * 100_000, "nested too deeply"),
        ('{"images": [{"id": ' + "9" * 5000 + "}]}", "no list 'annotations'"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ('{"images": [], "annotations": {}, "categories": []}', "no list 'annotations'"),
        ('{"images": null, "annotations": [], "categories": []}', "no list 'images'"),
    ],
)
def test_a_file_that_holds_no_annotations_is_named(tmp_path, content, reason):
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=rf"instances\.json: is not a file of .*{reason}"):
        Instances(path)


def test_a_key_that_stands_twice_is_named(tmp_path):
    path = write_instances(tmp_path, ANNOTATIONS)
    text = path.read_text()
    path.write_text(text.replace('"category_id": 1,', '"category_id": 1, "category_id": 18,'))
    with pytest.raises(ImageError, match="annotation 2 has 'category_id' twice"):
        Instances(path).paint(f"{COCO_IDS[1]}.jpg", SIZE)
    path.write_text(text.replace('"categories"', '"annotations": [], "categories"'))
    with pytest.raises(DatasetError, match=r"json: has the key 'annotations' twice"):
        Instances(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = write_instances(tmp_path, ANNOTATIONS)
    monkeypatch.setattr(read, "MOST_BYTES", 100)
    with pytest.raises(DatasetError, match="bytes; at most 100 are allowed"):
        Instances(path)


@pytest.mark.parametrize("record", [7, {}, {"id": "1", "name": "person"}, {"id": [1], "name": []}])
def test_categories_that_are_none_are_refused(tmp_path, record):
    path = changed(tmp_path, lambda content: content["categories"].append(record))
    with pytest.raises(DatasetError, match="allowed are the 80 of COCO"):
        Instances(path)


VALUES = st.one_of(NUMBERS, st.just(285), st.just([]), st.just({}), st.lists(NUMBERS, max_size=2))


@quick
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["images", "annotations"]),
            st.integers(0, 2),
            st.sampled_from(["id", "image_id", "category_id", "file_name", "height", "width",
                             "segmentation", "iscrowd"]),
            VALUES | SEGMENTATIONS,
        ),
        min_size=1, max_size=3,
    )
)  # fmt: skip
def test_whatever_is_changed_each_label_is_as_it_was_or_rejected(tmp_path_factory, changes):
    """Of a sound file with some values replaced: nothing is painted from what is damaged."""
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    path = folder / "annotations" / "instances_val2017.json"
    if not path.exists():
        write_instances(folder, ANNOTATIONS)
    sound = {
        "images": [{"id": int(n), "file_name": f"{n}.jpg", "height": SIZE[0], "width": SIZE[1]}
                   for n in COCO_IDS[:3]],
        "annotations": [{**item, "id": number} for number, item in enumerate(ANNOTATIONS, 1)],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"},
                       {"id": 62, "name": "chair"}],
    }  # fmt: skip
    content = copy.deepcopy(sound)
    for part, place, key, value in changes:
        content[part][place][key] = value
    expected, found = [], []
    for written, into in ((sound, expected), (content, found)):
        path.write_text(json.dumps(written))
        instances = Instances(path)
        for name in COCO_IDS[:3]:
            try:
                into.append(instances.paint(f"{name}.jpg", SIZE).tolist())
            except ImageError:
                into.append(None)
    touched = {place for _, place, _, _ in changes}
    moved = any(key in ("id", "image_id", "file_name") for _, _, key, _ in changes)
    for place, (before, after) in enumerate(zip(expected, found, strict=True)):
        if not moved and place not in touched:
            assert after == before
