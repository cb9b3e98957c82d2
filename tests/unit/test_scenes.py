"""The generated scenes of the demo."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.formats.demo import demo_names
from lightcluster.datasets.labels import background_index, read_classes, read_label
from lightcluster.datasets.scenes import (
    CLASSES,
    OBJECT_CLASSES,
    SceneStyle,
    _shadow,
    render_scene,
    scene_name,
    write_scenes,
)
from lightcluster.errors import ConfigError, DatasetError

SMALL = SceneStyle(height=96, width=128)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render_scene(0, index) for index in range(60)]


@pytest.fixture(scope="module")
def small_scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render_scene(1, index, SMALL) for index in range(160)]


def draw(style, count):
    return [render_scene(2, index, style) for index in range(count)]


# ---- one scene -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (7, 3), (2**31, 99_999)])
def test_a_scene_depends_on_seed_and_index_alone(seed, index):
    first = render_scene(seed, index, SMALL)
    np.random.seed(5)  # noqa: NPY002 - the global state must not matter
    render_scene(seed + 1, index, SMALL)
    for one, other in zip(first, render_scene(seed, index, SMALL), strict=True):
        np.testing.assert_array_equal(one, other)


def test_seeds_and_indices_give_different_scenes():
    keys = [(seed, index) for seed in range(4) for index in range(4)]
    scenes = [render_scene(*key, SMALL) for key in keys]
    assert len({image.tobytes() for image, _ in scenes}) == len(keys)
    assert len({labels.tobytes() for _, labels in scenes}) == len(keys)


def test_images_are_8_bit_rgb_and_labels_are_ids_of_the_same_size(scenes, small_scenes):
    for image, labels in scenes + small_scenes:
        assert image.dtype == labels.dtype == np.uint8
        assert image.shape == (*labels.shape, 3)
        assert labels.max() < len(CLASSES)
        assert image.std() > 5  # neither black nor blank


def test_objects_are_drawn_where_their_labels_are():
    """With and without objects, one scene differs on the labelled pixels above all."""
    with_one, empty = SceneStyle(objects=(1, 1)), SceneStyle(objects=(0, 0))
    for index in range(4):
        image, labels = render_scene(0, index, with_one)
        ground, none = render_scene(0, index, empty)
        assert not none.any()
        change = np.abs(image.astype(float) - ground).mean(axis=2)
        assert change[labels > 0].mean() > 2 * change[labels == 0].mean()


def test_a_shadow_ends_at_the_border_of_the_image():
    """It must not come in again on the other side."""
    coverage = np.zeros((40, 30, 1), dtype=np.float32)
    coverage[:12] = 1
    shadow = _shadow(coverage, size=60, light=-math.pi / 2)  # it falls upwards, off the image
    assert shadow[:4].min() > 0.3
    assert shadow[-6:].max() == 0


def test_objects_are_in_focus_and_what_lies_behind_them_is_not(scenes):
    """The cue that colour does not have: fine detail, here the difference to a blurred copy."""
    sharper = []
    for image, labels in scenes:
        grey = image.mean(axis=2)
        detail = np.abs(grey - gaussian_filter(grey, 1.5))
        inside = binary_erosion(labels > 0, iterations=3)
        outside = binary_erosion(labels == 0, iterations=3)
        sharper.append(detail[inside].mean() > detail[outside].mean())
    assert np.mean(sharper) > 0.9


@pytest.mark.parametrize("number", [0, 1, pytest.param(5, marks=pytest.mark.thorough)])
def test_no_scene_has_more_classes_than_objects(number):
    style = SceneStyle(height=96, width=128, objects=(number, number))
    found = [np.unique(labels[labels > 0]).size for _, labels in draw(style, 8)]
    assert max(found) <= number
    assert min(found) >= min(number, 1)


def test_two_objects_stand_apart(scenes):
    several = [labels for _, labels in scenes if np.unique(labels).size > 2]
    touching = 0
    for labels in several:
        first, second = (labels == label for label in np.unique(labels)[1:])
        touching += bool((binary_dilation(first, iterations=4) & second).any())
    assert len(several) > 15
    assert touching <= 1


@pytest.mark.parametrize(
    "style",
    [
        {"height": 31},
        {"width": 31},
        {"objects": (2, 1)},
        {"objects": (-1, 1)},
        {"object_share": (0, 0.1)},
        {"object_share": (0.3, 0.2)},
        {"object_share": (0.3, 1)},
        {"defocus": (-1, 2)},
        {"defocus": (3, 2)},
        {"noise": (-1, 2)},
        {"noise": (3, 2)},
    ],
)
def test_impossible_styles_are_refused(style):
    with pytest.raises(ConfigError, match=next(iter(style))):
        SceneStyle(**style)


# ---- many scenes ---------------------------------------------------------------------------------


def test_every_class_occurs_and_the_background_prevails(scenes):
    pixels = sum(np.bincount(labels.ravel(), minlength=len(CLASSES)) for _, labels in scenes)
    share = pixels / pixels.sum()
    assert 0.5 < share[0] < 0.85
    assert share[1:].min() > 0.005
    in_scenes = [
        sum(bool((labels == i).any()) for _, labels in scenes) for i in range(len(CLASSES))
    ]
    assert min(in_scenes) >= 3


def test_landscape_portrait_and_square_scenes_occur(scenes):
    shapes = [labels.shape for _, labels in scenes]
    assert set(shapes) == {(240, 320), (320, 240), (277, 277)}
    assert min(shapes.count(shape) for shape in set(shapes)) >= 5


def test_one_format_when_formats_are_not_mixed():
    style = SceneStyle(height=40, width=64, mixed_formats=False)
    assert {labels.shape for _, labels in draw(style, 12)} == {(40, 64)}


def objects_of(scenes):
    """Mean colour [n, 3] and class [n] of the pixels of each class in each scene."""
    found = [
        (image[labels == label].mean(axis=0), label)
        for image, labels in scenes
        for label in np.unique(labels[labels > 0])
    ]
    return np.array([colour for colour, _ in found]), np.array([label for _, label in found])


def told_by_colour(scenes):
    """Share of the objects whose class has the nearest mean colour, fitted on the other half."""
    hits = []
    for fitted, held_out in ((scenes[::2], scenes[1::2]), (scenes[1::2], scenes[::2])):
        colours, labels = objects_of(fitted)
        known = np.unique(labels)
        means = np.array([colours[labels == label].mean(axis=0) for label in known])
        colours, labels = objects_of(held_out)
        distance = np.linalg.norm(colours[:, None] - means[None], axis=2)
        hits.append(known[distance.argmin(axis=1)] == labels)
    return np.concatenate(hits)


def test_colour_alone_does_not_tell_the_class(small_scenes):
    """Chance is 1/8; with some 300 objects its standard deviation is 0.02."""
    hits = told_by_colour(small_scenes)
    assert hits.size > 200
    assert hits.mean() < 0.22


def test_colour_would_tell_the_class_if_classes_were_tinted(small_scenes):
    """A control of the test above: tints that vary as much as the objects of a class are found."""
    tints = np.random.default_rng(0).normal(0, 32, (len(CLASSES), 3))
    tints[0] = 0
    tinted = [(image + tints[labels], labels) for image, labels in small_scenes]
    assert told_by_colour(tinted).mean() > 0.35


def test_classes_are_the_background_and_the_names_of_the_objects():
    assert CLASSES[0] == "background"
    assert len(set(CLASSES)) == len(CLASSES) == len(OBJECT_CLASSES) + 1


# ---- files ---------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_two_runs_write_the_same_files_and_the_count_changes_no_scene(tmp_path):
    for name, count in (("a", 5), ("b", 5), ("fewer", 2)):
        write_scenes(tmp_path / name, count, 3, SMALL)
    files, fewer = contents(tmp_path / "a"), contents(tmp_path / "fewer")
    assert contents(tmp_path / "b") == files
    assert len(files) == 2 * 5 + 1
    assert len(fewer) == 2 * 2 + 1
    assert fewer.items() <= files.items()
    write_scenes(tmp_path / "other", 2, 4, SMALL)
    other = contents(tmp_path / "other")
    assert {name for name in fewer if fewer[name] == other[name]} == {"classes.csv"}


def test_the_files_are_those_that_the_listing_expects(tmp_path):
    write_scenes(tmp_path, 3, 0, SMALL)
    names = demo_names(3)
    expected = {"classes.csv"}
    expected |= {f"images/{name}.jpg" for name in names}
    expected |= {f"labels/{name}.png" for name in names}
    assert set(contents(tmp_path)) == expected


def test_names_stay_those_of_the_listing_beyond_four_digits():
    assert [scene_name(index) for index in range(10_002)] == demo_names(10_002)


def test_files_hold_the_scene(tmp_path):
    write_scenes(tmp_path, 3, 0, SMALL)
    for index, name in enumerate(demo_names(3)):
        image, labels = render_scene(0, index, SMALL)
        stored = read_label(LabelFile(tmp_path / "labels" / f"{name}.png"), labels.shape)
        np.testing.assert_array_equal(stored, labels)
        with Image.open(tmp_path / "images" / f"{name}.jpg") as file:
            assert (file.format, file.mode) == ("JPEG", "RGB")
            decoded = np.asarray(file).astype(float)
        assert np.abs(decoded - image).mean() < 8


def test_the_table_of_classes_can_be_read(tmp_path):
    write_scenes(tmp_path, 1, 0, SMALL)
    classes = read_classes(tmp_path / "classes.csv")
    assert classes.ids == tuple(range(len(CLASSES)))
    assert classes.names == CLASSES
    assert classes.names[background_index(classes, 0)] == "background"


def test_scenes_are_overwritten_but_not_mixed_with_others(tmp_path):
    write_scenes(tmp_path, 2, 0, SMALL)
    write_scenes(tmp_path, 3, 1, SMALL)
    with pytest.raises(DatasetError, match=r"1 other files, such as scene-0002\.jpg"):
        write_scenes(tmp_path, 2, 0, SMALL)


def test_images_of_the_same_name_in_another_format_are_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "scene-0000.png").touch()
    with pytest.raises(DatasetError, match=r"scene-0000\.png"):
        write_scenes(tmp_path, 1, 0, SMALL)


def test_no_scenes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="count: 0"):
        write_scenes(tmp_path, 0, 0)
    assert not contents(tmp_path)
