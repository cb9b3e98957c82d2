"""The field's datasets: where their files are, and which class each value of a label map is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from builders import build_network, quick
from builders import indexed as indexed_label
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from layouts import (
    CITYSCAPES_IDS,
    COCO_IDS,
    STYLE,
    VOC_IDS,
    annotation,
    rectangle,
    run_lengths,
    scene_annotations,
    write_cityscapes,
    write_coco_images,
    write_instances,
    write_lines,
    write_stuff_maps,
    write_voc,
)
from lightcluster.config import Config, parse_config
from lightcluster.datasets.entries import Entry
from lightcluster.datasets.formats.coco import COCO_NAMES
from lightcluster.datasets.formats.field import read_ids
from lightcluster.datasets.formats.registry import FIELD_FORMATS
from lightcluster.datasets.instances import Instances, paint_instances
from lightcluster.datasets.label_values import remap
from lightcluster.datasets.labels import (
    IGNORED,
    built_in_classes,
    check_classes,
    read_label,
    to_indices,
)
from lightcluster.datasets.listing import fingerprint, list_dataset
from lightcluster.datasets.manifest import index_dataset, index_entries, read_manifest
from lightcluster.datasets.painting import paint_labels
from lightcluster.digests import Digests
from lightcluster.errors import ConfigError, DatasetError, ImageError
from lightcluster.layout import Layout
from lightcluster.preview import check_all

SIZE = (STYLE.height, STYLE.width)
ROOT = Path(__file__).resolve().parents[2]


def configured(name: str, root: Path, **changes) -> Config:
    """Return the configuration of a dataset that lies in `root`."""
    dataset = {"name": "d", "format": name, "root": str(root), **changes}
    return parse_config({"dataset": dataset})["lightcluster"]


def entries_of(name: str, root: Path, **changes) -> list[Entry]:
    return list_dataset(configured(name, root, **changes).dataset, root / "made")


def indexed(name: str, root: Path, **changes):
    """Return manifest rows, by id of the image, and rejections, as the step finds them."""
    dataset = configured(name, root, **changes).dataset
    rows, rejections = index_entries(
        list_dataset(dataset, root / "made"), built_in_classes(name), ignore=dataset.ignore,
        max_pixels=dataset.max_pixels,
    )  # fmt: skip
    suffix = FIELD_FORMATS[name].suffix
    return {row.path.name.removesuffix(suffix): row for row in rows}, rejections


# ---- the tables, against others ------------------------------------------------------------------

COCO_27 = """
0 electronic 71-76; 1 appliance 77-82; 2 food 51-60; 3 furniture 61-70; 4 indoor 83-90;
5 kitchen 43-50; 6 accessory 25-32; 7 animal 15-24; 8 outdoor 9-14; 9 person 0; 10 sports 33-42;
11 vehicle 1-8; 12 ceiling 101-102; 13 floor 100,113-117; 14 food-stuff 120,121,152,169;
15 furniture-stuff 97,106,107,109,111,122,129,132,155,160,164; 16 raw material 99,131,138,142;
17 textile 91,92,103,104,108,130,136,140,151,166,167; 18 wall 170-176; 19 window 179,180;
20 building 94,95,127,150,157,165; 21 ground 110,124,125,135,139,143,144,146,148,153,158;
22 plant 93,96,118,123,128,133,141,162,168; 23 sky 105,156; 24 solid 126,134,149,159,161,181;
25 structural 98,112,137,145,163; 26 water 119,147,154,177,178"""
"""The supercategories with their values, as protocols state them."""

COCO_CATEGORIES = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28,
    31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55,
    56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 67, 70, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 84,
    85, 86, 87, 88, 89, 90,
]  # fmt: skip
"""Category ids of the 80 things."""

CITYSCAPES = """
unlabeled 0; ego vehicle 1; rectification border 2; out of roi 3; static 4; dynamic 5; ground 6;
road 7; sidewalk 8; parking 9; rail track 10; building 11; wall 12; fence 13; guard rail 14;
bridge 15; tunnel 16; pole 17; polegroup 18; traffic light 19; traffic sign 20; vegetation 21;
terrain 22; sky 23; person 24; rider 25; car 26; truck 27; bus 28; caravan 29; trailer 30;
train 31; motorcycle 32; bicycle 33; license plate -1"""
"""Names and label ids, as cityscapesScripts state them."""


def of_the_supercategory(value: int) -> tuple[int, str]:
    """Return class id and name of a value, read from `COCO_27` as a person would."""
    for line in COCO_27.replace("\n", " ").split(";"):
        number, name, spans = re.fullmatch(r"\s*(\d+) (.+) ([\d,-]+)", line).groups()
        for span in spans.split(","):
            first, _, last = span.partition("-")
            if int(first) <= value <= int(last or first):
                return int(number), name
    raise LookupError(value)


def test_27_supercategories_are_those_of_the_protocol():
    form = FIELD_FORMATS["coco_stuff27"]
    for value in range(182):
        class_id, name = of_the_supercategory(value)
        assert form.values[value] == class_id
        assert form.classes[class_id] == name
    assert form.values.keys() == {*range(182), 255}
    assert (form.values[255], form.background, len(form.classes)) == (255, None, 27)


def test_80_things_come_first_and_91_stuffs_after_them():
    full, things = FIELD_FORMATS["coco_stuff171"], FIELD_FORMATS["coco_stuff81"]
    categories = [*COCO_CATEGORIES, *range(92, 183)]
    assert len(categories) == len(full.classes) == 171
    for class_id, category in enumerate(categories):
        assert full.values[category - 1] == class_id
        assert things.values[category - 1] == (class_id + 1 if category <= 90 else 0)
    for form in (full, things):
        assert form.values.keys() == {category - 1 for category in categories} | {255}
        assert form.values[255] == 255
    assert (full.background, things.background) == (None, 0)
    assert (
        things.classes == ("background", *full.classes[:80]) == FIELD_FORMATS["coco_things"].classes
    )
    assert (full.classes[0], full.classes[79]) == ("person", "toothbrush")
    assert (full.classes[80], full.classes[-1]) == ("banner", "wood")
    assert COCO_NAMES[17] == "dog"


def test_cityscapes_has_the_label_ids_from_7_on():
    form = FIELD_FORMATS["cityscapes"]
    for line in CITYSCAPES.replace("\n", " ").split(";"):
        name, _, number = line.strip().rpartition(" ")
        stored = int(number) % 256
        expected = int(number) - 7 if int(number) >= 7 else 255
        assert form.values[stored] == expected
        assert expected == 255 or form.classes[expected] == name
    assert form.values[65_535] == 255
    assert len(form.values) == 36
    assert (len(form.classes), form.background) == (27, None)


def test_voc_has_20_objects_in_the_order_of_their_names():
    names = FIELD_FORMATS["voc"].classes
    assert (len(names), names[0], names[15], FIELD_FORMATS["voc"].background) == (
        21, "background", "person", 0,
    )  # fmt: skip
    assert list(names[1:]) == sorted(names[1:])


@pytest.mark.parametrize("name", FIELD_FORMATS)
def test_built_in_classes_can_be_used_as_they_are(name):
    classes, dataset = built_in_classes(name), configured(name, Path("r")).dataset
    check_classes(classes, dataset.background, dataset.ignore)
    assert classes.ids == tuple(range(len(classes.names)))
    assert len(set(classes.names)) == len(classes.names)


# ---- remap ---------------------------------------------------------------------------------------


@quick
@given(
    st.dictionaries(st.integers(0, 65_535), st.integers(0, 65_535), min_size=1, max_size=9),
    st.data(),
)
def test_remap_replaces_each_value(values, data):
    shape = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
    label = data.draw(hnp.arrays(np.uint16, shape, elements=st.sampled_from(sorted(values))))
    mapped = remap(label, values)
    assert mapped.dtype == np.uint16
    assert mapped.tolist() == [[values[value] for value in row] for row in label.tolist()]


def test_remap_names_values_that_stand_for_nothing():
    label = np.array([[0, 3, 9]], np.uint16)
    with pytest.raises(ImageError, match=r"holds the ids 3, 9; allowed: 0 to 2, 5, 7 to 8$"):
        remap(label, dict.fromkeys((5, 0, 1, 2, 7, 8), 0))


# ---- VOC -----------------------------------------------------------------------------------------


def test_voc_is_read_by_its_split(tmp_path):
    labels = write_voc(tmp_path, "trainaug")
    rows, rejections = indexed("voc", tmp_path, split="trainaug")
    assert (list(rows), rejections) == (VOC_IDS, [])
    for name, row in rows.items():
        assert row.path == tmp_path / "JPEGImages" / f"{name}.jpg"
        assert row.output == f"{name}.png"
        assert read_label(row.label, SIZE).tolist() == labels[name].tolist()
        truth = to_indices(read_label(row.label, SIZE), built_in_classes("voc"), 255)
        assert ((truth == IGNORED) == (labels[name] == 255)).all()
        assert (truth == IGNORED).any()


def test_a_list_of_images_takes_the_place_of_a_split(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").unlink()
    chosen = write_lines(tmp_path / "few.txt", [VOC_IDS[4], "", f" {VOC_IDS[1]} ", VOC_IDS[4]])
    rows, _ = indexed("voc", tmp_path, image_list=str(chosen))
    assert list(rows) == [VOC_IDS[1], VOC_IDS[4]]


def test_a_missing_image_is_rejected_and_a_missing_label_costs_its_scores_alone(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "JPEGImages" / f"{VOC_IDS[0]}.jpg").unlink()
    (tmp_path / "SegmentationClass" / f"{VOC_IDS[1]}.png").unlink()
    rows, rejections = indexed("voc", tmp_path)
    assert [(item.image_id, item.reason) for item in rejections] == [
        (f"{VOC_IDS[0]}.jpg", "the file does not exist"),
        (f"{VOC_IDS[1]}.jpg", f"there is no {tmp_path}/SegmentationClass/{VOC_IDS[1]}.png"),
    ]
    assert [name for name, row in rows.items() if row.label is None] == [VOC_IDS[1]]
    assert len(rows) == 5


def test_a_value_that_is_no_class_of_voc_is_rejected(tmp_path):
    write_voc(tmp_path)
    path = tmp_path / "SegmentationClass" / f"{VOC_IDS[2]}.png"
    Image.fromarray(np.full(SIZE, 21, np.uint8)).save(path)
    rows, (rejection,) = indexed("voc", tmp_path)
    assert (rejection.what, rows[VOC_IDS[2]].label) == ("label", None)
    assert "label holds the ids 21" in rejection.reason


# ---- COCO-Stuff ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coco_stuff27", "coco_stuff81", "coco_stuff171"])
def test_stuff_maps_are_read_as_classes(tmp_path, name):
    raw = [*(category - 1 for category in COCO_CATEGORIES), *range(91, 182), 255]
    maps = write_stuff_maps(tmp_path, raw)
    rows, rejections = indexed(name, tmp_path)
    assert (list(rows), rejections) == (COCO_IDS, [])
    slow = {
        "coco_stuff27": lambda value: of_the_supercategory(value)[0],
        "coco_stuff81": lambda value: raw.index(value) + 1 if value < 91 else 0,
        "coco_stuff171": raw.index,
    }[name]
    for image_id, row in rows.items():
        expected = [
            [255 if v == 255 else slow(v) for v in line] for line in maps[image_id].tolist()
        ]
        assert read_label(row.label, SIZE).tolist() == expected


def test_the_manifest_says_how_labels_are_read(tmp_path):
    maps = write_stuff_maps(tmp_path, range(182))
    dataset = configured("coco_stuff27", tmp_path).dataset
    classes = tmp_path / "classes.csv"
    names = FIELD_FORMATS["coco_stuff27"].classes
    write_lines(classes, ["id,name", *(f"{number},{name}" for number, name in enumerate(names))])
    index_dataset(dataset, tmp_path, 0, 1, classes, tmp_path / "m.csv", tmp_path / "r.csv")
    for row in read_manifest(tmp_path / "m.csv"):
        raw = int(maps[Path(row.image_id).stem][0, 0])
        assert read_label(row.label, SIZE)[0, 0] == of_the_supercategory(raw)[0]


def test_a_value_that_coco_never_annotated_is_rejected(tmp_path):
    write_stuff_maps(tmp_path, [11, 12])
    _, rejections = indexed("coco_stuff171", tmp_path)
    assert {item.reason for item in rejections} == {
        "label holds the ids 11; allowed: 0 to 10, 12 to 24, 26 to 27, 30 to 43, 45 to 64, 66, 69, "
        "71 to 81, 83 to 89, 91 to 181, 255"
    }


def test_curated_images_are_a_part_of_the_folder(tmp_path):
    write_stuff_maps(tmp_path, range(182))
    curated = write_lines(tmp_path / "curated.txt", [COCO_IDS[3], "000000999999"])
    rows, rejections = indexed("coco_stuff27", tmp_path, image_list=str(curated))
    assert list(rows) == [COCO_IDS[3]]
    assert [item.image_id for item in rejections] == ["000000999999.jpg"]


# ---- COCO things ---------------------------------------------------------------------------------

ANNOTATIONS = [
    annotation(COCO_IDS[0], 18, rectangle(10, 20, 40, 50)),
    annotation(COCO_IDS[0], 1, rectangle(30, 10, 60, 30)),
    annotation(COCO_IDS[1], 90, rectangle(0, 0, 5, 5) + rectangle(50, 50, 60, 60)),
    annotation(COCO_IDS[2], 62, run_lengths(np.tri(*SIZE, dtype=bool)), crowd=True),
    annotation(COCO_IDS[2], 1, rectangle(0, 0, 96, 72)),
]


def expected_labels() -> list[np.ndarray]:
    """Return the label maps of `ANNOTATIONS`, image by image."""
    labels = [np.zeros(SIZE, int) for _ in COCO_IDS]
    labels[0][10:30, 30:60] = 1  # person
    labels[0][20:50, 10:40] = 17  # dog, which stands first
    labels[1][0:5, 0:5] = labels[1][50:60, 50:60] = 80  # toothbrush, of two parts
    labels[2][:] = 1
    labels[2][np.tri(*SIZE, dtype=bool)] = 57  # chairs, a crowd
    return labels


def test_instances_are_painted(tmp_path):
    write_instances(tmp_path, ANNOTATIONS)
    paint_labels(configured("coco_things", tmp_path).dataset, tmp_path / "made")
    rows, rejections = indexed("coco_things", tmp_path)
    assert (list(rows), rejections) == (COCO_IDS, [])
    for row, expected in zip(rows.values(), expected_labels(), strict=True):
        assert row.label == indexed_label(tmp_path / "made" / row.output)
        assert read_label(row.label, SIZE).tolist() == expected.tolist()


@quick
@given(st.integers(0, 5), st.data())
def test_of_masks_that_overlap_the_first_is_seen(count, data):
    masks = [data.draw(hnp.arrays(bool, (4, 5))) for _ in range(count)]
    painted = paint_instances(list(enumerate(masks, 1)), (4, 5))
    for place in np.ndindex(4, 5):
        covering = [number for number, mask in enumerate(masks, 1) if mask[place]]
        assert painted[place] == (covering[0] if covering else 0)
    assert painted.dtype == np.uint8


@pytest.mark.parametrize(("number", "name"), [(1, "cat"), (12, "street sign"), ("1", "person")])
def test_categories_that_are_not_cocos_are_refused(tmp_path, number, name):
    content = {"images": [], "annotations": [], "categories": [{"id": number, "name": name}]}
    path = write_lines(tmp_path / "instances.json", [json.dumps(content)])
    of_it = "where it is 'person'" if number == 1 else "whose ids are integers from 1 to 90"
    with pytest.raises(
        DatasetError, match=rf"category {number!r} is '{name}'; allowed are the 80 of COCO, {of_it}"
    ):
        Instances(path)


# ---- Cityscapes ----------------------------------------------------------------------------------


def test_cityscapes_is_read_city_by_city(tmp_path):
    maps = write_cityscapes(tmp_path, range(-1, 34))
    rows, rejections = indexed("cityscapes", tmp_path)
    assert (sorted(rows), rejections) == (sorted(CITYSCAPES_IDS), [])
    for name, row in rows.items():
        assert row.image_id == f"{name.split('_')[0]}/{name}_leftImg8bit.png"
        expected = [
            [value - 7 if 7 <= value <= 33 else 255 for value in line]
            for line in maps[name].tolist()
        ]
        assert read_label(row.label, SIZE).tolist() == expected


def test_images_that_lie_elsewhere_are_not_of_the_split(tmp_path):
    write_cityscapes(tmp_path, range(34))
    folder = tmp_path / "leftImg8bit/val"
    shutil.copytree(folder / "frankfurt", folder / "copy of frankfurt")
    write_lines(folder / "readme_leftImg8bit.png.txt", ["x"])
    assert len(entries_of("cityscapes", tmp_path)) == len(CITYSCAPES_IDS)


def test_some_images_of_cityscapes(tmp_path):
    write_cityscapes(tmp_path, range(-1, 34))
    chosen = write_lines(tmp_path / "few.txt", CITYSCAPES_IDS[3:])
    rows, _ = indexed("cityscapes", tmp_path, image_list=str(chosen))
    assert list(rows) == CITYSCAPES_IDS[3:]


# ---- what all have in common ---------------------------------------------------------------------

WRITERS = {
    "voc": write_voc,
    "coco_stuff27": lambda root: write_stuff_maps(root, range(182)),
    "coco_things": lambda root: write_instances(root, ANNOTATIONS),
    "cityscapes": lambda root: write_cityscapes(root, range(34)),
}


@pytest.mark.parametrize("name", ["voc", "coco_stuff27", "cityscapes"])
def test_a_replaced_label_changes_the_fingerprint(tmp_path, name):
    WRITERS[name](tmp_path)
    entries = entries_of(name, tmp_path)
    before = entries[0].label.path.read_bytes()
    looked = Digests(tmp_path / "cache")

    def found() -> str:
        return fingerprint(entries, looked.of([file for one in entries for file in one.places]))

    first = found()
    entries[0].label.path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert found() != first
    entries[0].label.path.write_bytes(before)
    assert found() == first


@pytest.mark.parametrize("name", WRITERS)
def test_a_layout_knows_its_labels_and_classes(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    WRITERS[name](tmp_path / "data")
    layout = Layout({"lightcluster": configured(name, Path("data"))})
    assert layout.labelled
    assert layout.has_classes
    assert layout.classes_source is None
    assert layout.painted == (name == "coco_things")
    assert ("paint_labels" in layout.count_jobs()) == layout.painted
    assert "read_classes" in layout.count_jobs()


def test_a_dataset_is_listed_without_what_takes_long_to_import(tmp_path):
    write_instances(tmp_path, ANNOTATIONS)
    dataset = {"name": "d", "format": "coco_things", "root": str(tmp_path)}
    program = (
        "import sys; from lightcluster.config import parse_config; "
        "from lightcluster.layout import Layout; "
        f"print(Layout(parse_config({{'dataset': {dataset}}})).n_images); "
        "print({'torch', 'timm', 'numpy', 'PIL', 'pycocotools'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    said = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert said.split() == ["6", "set()"]


def test_split_and_background_follow_the_format():
    found = {name: configured(name, Path("r")).dataset for name in FIELD_FORMATS}
    assert {name: (item.split, item.background) for name, item in found.items()} == {
        "voc": ("val", 0),
        "coco_stuff27": ("val2017", None),
        "coco_stuff81": ("val2017", 0),
        "coco_stuff171": ("val2017", None),
        "coco_things": ("val2017", 0),
        "cityscapes": ("val", None),
    }
    changed = configured("cityscapes", Path("r"), split="train", background=10).dataset
    assert (changed.split, changed.background) == ("train", 10)


def mistakes(**dataset) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config({"dataset": dataset})
    return [line.strip(" -") for line in str(caught.value).splitlines()[1:]]


def test_mistakes_of_a_dataset_of_the_field_are_reported_together():
    assert mistakes(format="voc", split=None, images="i", labels="l", ignore=254) == [
        "dataset.root = none: `format: voc` needs the folder of the dataset",
        "dataset.split = none: `format: voc` needs the name of a split",
        "dataset.ignore = 254: must be 255, the value of pixels without a class in `format: voc`",
        "dataset.images = 'i': not used by `format: voc`; remove it, or set `format` in `dataset` "
        "to one of folder, list, webdataset, parquet",
        "dataset.labels = 'l': not used by `format: voc`; remove it, or set `format` in `dataset` "
        "to folder",
    ]


def test_other_formats_have_no_root():
    found = mistakes(format="folder", images="i", root="r", split="val", image_list="x.txt")
    assert [line.split(":")[0] for line in found] == [
        "dataset.root = 'r'",
        "dataset.split = 'val'",
        "dataset.image_list = 'x.txt'",
    ]
    assert "to one of voc, coco_stuff27" in found[0]


@pytest.mark.parametrize("split", ["../val", "a/b", "", "a b", "$(x)"])
def test_a_split_is_a_name(split):
    (line,) = mistakes(format="voc", root="r", split=split)
    assert line.startswith(f"dataset.split = {split!r}")


def test_an_unknown_format_is_named_with_those_that_there_are():
    (line,) = mistakes(format="ade20k")
    assert "dataset.format = 'ade20k'" in line
    assert all(name in line for name in FIELD_FORMATS)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["2007_000033", "JPEGImages/2007_000042.jpg"], "line 2: 'JPEGImages/2007_000042.jpg' is"),
        (["/JPEGImages/a.jpg /SegmentationClassAug/a.png"], "line 1: '/JPEGImages/a.jpg /Segm"),
        (["../../etc/passwd"], "is not an image id"),
        (["", "  "], "contains no image ids"),
    ],
)
def test_a_list_that_holds_other_things_than_ids_is_named(tmp_path, lines, message):
    path = write_lines(tmp_path / "list.txt", lines)
    with pytest.raises(DatasetError) as caught:
        read_ids(path, "dataset.image_list")
    assert message in str(caught.value)
    assert str(caught.value).startswith("dataset.image_list: ")


def test_lists_of_other_programs_are_read(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf2007_000033\r\n2007_000042 \r\n")
    assert read_ids(tmp_path / "list.txt", "k") == ["2007_000033", "2007_000042"]
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "list.txt", tmp_path / "none.txt"):
        with pytest.raises(DatasetError, match=r"k: '.*\.txt' cannot be read"):
            read_ids(path, "k")


# ---- what is missing -----------------------------------------------------------------------------

MISSING = {
    ("voc", "JPEGImages"): "JPEGImages: there is no such folder",
    ("voc", "SegmentationClass"): "SegmentationClass: there is no such folder",
    ("voc", "ImageSets/Segmentation/val.txt"): "val.txt: there is no such file; there are: other.t",
    ("voc", "ImageSets"): "ImageSets/Segmentation/val.txt: there is no such file",
    ("coco_stuff27", "images/val2017"): "images/val2017: there is no such folder; there are: train",
    ("coco_stuff27", "images"): "images/val2017: there is no such folder",
    ("coco_stuff27", "annotations"): "annotations/val2017: there is no such folder",
    ("coco_things", "annotations/instances_val2017.json"): "instances_val2017.json: there is no "
    "such file; ",
    ("coco_things", "images"): "images/val2017: there is no such folder",
    ("cityscapes", "leftImg8bit"): "leftImg8bit/val: there is no such folder",
    ("cityscapes", "gtFine/val"): "gtFine/val: there is no such folder; ",
}


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """``check(format, **changes)``: exit code and output of `lightcluster check` on ``data``."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)

    def run(name: str, **changes) -> tuple[int, str]:
        dataset = {"name": "d", "format": name, "root": "data", **changes}
        backbone = {"model": "vit_tiny_patch16_224", "weights": "random"}
        Path("it.yaml").write_text(json.dumps({"dataset": dataset, "backbone": backbone}))
        return check_all([Path("it.yaml")]), capsys.readouterr().out

    return run


@pytest.mark.parametrize(("name", "part"), MISSING)
def test_what_a_layout_lacks_is_named(tmp_path, check, name, part):
    root = tmp_path / "data"
    WRITERS[name](root)
    for beside in ("ImageSets/Segmentation/other.txt", "images/train2017/a.jpg"):
        write_lines(root / beside, ["x"])
    path = root / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(
        DatasetError, match=r"dataset\.root = .*does not have the layout of `format: "
    ):
        entries_of(name, root)
    code, said = check(name)
    assert code == 1
    assert f"data/{MISSING[name, part]}" in said or MISSING[name, part] in said
    assert FIELD_FORMATS[name].download in said
    assert "mkdir -p data && cd data" in said


def test_all_that_a_layout_lacks_is_named_at_once(tmp_path):
    with pytest.raises(DatasetError) as caught:
        entries_of("voc", tmp_path)
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation/val.txt"):
        assert f"  - {tmp_path / part}: there is no such" in str(caught.value)


@pytest.mark.parametrize("name", FIELD_FORMATS)
def test_a_missing_root_is_named_with_the_commands_that_make_it(check, name):
    code, said = check(name, root="no where")
    assert code == 1
    assert "dataset.root = 'no where': there is no such folder" in said
    assert "mkdir -p 'no where' && cd 'no where'" in said
    assert {
        "voc": "wget http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar\n",
        "coco_things": "annotations_trainval2017.zip\n",
        "cityscapes": "needs a login",
    }.get(name, "stuffthingmaps_trainval2017.zip -d annotations\n") in said


def test_images_that_are_all_missing_are_named(tmp_path):
    write_voc(tmp_path)
    write_lines(tmp_path / "ImageSets/Segmentation/val.txt", [f"2008_{n:06d}" for n in range(5)])
    with pytest.raises(
        DatasetError,
        match=r"JPEGImages: contains no image of the split; looked for 2008_000000\.jpg, "
        r"2008_000001\.jpg, 2008_000002\.jpg, …",
    ):
        entries_of("voc", tmp_path)


def test_an_empty_folder_of_images_is_named(tmp_path):
    write_stuff_maps(tmp_path, range(182))
    for path in (tmp_path / "images/val2017").iterdir():
        path.rename(path.with_suffix(".png"))
    with pytest.raises(
        DatasetError, match=r"val2017: contains no image of the split; no files match"
    ):
        entries_of("coco_stuff27", tmp_path)


def test_label_maps_that_are_all_missing_are_named(tmp_path):
    write_cityscapes(tmp_path, range(34))
    for path in (tmp_path / "gtFine").rglob("*_labelIds.png"):
        path.unlink()
    with pytest.raises(
        DatasetError,
        match=r"gtFine/val: contains no label map of the split; looked for "
        r"bad-honnef/bad-honnef_000000_000019_gtFine_labelIds\.png, ",
    ):
        entries_of("cityscapes", tmp_path)


def test_check_names_the_first_images_and_labels_that_are_missing(tmp_path, check):
    write_voc(tmp_path / "data")
    (tmp_path / "data/JPEGImages" / f"{VOC_IDS[0]}.jpg").unlink()
    for name in VOC_IDS[2:4]:
        (tmp_path / "data/SegmentationClass" / f"{name}.png").unlink()
    code, said = check("voc")
    assert code == 0
    assert "6 images, 4 label maps, 21 classes" in said
    assert f"image '{VOC_IDS[0]}.jpg': the file does not exist" in said
    for name in VOC_IDS[2:4]:
        line = f"label '{name}.jpg': there is no data/SegmentationClass/{name}.png"
        assert line in said
    assert "usable, but look at 3 warning(s)" in said
    code, said = check("voc", on_bad_image="stop")
    assert code == 1
    assert "3 problem(s)" in said


def test_check_names_images_without_instance_annotations(tmp_path, check):
    write_instances(tmp_path / "data", ANNOTATIONS)
    code, said = check("coco_things")
    assert (code, "6 of them with labels, to be painted" in said) == (0, True)
    images = tmp_path / "data/images/val2017"
    shutil.copy(images / f"{COCO_IDS[0]}.jpg", images / "000000000001.jpg")
    code, said = check("coco_things")
    assert code == 0
    assert "label '000000000001.jpg': the instance annotations do not list this image" in said


@pytest.mark.parametrize("name", WRITERS)
def test_check_is_content_with_a_sound_dataset(tmp_path, check, name):
    WRITERS[name](tmp_path / "data")
    code, said = check(name)
    assert code == 0, said
    assert "all sound" in said


def test_a_list_that_is_missing_is_named_by_check(tmp_path, check):
    write_stuff_maps(tmp_path / "data", range(182))
    code, said = check("coco_stuff27", image_list="none.txt")
    assert code == 1
    assert "dataset.image_list: 'none.txt' cannot be read" in said
    assert "COCOStuff164kCurated.tar.gz" in said


@pytest.mark.parametrize("name", ["voc", "coco_stuff27", "coco_things", "cityscapes"])
def test_each_dataset_has_a_configuration_file(name):
    text = (ROOT / "config" / f"{name}.yaml").read_text()
    config = parse_config(yaml.safe_load(text))["lightcluster"]
    assert config.dataset.format == name
    assert config.backbone.weights == "hub"
    commands = FIELD_FORMATS[name].download.splitlines()
    for line in (line.partition("#")[0].strip() for line in commands):
        assert line in text


def test_dino_against_dinov2_is_ready_to_start():
    configs = parse_config(yaml.safe_load((ROOT / "config" / "dino_dinov2.yaml").read_text()))
    assert list(configs) == ["dino", "dinov2", "dinov2_registers"]
    for config in configs.values():
        assert config.dataset.format == "voc"
        assert build_network(config.backbone.model).embed_dim == 384


def test_scenes_have_annotations(tmp_path):
    instances = Instances(write_instances(tmp_path, scene_annotations()))
    painted = [instances.paint(f"{name}.jpg", SIZE) for name in COCO_IDS]
    assert all(label.any() for label in painted[:-1])
    assert not painted[-1].any()
    write_coco_images(tmp_path)
