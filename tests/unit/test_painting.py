"""Segmentations and masks as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import write_manifest, write_pixel_masks, write_region_maps
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from lightcluster.errors import StoreError
from lightcluster.files import encode_names, write_arrays
from lightcluster.regions.components import find_components
from lightcluster.regions.painting import (
    paint_masks,
    paint_regions,
    paint_segmentation,
    read_labelled_regions,
    save_indexed,
)
from lightcluster.regions.palette import (
    Value,
    colors_of,
    palette,
    read_palette,
    write_palette,
)
from lightcluster.reporting.overlays import overlay_classes

PAGES = ["#ffffff", "#f4f6f8", "#12161c", "#1b212a"]
"""Paper and panels of the pages (style.css), in the light scheme and in the dark one."""


def differences(lab: np.ndarray, others: np.ndarray) -> np.ndarray:
    """CIEDE2000 between each of some colours and each of others."""
    return deltaE_ciede2000(lab[:, None], others[None])


def test_every_colour_stands_out() -> None:
    """From greys, from the pages, from photographs, and from other colours (CIEDE2000)."""
    colors = palette()
    assert (colors.shape, colors.dtype) == ((256, 3), np.uint8)
    assert colors[0].tolist() == [0, 0, 0]
    assert len(np.unique(colors, axis=0)) == 256
    lab = rgb2lab(colors[1:])
    greys = rgb2lab(np.repeat(np.arange(256)[:, None], 3, axis=1).astype(np.uint8))
    assert differences(lab, greys).min() > 14
    pages = np.array([[int(page[at : at + 2], 16) for at in (1, 3, 5)] for page in PAGES])
    assert differences(lab, rgb2lab(pages.astype(np.uint8))).min() > 20
    # Classes are drawn over images without colour, which their own must change at any lightness.
    ramp = np.repeat(np.arange(0, 256, 15)[:, None], 3, axis=1).astype(np.uint8)
    for grey in ramp:
        image = np.full((1, 3 * 255, 3), grey, np.uint8)
        drawn = overlay_classes(image, np.arange(1, 256).repeat(3)[None])[0, 1::3]  # no borders
        assert differences(rgb2lab(drawn), rgb2lab(grey)[None]).min() > 8


@pytest.mark.parametrize(("number", "least"), [(8, 25), (16, 17), (32, 12), (64, 8), (255, 4)])
def test_the_first_colours_are_easy_to_tell_apart(number: int, least: float) -> None:
    lab = rgb2lab(palette()[1 : number + 1])
    assert (differences(lab, lab) + 1000 * np.eye(number)).min() > least


def test_colours_repeat_but_that_of_the_background() -> None:
    values = np.array([[0, 1, 255], [256, 510, 511]])
    expected = palette()[[[0, 1, 255], [1, 255, 1]]]
    np.testing.assert_array_equal(colors_of(values), expected)


def test_a_table_of_values_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    write_palette(path, ["background", 'a, "b"', "c"], [None, 7, 0], "regions")
    assert read_palette(path) == [
        Value("background", (0, 0, 0), None),
        Value('a, "b"', tuple(palette()[1].tolist()), 7),
        Value("c", tuple(palette()[2].tolist()), 0),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not enough values"),
        ("id,name\n0,a\n", "needs the columns id, name and color"),
        ("id,name,color,regions\n", "a line for each value"),
        ("id,name,color,regions\n1,a,#000000,\n", "value '1' stands in the place of 0"),
        ("id,name,color,regions\n0,a,black,\n", "'black' is no colour"),
        ("id,name,color,regions\n0,a,#00000g,\n", "hexadecimal"),
        ("id,name,color,regions\n0,a\n", "not enough values"),
        ("id,name,color,regions\n0,a,#000000,many\n", "invalid literal"),
    ],
)
def test_a_damaged_table_of_values_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(text)
    with pytest.raises(StoreError, match=rf"classes\.csv: cannot be read \(.*{reason}"):
        read_palette(path)


def test_regions_are_painted_in_their_classes() -> None:
    label = np.asarray([[0, 1, 1], [2, 0, 3]], np.int32)
    painted = paint_regions(label, np.asarray([7, 300, 7]))
    assert painted.tolist() == [[0, 7, 7], [300, 0, 7]]
    assert painted.dtype == np.uint16


def test_an_image_without_regions_is_background() -> None:
    painted = paint_regions(np.zeros((2, 2), np.int32), np.empty(0, np.int64))
    assert painted.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("largest", [0, 1, 255])
def test_up_to_255_classes_are_saved_in_colour(tmp_path: Path, largest: int) -> None:
    classes = np.arange(60, dtype=np.uint16).reshape(6, 10) * largest // 59
    save_indexed(classes, tmp_path / "a" / "map.png")
    with Image.open(tmp_path / "a" / "map.png") as image:
        assert (image.format, image.mode) == ("PNG", "P")
        np.testing.assert_array_equal(np.asarray(image), classes)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette()[classes])


@pytest.mark.parametrize("largest", [256, 10_000, 65_535])
def test_more_classes_are_saved_in_16_bits(tmp_path: Path, largest: int) -> None:
    classes = np.asarray([[0, 1, 255], [256, largest, 0]], np.uint16)
    save_indexed(classes, tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as image:
        assert (image.format, image.mode) == ("PNG", "I;16")
        np.testing.assert_array_equal(np.asarray(image), classes)


MASKS = {
    "one.jpg": np.kron([[1, 0, 0], [0, 0, 1]], np.ones((4, 5))).astype(bool),
    "none.jpg": np.zeros((3, 9), bool),
    "several.jpg": np.kron([[1, 0, 1], [0, 0, 0], [1, 0, 0]], np.ones((3, 3))).astype(bool),
}
MASKS["one.jpg"][0, 9] = True  # a speck, below the smallest area
OUTPUTS = {
    "one.jpg": "nested/deeper/ünï cödé [1].png",
    "none.jpg": "none.jpg.png",
    "several.jpg": "with.dots,and'quotes\".tar.png",
}
SIZES = {name: mask.shape for name, mask in MASKS.items()}
CENTROIDS = np.eye(3, dtype=np.float32)


def found_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def read_png(path: Path) -> tuple[str, NDArray[np.uint8]]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.mode, np.asarray(image)


def paint_classes(folder: Path, classes: list[int]) -> None:
    """Paint the segmentation of `MASKS`, whose regions have these classes in their order."""
    regions = {name: find_components(mask, 0.05) for name, mask in MASKS.items()}
    image = np.repeat(np.arange(3), [len(found.area) for found in regions.values()])
    assert len(image) == len(classes)
    write_arrays(
        folder / "regions.npz", image=image.astype(np.int32), key=CENTROIDS[np.asarray(classes) - 1]
    )
    write_arrays(
        folder / "labelling.npz", features=encode_names(["key"]),
        centers=np.zeros((1, 3), np.float32), components=np.eye(3, dtype=np.float32),
        centroids=CENTROIDS,
    )  # fmt: skip
    manifest = write_manifest(
        folder / "manifest.csv", dict(reversed(SIZES.items())), outputs=OUTPUTS
    )
    maps = write_region_maps(folder / "maps.npz", MASKS, 0.05)
    paint_segmentation(
        manifest, maps, folder / "regions.npz", folder / "labelling.npz", folder / "out",
        folder / "out.csv",
    )  # fmt: skip


def test_each_image_is_segmented_by_the_classes_of_its_own_regions(tmp_path: Path) -> None:
    paint_classes(tmp_path, [3, 1, 2, 1, 2])
    assert found_in(tmp_path / "out") == sorted(OUTPUTS.values())
    painted = {name: read_png(tmp_path / "out" / output) for name, output in OUTPUTS.items()}
    assert {mode for mode, _ in painted.values()} == {"P"}
    expected = np.kron([[3, 0, 0], [0, 0, 1]], np.ones((4, 5)))
    np.testing.assert_array_equal(painted["one.jpg"][1], expected)
    np.testing.assert_array_equal(painted["none.jpg"][1], np.zeros((3, 9)))
    expected = np.kron([[2, 0, 1], [0, 0, 0], [2, 0, 0]], np.ones((3, 3)))
    np.testing.assert_array_equal(painted["several.jpg"][1], expected)


def test_the_table_of_regions_says_where_each_is_and_what(tmp_path: Path) -> None:
    paint_classes(tmp_path, [3, 1, 2, 1, 2])
    found = list(read_labelled_regions(tmp_path / "out.csv"))
    assert [(one.image_id, one.region, one.cluster) for one in found] == [
        ("one.jpg", 1, 3), ("one.jpg", 2, 1), ("several.jpg", 1, 2), ("several.jpg", 2, 1),
        ("several.jpg", 3, 2),
    ]  # fmt: skip
    assert {one.confidence for one in found} == {1.0}
    last = found[-1]
    assert (last.area, last.top, last.left, last.bottom, last.right) == (9, 6, 0, 9, 3)
    (tmp_path / "out.csv").write_text("image_id,region\na,b\n")
    with pytest.raises(StoreError, match=r"out\.csv: cannot be read"):
        list(read_labelled_regions(tmp_path / "out.csv"))


def test_painting_again_replaces_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale.png").write_bytes(b"")
    paint_classes(tmp_path, [1, 1, 1, 1, 1])
    assert found_in(tmp_path / "out") == sorted(OUTPUTS.values())


def test_masks_are_painted_in_one_bit(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.csv", SIZES, outputs=OUTPUTS)
    paint_masks(manifest, write_pixel_masks(tmp_path / "masks.npz", MASKS), tmp_path / "out")
    assert found_in(tmp_path / "out") == sorted(OUTPUTS.values())
    for name, output in OUTPUTS.items():
        mode, mask = read_png(tmp_path / "out" / output)
        assert mode == "1"
        np.testing.assert_array_equal(mask, MASKS[name])
