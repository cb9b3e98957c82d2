"""Objects as connected components."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from builders import quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lightcluster.regions.components import find_components, grow_box, number_regions


def picture(*lines: str) -> NDArray[np.bool_]:
    return np.asarray([[letter == "#" for letter in line] for line in lines])


def flood_fill(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """Components of 8 neighbours, pixel by pixel, in the order of their first pixels."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    components = []
    while left:
        waiting, component = [min(left)], set()
        left -= set(waiting)
        while waiting:
            y, x = waiting.pop()
            component.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            waiting.extend(near)
        components.append(component)
    return components


masks = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
shares = st.sampled_from(["0", "0.01", "0.02", "0.05", "0.07", "0.1", "0.14", "0.29", "0.5"])


@quick
@given(mask=masks, share=shares)
def test_regions_are_those_of_a_flood_fill(mask: NDArray[np.bool_], share: str) -> None:
    components = sorted(flood_fill(mask), key=len, reverse=True)
    kept = [
        component
        for rank, component in enumerate(components)
        if rank == 0 or len(component) >= Fraction(share) * mask.size
    ]
    regions = find_components(mask, float(share))
    assert regions.area.tolist() == [len(component) for component in kept]
    found = [
        {(int(y), int(x)) for y, x in np.argwhere(regions.label == number + 1)}
        for number in range(len(kept))
    ]
    assert found == kept
    assert regions.label.shape == mask.shape
    assert regions.label.max() == len(kept)
    for pixels, box, area in zip(found, regions.box.tolist(), regions.area.tolist(), strict=True):
        ys, xs = zip(*pixels, strict=True)
        assert box == [min(ys), min(xs), max(ys) + 1, max(xs) + 1]
        assert area == len(pixels)


def test_diagonal_neighbours_are_connected() -> None:
    regions = find_components(picture("#..", ".#.", "..#"), 0)
    assert regions.area.tolist() == [3]
    assert regions.box.tolist() == [[0, 0, 3, 3]]


def test_regions_are_ordered_by_area_and_small_ones_dropped() -> None:
    mask = picture(
        "#.......##",
        "........##",
        "###.......",
        "###.....##",
        "..........",
    )
    regions = find_components(mask, 0.04)
    assert regions.area.tolist() == [6, 4, 2]
    assert regions.box.tolist() == [[2, 0, 4, 3], [0, 8, 2, 10], [3, 8, 4, 10]]
    assert regions.label[2, 0] == 1
    assert regions.label[0, 9] == 2
    assert regions.label[3, 8] == 3
    assert regions.label[0, 0] == 0
    assert find_components(mask, 0).area.tolist() == [6, 4, 2, 1]
    assert (regions.label.dtype, regions.box.dtype, regions.area.dtype) == (
        np.int32,
        np.int64,
        np.int64,
    )


def test_of_equal_areas_the_first_row_by_row_comes_first() -> None:
    regions = find_components(picture("....##", "##....", "....##"), 0)
    assert regions.box[:, 0].tolist() == [0, 1, 2]


def test_the_largest_region_is_kept_however_small() -> None:
    mask = np.zeros((50, 50), bool)
    mask[3, 4] = mask[10, 10] = True
    regions = find_components(mask, 0.5)
    assert regions.area.tolist() == [1]
    assert regions.box.tolist() == [[3, 4, 4, 5]]
    assert regions.label.sum() == 1


def test_the_smallest_area_counts_in_exactly_though_shares_are_rounded() -> None:
    """7 of 100 pixels cover 0.07, although 0.07 * 100 is above 7 in floating point."""
    mask = np.zeros((10, 10), bool)
    mask[0] = True
    mask[5, :7] = True
    assert find_components(mask, 0.07).area.tolist() == [10, 7]


def test_any_map_of_regions_is_numbered_by_area() -> None:
    """Values that are missing, and parts that are not connected."""
    values = np.asarray([[7, 0, 7, 3], [2, 2, 2, 3]])
    regions = number_regions(values)
    assert regions.label.tolist() == [[3, 0, 3, 2], [1, 1, 1, 2]]
    assert regions.area.tolist() == [3, 2, 2]
    assert regions.box.tolist() == [[1, 0, 2, 3], [0, 3, 2, 4], [0, 0, 1, 3]]


def test_an_empty_mask_has_no_region() -> None:
    regions = find_components(np.zeros((4, 5), bool), 0.02)
    assert regions.box.shape == (0, 4)
    assert regions.area.shape == (0,)
    assert not regions.label.any()


def test_a_full_mask_is_one_region() -> None:
    regions = find_components(np.ones((4, 5), bool), 0.02)
    assert regions.box.tolist() == [[0, 0, 4, 5]]
    assert regions.area.tolist() == [20]


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((10, 20, 30, 60), 0, (10, 20, 30, 60)),
        ((10, 20, 30, 60), 0.1, (8, 16, 32, 64)),
        ((10, 20, 30, 60), 0.5, (0, 0, 40, 80)),
        ((10, 20, 30, 60), 2, (0, 0, 50, 100)),
        ((49, 99, 50, 100), 1, (48, 98, 50, 100)),
        ((0, 0, 1, 1), 0.15, (0, 0, 1, 1)),
    ],
)
def test_boxes_grow_within_the_image(
    box: tuple[int, ...], margin: float, expected: tuple[int, ...]
) -> None:
    assert grow_box(np.asarray(box), margin, (50, 100)) == expected
