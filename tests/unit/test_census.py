"""What label maps and images hold, and what of it looks like a mistake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from builders import quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from lightcluster.datasets.census import Census, findings, read_census, write_census
from lightcluster.datasets.entries import Entry
from lightcluster.datasets.labels import Classes, to_indices
from lightcluster.datasets.manifest import index_entries
from lightcluster.errors import StoreError

TWO = Classes((0, 1), ("background", "disc"))
MANY = Classes(tuple(range(20)), tuple(f"c{number}" for number in range(20)))


def of(
    labels: Sequence[object], classes: Classes = TWO, background: int | None = 0, own: bool = True
) -> tuple[str, str]:
    """Return what is said of label maps of these ids, 255 being ignored; and the warnings."""
    census = Census()
    for label in labels:
        ids = np.atleast_2d(np.asarray(label, np.uint16))
        census.add_label(to_indices(ids, classes, 255), classes)
    found = findings(census, classes, background=background, ignore=255, own=own, labelled=True)
    return "\n".join(item.text for item in found), "\n".join(
        item.text for item in found if item.is_warning
    )


def test_sound_labels_are_counted_and_not_warned_of():
    text, warnings = of([[0, 0, 1, 1], [0, 1, 1, 255]])
    assert text == "2 label maps, 12.5% of their pixels are ignored (value 255)"
    assert warnings == ""


def test_turned_images_are_warned_of_unless_a_size_tells_how_labels_lie(tmp_path):
    """A half turn changes no size, so that a label map of the stored picture would fit."""
    ids, rgb = np.zeros((30, 40), np.uint8), np.zeros((30, 40, 3), np.uint8)
    ids[:9], rgb[5:] = 1, 255

    def said(**turns: int) -> tuple[str, str]:
        entries = []
        for name, orientation in turns.items():
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.fromarray(rgb).save(tmp_path / f"{name}.jpg", exif=exif)
            label = ids.T if orientation >= 5 else ids
            Image.fromarray(label).save(tmp_path / f"{name}.png")
            entries.append(Entry(f"{name}.jpg", tmp_path, tmp_path, f"{name}.png", f"{name}.png"))
        census = Census()
        index_entries(entries, TWO, ignore=255, max_pixels=9999, census=census)
        found = findings(census, TWO, background=0, ignore=255, own=True, labelled=True)
        turned = [item for item in found if "orientation tag" in item.text]
        return tuple("".join(item.text[:1] for item in turned if item.is_warning in kinds)
                     for kinds in ((True,), (False,)))  # fmt: skip

    assert said(a=1, b=1) == ("", "")
    assert said(a=1, b=3, c=2) == ("2", "")
    assert said(a=6, b=1) == ("", "")
    assert said(a=6, b=3) == ("", "1")


def test_borders_as_in_voc_are_no_warning():
    borders = np.zeros((20, 20), int)
    borders[5:15, 5:15], borders[6:14, 6:14] = 255, 1
    assert of([borders, np.roll(borders, 2)])[1] == ""


def test_masks_of_0_and_255_are_warned_of_with_the_share_that_is_ignored():
    text, warnings = of([[0, 0, 0, 255], [0, 255, 0, 0]])
    assert "2 label maps, 25.0% of their pixels are ignored (value 255)" in text
    assert "1 of 2 classes occur in no label map: 1 disc" in text
    assert warnings == (
        "the label maps contain only 0 (background) and 255, which is ignored; if 255 means "
        "objects, replace it by the id of their class"
    )


def test_masks_of_1_and_255_and_no_background_are_warned_of():
    assert "contain only 1 (disc) and 255" in of([[1, 255], [255, 1]], background=None)[1]


def test_labels_of_255_alone_are_warned_of():
    _, warnings = of([[255, 255], [255, 255]])
    assert "100.0% of their pixels are ignored" in warnings
    assert "no pixel of the label maps has a class; if 255 means objects" in warnings


def test_most_of_the_pixels_ignored_is_a_warning():
    assert "60.0% of their pixels are ignored" in of([[0, 1, 255, 255, 255]])[1]
    assert of([[0, 1, 1, 255, 255]])[1] == ""


def test_one_object_of_another_class_does_not_hide_those_that_are_ignored():
    _, warnings = of([[0, 0, 255], [0, 255, 0], [0, 0, 1]])
    assert "2 of 3 label maps contain only 0 (background) and 255, which is ignored" in warnings


def test_a_class_that_is_absent_may_be_the_ignored_one():
    three = Classes((0, 1, 2), ("background", "disc", "ring"))
    labels = [[0, 0, 0, 1, 255], [1, 0, 0, 0, 255]]
    assert "classes are absent while 20.0% of the pixels are ignored; if" in of(labels, three)[1]
    assert of(labels, three, own=False)[1] == ""


def test_background_alone_is_warned_of():
    assert "contain only the background" in of([[0, 0], [0, 0]])[1]


def test_a_background_that_is_absent_is_warned_of():
    assert "the background, class 0, occurs in no label map" in of([[1, 1], [1, 255]])[1]
    assert "the background" not in of([[1, 1], [1, 255]], background=None)[1]


def test_label_maps_that_are_all_the_same_are_warned_of():
    assert "all 3 label maps are identical" in of([[0, 1]] * 3)[1]
    assert of([[0, 1], [0, 1], [1, 0]])[1] == ""
    assert of([[0, 1]])[1] == ""
    assert "the same" not in of([[[0, 1], [0, 1]], [[0, 1, 0, 1]]])[1]


def test_of_absent_classes_the_first_are_named():
    text, _ = of([[0, 1], [1, 0]], MANY)
    assert "18 of 20 classes occur in no label map: 2 c2, 3 c3" in text
    assert "11 c11 and 8 more" in text


def test_images_without_a_label_map_are_counted():
    census = Census()
    for _ in range(3):
        census.add_image(np.arange(27, dtype=np.uint8).reshape(3, 3, 3) * 9)
    census.add_label(np.array([[0, 1]], np.uint16), TWO)
    options = {"background": 0, "ignore": 255, "own": True}
    found = findings(census, TWO, labelled=True, **options)
    assert found[0].text == "2 of 3 images have no usable label map"
    assert findings(census, None, labelled=False, **options) == []


def test_images_of_one_colour_are_said_and_warned_of_if_they_are_most():
    options = {"background": 0, "ignore": 255, "own": True, "labelled": False}
    census = Census()
    census.add_image(np.zeros((4, 5, 3), np.uint8))
    (black,) = findings(census, None, **options)
    assert black.is_warning
    assert black.text.startswith("1 of 1 images have a single colour: there is nothing in them")
    for _ in range(2):
        census.add_image(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    (few,) = findings(census, None, **options)
    assert not few.is_warning


@quick
@given(st.lists(hnp.arrays(np.uint16, (2, 3), elements=st.sampled_from([0, 1, 255])), max_size=6),
       st.integers(0, 6))  # fmt: skip
def test_shards_add_up(tmp_path_factory, labels, split):
    folder = tmp_path_factory.getbasetemp()
    whole, parts = Census(), [Census(), Census()]
    for place, label in enumerate(labels):
        for census in (whole, parts[place >= split]):
            census.add_label(to_indices(label, TWO, 255), TWO)
    for number, part in enumerate(parts):
        write_census(folder / f"{number}.csv", part)
    read = read_census([folder / "0.csv", folder / "1.csv"])
    assert read.counts["class", "1"] == sum((label == 1).any() for label in labels)
    assert read.pixels["ignored", ""] == sum(int((label == 255).sum()) for label in labels)
    options = {"background": 0, "ignore": 255, "own": True, "labelled": True}
    assert findings(read, TWO, **options) == findings(whole, TWO, **options)


def test_a_damaged_census_is_named(tmp_path: Path):
    (tmp_path / "census.csv").write_text("what,value\nclass,1\n")
    for path in (tmp_path / "census.csv", tmp_path / "none.csv"):
        with pytest.raises(StoreError, match=rf"{path.name}: cannot be read .*; run snakemake"):
            read_census([path])
