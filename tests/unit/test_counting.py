"""Counts of pixels, against counting them one by one."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    write_classes,
    write_level_masks,
    write_manifest,
    write_patch_scores,
    write_pixel_masks,
    write_png,
    write_region_maps,
)
from numpy.typing import NDArray
from scipy import ndimage

from lightcluster.datasets.labels import IGNORED
from lightcluster.errors import StoreError
from lightcluster.evaluation.counting import (
    best_classes,
    count_confusion,
    count_labels,
    iter_images,
    read_class_counts,
    relabel,
)
from lightcluster.evaluation.mask_counts import (
    STAGES,
    MaskCounts,
    count_masks,
    images_by_class,
    read_mask_counts,
    score_masks,
    sum_mask_counts,
)
from lightcluster.evaluation.region_counts import (
    count_by_region,
    count_regions,
    read_region_counts,
)
from lightcluster.files import decode_names, encode_names, read_arrays, write_arrays
from lightcluster.masks.upsampling import upsample
from lightcluster.regions.components import find_components
from lightcluster.regions.number import number_of_clusters
from lightcluster.regions.painting import paint_regions, save_indexed

IDS = (0, 3, 7, 200)
IGNORE = 255
K = 3
SIZES = {"a.jpg": (9, 13), "b/c.jpg": (16, 8), "unlabelled.jpg": (10, 10), "d.jpg": (12, 21)}
GRIDS = {"a.jpg": (3, 5), "b/c.jpg": (4, 2), "unlabelled.jpg": (2, 2), "d.jpg": (5, 7)}  # no ties
LABELLED = [name for name in SIZES if name != "unlabelled.jpg"]
IN_MANIFEST = LABELLED[::-1]
"""The order of the manifest, in which counts are kept; the masks are in another."""

MIN_AREA = 0.045


class Shard:
    """Files of a shard of four images with random contents."""

    def __init__(self, folder: Path, names: list[str] | None = None) -> None:
        generator = np.random.default_rng(0)
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.truth, self.masks, self.votes, self.scores, self.painted = {}, {}, {}, {}, {}
        self.drawn = {}
        for name, size in SIZES.items():  # drawn for all images, so that a part is equal
            self.truth[name] = generator.choice([*IDS, IGNORE], size)
            coarse = generator.random((5, 5)) < 0.3
            self.masks[name] = upsample(coarse, size, "nearest") > 0.5
            self.votes[name] = generator.random((3, *GRIDS[name])) < 0.4
            self.scores[name] = self.votes[name].mean(axis=0).astype(np.float16)
            regions = find_components(self.masks[name], MIN_AREA)
            self.drawn[name] = generator.integers(1, K + 1, len(regions.area))
            self.painted[name] = paint_regions(regions.label, self.drawn[name])
        self.names = list(SIZES) if names is None else names
        self.labels = {
            name: write_png(folder / "labels" / f"{number}.png", self.truth[name].astype(np.uint8))
            for number, name in enumerate(self.names)
            if name in LABELLED
        }
        self.outputs = {name: f"out put/{name}.png" for name in self.names}
        for name, output in self.outputs.items():
            save_indexed(self.painted[name], folder / "segmentation" / output)
        self.index()
        self.classes = write_classes(folder / "classes.csv", {n: f"class {n}" for n in IDS})
        self.pixels = write_pixel_masks(folder / "pixels.npz", self.of(self.masks))
        self.maps = write_region_maps(folder / "maps.npz", self.of(self.masks), MIN_AREA)
        self.merged = write_level_masks(folder / "merged.npz", self.of(self.votes))
        self.patches = write_patch_scores(folder / "patches.npz", self.of(self.scores))

    def index(self) -> None:
        """Write the manifest of the label maps as they are now."""
        self.manifest = write_manifest(
            self.folder / "manifest.csv", {name: SIZES[name] for name in reversed(self.names)},
            labels=self.labels, outputs=self.outputs,
        )  # fmt: skip

    def of(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {name: arrays[name] for name in self.names}

    def count_masks(self, **changes: Any) -> MaskCounts:
        settings = {"background": 0, "ignore": IGNORE, "upsampling": "bilinear", "threshold": 0.5}
        output = self.folder / "mask-counts.npz"
        count_masks(
            self.manifest, self.classes, self.merged, self.patches, self.pixels, output,
            **settings | changes,
        )  # fmt: skip
        return read_mask_counts(output)

    def count_regions(self, **changes: Any) -> Path:
        settings = {
            "background": 0, "ignore": IGNORE, "protocols": ["maskcontrast"], "stego_squash": False,
        }  # fmt: skip
        output = self.folder / "region-counts.npz"
        count_regions(self.manifest, self.classes, self.maps, output, **settings | changes)
        return output

    def count(self, classes: int = K, seed: int = 0, **changes: Any) -> dict[str, NDArray[Any]]:
        """Count the drawn classes, by features that are the class of each region."""
        drawn = np.concatenate([self.drawn[name] for name in self.names])
        directions = np.eye(classes, dtype=np.float32)
        write_arrays(self.folder / "regions.npz", cls=directions[drawn - 1])
        write_arrays(
            self.folder / "labelling.npz", features=encode_names(["cls"]),
            centers=np.zeros((1, classes), np.float32), components=directions, centroids=directions,
        )  # fmt: skip
        count_labels(
            self.count_regions(**changes), self.folder / "regions.npz",
            {seed: self.folder / "labelling.npz"}, self.folder / "class-counts",
        )  # fmt: skip
        return self.read(self.folder / "class-counts" / f"seed-{seed}.npz")

    def count_segments(self, **changes: Any) -> dict[str, NDArray[Any]]:
        """Count the segmentation, as of a method without masks."""
        settings = {
            "classes": K, "background": 0, "ignore": IGNORE,
            "protocols": ["maskcontrast"], "stego_squash": False, "clusters": number_of_clusters,
        }  # fmt: skip
        count_confusion(
            self.manifest, self.classes, {0: self.folder / "segmentation"},
            self.folder / "class-counts", **settings | changes,
        )  # fmt: skip
        return self.read(self.folder / "class-counts" / "seed-0.npz")

    @staticmethod
    def read(counts: Path) -> dict[str, NDArray[Any]]:
        arrays = read_arrays(counts)
        return {name.removeprefix("original."): array for name, array in arrays.items()}


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return Shard(tmp_path / "shard")


def test_the_shard_is_worth_counting(shard: Shard) -> None:
    all_regions, regions = (
        sum(len(find_components(shard.masks[name], least).area) for name in LABELLED)
        for least in (0, MIN_AREA)
    )
    assert all_regions > regions > len(LABELLED)
    painted = np.concatenate([shard.painted[name].ravel() for name in LABELLED])
    assert set(painted.tolist()) == {0, 1, 2, 3}


def pixels_of(size: tuple[int, int]) -> list[tuple[int, int]]:
    return [(y, x) for y in range(size[0]) for x in range(size[1])]


def patch_under(pixel: tuple[int, int], size: tuple[int, int], grid: tuple[int, int]) -> Any:
    (y, x), (height, width), (rows, columns) = pixel, size, grid
    return int((y + 0.5) * rows / height), int((x + 0.5) * columns / width)


def slow_mask_counts(
    shard: Shard, *, background: int = 0, method: str = "bilinear", threshold: float = 0.5
) -> tuple[NDArray[np.int64], int]:
    counts, ignored = np.zeros((len(STAGES), 2, 2), np.int64), 0
    for name in LABELLED:
        size, grid = SIZES[name], GRIDS[name]
        smooth = upsample(shard.scores[name], size, method)
        for pixel in pixels_of(size):
            true = shard.truth[name][pixel]
            if true == IGNORE:
                ignored += 1
                continue
            patch = patch_under(pixel, size, grid)
            predicted = [
                *(shard.votes[name][level][patch] for level in range(3)),
                shard.votes[name].mean(axis=0)[patch] > threshold,
                shard.scores[name][patch] > threshold,
                smooth[pixel] > threshold,
                shard.masks[name][pixel],
            ]
            for stage, foreground in enumerate(predicted):
                counts[stage, int(foreground), int(true != background)] += 1
    return counts, ignored


@pytest.mark.parametrize(
    "changes",
    [{}, {"background": 7}, {"method": "nearest"}, {"threshold": 0.8}, {"threshold": 0.2}],
)
def test_masks_of_all_stages_are_counted(shard: Shard, changes: dict[str, Any]) -> None:
    expected, ignored = slow_mask_counts(shard, **changes)
    renamed = {"upsampling" if n == "method" else n: value for n, value in changes.items()}
    counted = shard.count_masks(**renamed)
    np.testing.assert_array_equal(counted.tables().sum(axis=0), expected)
    assert counted.ignored.sum() == ignored
    ground = IDS.index(changes.get("background", 0))
    assert counted.background == ground
    by_class, seen = counted.by_class.sum(axis=0), images_by_class(counted)
    for number, label_id in enumerate(IDS):
        true = [shard.truth[name] == label_id for name in LABELLED]
        assert seen[number] == sum(map(np.any, true))
        pixels = sum(map(np.sum, true))
        assert (by_class[:, :, number].sum(axis=1) == pixels).all()
        taken = sum(
            (shard.masks[name] & here).sum() for name, here in zip(LABELLED, true, strict=True)
        )
        assert by_class[-1, 1, number] == taken
    sizes = [[np.prod(SIZES[name])] * len(STAGES) for name in IN_MANIFEST]
    found = counted.by_class.sum(axis=(2, 3)) + counted.ignored[:, None]
    np.testing.assert_array_equal(found, sizes)


def test_the_stages_are_in_the_order_of_their_names(shard: Shard) -> None:
    assert list(STAGES) == [
        *("dataset", "category", "image"),
        *("merged", "reestimated", "upsampled", "refined"),
    ]


def test_without_a_background_class_there_are_no_masks_to_count(shard: Shard) -> None:
    counted = shard.count_masks(background=None)
    assert (counted.by_class.shape, counted.background) == ((0, len(STAGES), 2, len(IDS)), -1)
    assert (counted.boundary_f.shape, counted.ignored.shape) == ((0, len(STAGES)), (0,))


def slow_confusion(
    shard: Shard, predicted: dict[str, NDArray[Any]], rows: int, names: list[str] = LABELLED
) -> tuple[NDArray[np.int64], int]:
    counts, ignored = np.zeros((rows, len(IDS)), np.int64), 0
    for name in names:
        for pixel in pixels_of(SIZES[name]):
            true = shard.truth[name][pixel]
            if true == IGNORE:
                ignored += 1
            else:
                counts[predicted[name][pixel], IDS.index(true)] += 1
    return counts, ignored


def test_the_segmentation_is_counted_by_class_position(shard: Shard) -> None:
    expected, ignored = slow_confusion(shard, shard.painted, K + 1)
    counted = shard.count()
    np.testing.assert_array_equal(counted["segmentation"], expected)
    assert counted["ignored"].sum() == ignored
    assert decode_names(counted["image_id"]) == IN_MANIFEST


def test_each_image_is_counted_by_itself(shard: Shard) -> None:
    shard.count()
    images = list(iter_images([shard.folder / "class-counts/seed-0.npz"], "original"))
    assert [image.image_id for image in images] == IN_MANIFEST
    for image in images:
        expected, ignored = slow_confusion(shard, shard.painted, K + 1, [image.image_id])
        np.testing.assert_array_equal(image.counts, expected)
        assert image.ignored == ignored


def slow_frame(labels: NDArray[Any], frame: str) -> NDArray[Any]:
    """The pixels of a frame, one by one: each has the value of the pixel under its centre."""
    height, width = labels.shape
    short = min(height, width)
    rows, columns = (
        (320, 320) if frame == "squashed" else (320 * height // short, 320 * width // short)
    )
    top, left = round((rows - 320) / 2), round((columns - 320) / 2)
    return np.asarray(
        [
            [
                labels[
                    (2 * (y + top) + 1) * height // (2 * rows),
                    (2 * (x + left) + 1) * width // (2 * columns),
                ]
                for x in range(320)
            ]
            for y in range(320)
        ]
    )


@pytest.mark.parametrize(("squash", "frame"), [(False, "centre"), (True, "squashed")])
def test_stego_counts_in_its_own_frame(shard: Shard, squash: bool, frame: str) -> None:
    counted = shard.count(protocols=["stego", "per_image"], stego_squash=squash)
    original, ignored = slow_confusion(shard, shard.painted, K + 1)
    np.testing.assert_array_equal(counted["segmentation"], original)
    framed = {
        name: {image: slow_frame(maps[image], frame) for image in LABELLED}
        for name, maps in (("truth", shard.truth), ("painted", shard.painted))
    }
    expected = np.zeros((K + 1, len(IDS)), np.int64)
    for name in LABELLED:
        for true, cluster in zip(
            framed["truth"][name].ravel(), framed["painted"][name].ravel(), strict=True
        ):
            if true != IGNORE:
                expected[cluster, IDS.index(true)] += 1
    np.testing.assert_array_equal(counted[f"{frame}.segmentation"], expected)
    total = len(LABELLED) * 320 * 320
    for name in ("segmentation", "random", "oracle"):
        assert counted[f"{frame}.{name}"].sum() + counted[f"{frame}.ignored"].sum() == total
    assert np.trace(counted[f"{frame}.oracle"]) >= np.trace(
        counted[f"{frame}.random"][: len(IDS), : len(IDS)]
    )
    assert counted["ignored"].sum() == ignored


def test_only_the_frames_of_the_protocols_are_counted(shard: Shard) -> None:
    def frames(*protocols: str) -> set[str]:
        names = shard.count(protocols=list(protocols))
        return {name for name in names if name.endswith("cells")}

    assert frames("maskcontrast", "coco_things", "per_image") == {"cells"}
    assert frames("stego") == {"centre.cells"}
    assert frames("stego", "coco_things") == {"centre.cells", "cells"}


def test_an_image_that_is_all_ignored_has_no_cells(shard: Shard) -> None:
    write_png(shard.folder / "labels" / "0.png", np.full(SIZES["a.jpg"], IGNORE, np.uint8))
    shard.index()
    shard.count()
    *others, last = iter_images([shard.folder / "class-counts/seed-0.npz"], "original")
    assert (last.image_id, last.counts.sum(), last.ignored) == ("a.jpg", 0, 9 * 13)
    assert all(image.counts.any() for image in others)


def test_without_masks_a_cluster_is_counted_for_the_background_where_there_is_one(
    shard: Shard,
) -> None:
    assert shard.count_segments(classes="auto")["segmentation"].shape == (1 + 3, 4)
    counted = shard.count_segments(classes="auto", background=None)
    assert counted["segmentation"].shape == counted["random"].shape == (4, 4)


def best_labels(shard: Shard, outside: int) -> dict[str, NDArray[np.int64]]:
    """The most frequent class of each region, of all its pixels with truth."""
    painted = {}
    for name in LABELLED:
        label = find_components(shard.masks[name], MIN_AREA).label
        painted[name] = np.full(label.shape, outside)
        for region in range(1, label.max() + 1):
            true = [IDS.index(t) for t in shard.truth[name][label == region] if t != IGNORE]
            most = max(Counter(true).values(), default=0)
            best = min((c for c, n in Counter(true).items() if n == most), default=0)
            painted[name][label == region] = best
    return painted


@pytest.mark.parametrize(("background", "outside"), [(0, 0), (7, 2), (None, 4)])
def test_the_ceiling_has_the_best_class_in_each_region(
    shard: Shard, background: int | None, outside: int
) -> None:
    counted = shard.count(background=background)
    expected, _ = slow_confusion(shard, best_labels(shard, outside), len(IDS) + 1)
    np.testing.assert_array_equal(counted["oracle"], expected)


def test_all_seeds_are_counted_as_if_each_were_alone(shard: Shard) -> None:
    """Each by its own labelling; the regions are counted once."""
    expected = {seed: shard.count(seed=seed) for seed in (3, 0)}
    arrays = read_arrays(shard.folder / "labelling.npz")
    arrays["centroids"] = arrays["centroids"][::-1]
    write_arrays(shard.folder / "reversed.npz", **arrays)
    folder = shard.folder / "together"
    count_labels(
        shard.folder / "region-counts.npz", shard.folder / "regions.npz",
        {0: shard.folder / "labelling.npz", 3: shard.folder / "reversed.npz"}, folder,
    )  # fmt: skip
    assert sorted(path.name for path in folder.iterdir()) == ["seed-0.npz", "seed-3.npz"]
    found = {seed: shard.read(folder / f"seed-{seed}.npz") for seed in (3, 0)}
    for name, array in expected[0].items():
        np.testing.assert_array_equal(found[0][name], array)
    np.testing.assert_array_equal(found[3]["random"], expected[3]["random"])
    turned = expected[3]["segmentation"][[0, *range(K, 0, -1)]]
    np.testing.assert_array_equal(found[3]["segmentation"], turned)


def test_no_labelling_of_the_regions_beats_the_ceiling(shard: Shard) -> None:
    counted = shard.count()
    best = np.trace(counted["oracle"][:-1])
    for name in ("segmentation", "random"):
        assert counted[name][1:].max(axis=1).sum() + counted[name][0, 0] <= best


def test_the_floor_has_the_regions_of_the_segmentation(shard: Shard) -> None:
    counted = shard.count()
    np.testing.assert_array_equal(counted["random"][0], counted["segmentation"][0])
    np.testing.assert_array_equal(
        counted["random"].sum(axis=0), counted["segmentation"].sum(axis=0)
    )


def test_the_floor_depends_on_seed_and_image_id_only(tmp_path: Path, shard: Shard) -> None:
    together = shard.count()["random"]
    apart = [Shard(tmp_path / str(n), [name]) for n, name in enumerate(reversed(LABELLED))]
    alone = [part.count()["random"] for part in apart]
    np.testing.assert_array_equal(sum(alone), together)
    others = [shard.count(seed=seed)["random"] for seed in range(1, 6)]
    assert sum((other != together).any() for other in others) >= 4


def test_images_of_the_same_regions_draw_differently(tmp_path: Path) -> None:
    """Many images alike, each of one region: if they drew alike, one class would hold all."""
    names = [f"{number}.jpg" for number in range(40)]
    masks = {name: np.ones((2, 2), bool) for name in names}
    label = write_png(tmp_path / "label.png", np.full((2, 2), 3, np.uint8))
    manifest = write_manifest(
        tmp_path / "manifest.csv", dict.fromkeys(names, (2, 2)),
        labels=dict.fromkeys(names, label), outputs=dict.fromkeys(names, "same.png"),
    )  # fmt: skip
    count_regions(
        manifest, write_classes(tmp_path / "classes.csv", {0: "ground", 3: "thing"}),
        write_region_maps(tmp_path / "maps.npz", masks, 0), tmp_path / "regions.npz",
        background=0, ignore=255, protocols=["maskcontrast"], stego_squash=False,
    )  # fmt: skip
    directions = np.eye(4, dtype=np.float32)
    write_arrays(tmp_path / "cls.npz", cls=directions[np.zeros(40, int)])
    write_arrays(
        tmp_path / "labelling.npz", features=encode_names(["cls"]),
        centers=np.zeros((1, 4), np.float32), components=directions, centroids=directions,
    )  # fmt: skip
    count_labels(
        tmp_path / "regions.npz", tmp_path / "cls.npz", {0: tmp_path / "labelling.npz"},
        tmp_path / "counts",
    )  # fmt: skip
    random = read_arrays(tmp_path / "counts/seed-0.npz")["original.random"]
    assert random[0].tolist() == [0, 0]
    assert (random[1:, 1] > 8).all()
    assert random.sum() == 160


def test_a_segmentation_of_more_classes_than_said_is_refused(shard: Shard) -> None:
    with pytest.raises(StoreError, match=r"jpg\.png: holds cluster id 3; allowed are 0\.\.2"):
        shard.count_segments(classes=2)


def test_segmentations_of_more_than_255_classes_are_counted(shard: Shard) -> None:
    for name in SIZES:
        shard.painted[name] = np.where(shard.painted[name] == 2, 999, shard.painted[name])
        shard.drawn[name] = np.where(shard.drawn[name] == 2, 999, shard.drawn[name])
        output = shard.folder / "segmentation" / f"out put/{name}.png"
        save_indexed(shard.painted[name].astype(np.uint16), output)
    expected, _ = slow_confusion(shard, shard.painted, 1001)
    np.testing.assert_array_equal(shard.count(classes=1000)["segmentation"], expected)
    np.testing.assert_array_equal(shard.count_segments(classes=1000)["segmentation"], expected)


def test_the_best_class_of_a_region_is_its_most_frequent() -> None:
    label = np.asarray([[1, 1, 1, 2], [0, 2, 2, 3]], np.int32)
    truth = np.asarray([[2, 2, 1, 1], [1, 0, IGNORED, IGNORED]], np.uint16)
    counted = count_by_region(label, truth, "original", 3, 3)
    assert counted.counts.tolist() == [[0, 1, 0], [0, 1, 2], [1, 1, 0], [0, 0, 0]]
    assert counted.ignored == 2
    assert best_classes(counted.counts, ground=0).tolist() == [0, 2, 0, 0]
    assert best_classes(counted.counts, ground=None).tolist() == [3, 2, 0, 0]


def test_rows_of_one_label_are_summed() -> None:
    pixels = np.asarray([[1, 2], [3, 4], [5, 6]])
    assert relabel(pixels, np.asarray([2, 0, 2]), 4).tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]


def test_regions_are_found_again_by_image(shard: Shard) -> None:
    counts = read_region_counts(shard.count_regions(background=7))["original"]
    assert (counts.image_id, counts.ground) == (IN_MANIFEST, IDS.index(7))
    starts = np.cumsum([0, *(len(shard.drawn[name]) for name in shard.names)])
    for number, name in enumerate(IN_MANIFEST):
        own = counts.regions_of(number)
        assert own.start == starts[shard.names.index(name)]
        assert own.stop - own.start == len(shard.drawn[name])
        label = find_components(shard.masks[name], MIN_AREA).label
        for region, pixels in enumerate(counts.counts_of(number).counts):
            here = shard.truth[name][label == region]
            assert pixels.tolist() == [int((here == true).sum()) for true in IDS]
        assert counts.counts_of(number).ignored == (shard.truth[name] == IGNORE).sum()


def test_counts_of_shards_are_added(tmp_path: Path) -> None:
    big = 2**40
    names = ("segmentation", "random", "oracle")
    for number in range(3):
        write_arrays(
            tmp_path / f"{number}.npz", compressed=True,
            **{f"centre.{n}": np.asarray([[number, big + i]]) for i, n in enumerate(names)},
            **{"centre.ignored": np.arange(number)},
        )  # fmt: skip
    totals, images = read_class_counts([tmp_path / f"{n}.npz" for n in range(3)], "centre")
    for i, name in enumerate(names):
        counts = getattr(totals, name)
        assert counts.tolist() == [[3, 3 * (big + i)]]
        assert counts.dtype == np.int64
    assert (totals.ignored, images) == (1, 3)


def write_mask_counts(path: Path, by_class: Any, boundary_f: Any, background: int = 0) -> Path:
    """Write counts [images, 2, classes] that are those of every stage."""
    stages = len(STAGES)
    by_class = np.repeat(np.asarray(by_class, np.int64)[:, None], stages, axis=1)
    outlines = np.repeat(np.asarray(boundary_f, np.float64)[:, None], stages, axis=1)
    write_arrays(
        path, by_class=by_class, boundary_f=outlines, ignored=np.full(len(by_class), 7),
        background=np.asarray(background),
    )  # fmt: skip
    return path


def test_masks_are_scored_over_the_images_of_all_shards(tmp_path: Path) -> None:
    cat = [[[50, 5, 0], [10, 15, 0]]] * 3  # outside and inside, of ground, cat and dog
    dog, nothing = [[[40, 0, 30], [10, 0, 10]]] * 3, [[[80, 0, 0], [20, 0, 0]]]
    paths = [
        write_mask_counts(tmp_path / "0.npz", cat, [0.9, 0.6, 0.6]),
        write_mask_counts(tmp_path / "1.npz", [*dog, *nothing], [0.3, 0.3, 0.3, 0.0]),
    ]
    totals, ignored = sum_mask_counts(paths)
    assert (list(totals), ignored) == (list(STAGES), 49)
    for stage in STAGES:
        scores = score_masks(totals[stage])
        assert scores["image_foreground_iou"] == pytest.approx((15 / 30 + 10 / 50) / 2)
        assert scores["boundary_f"] == pytest.approx((0.7 + 0.3) / 2)  # of those with foreground
        assert scores["class_recall"] == pytest.approx((15 / 20 + 10 / 40) / 2)
        assert scores["background_taken"] == pytest.approx(80 / 430)
        assert scores["foreground_iou"] == pytest.approx(75 / (75 + 105 + 80))
        assert scores["fgbg_accuracy"] == pytest.approx((75 + 350) / (430 + 60 + 120))


def test_a_class_of_two_images_has_no_say_in_the_recall(tmp_path: Path) -> None:
    cat, dog = [[[50, 5, 0], [10, 15, 0]]] * 3, [[[40, 0, 30], [10, 0, 10]]] * 2
    totals, _ = sum_mask_counts([write_mask_counts(tmp_path / "0.npz", cat + dog, [0.5] * 5)])
    assert score_masks(totals["refined"])["class_recall"] == pytest.approx(15 / 20)


def test_without_masks_floor_and_ceiling_are_of_the_segments(shard: Shard) -> None:
    arrays = shard.count_segments()
    random, oracle = np.zeros((K + 1, len(IDS)), int), np.zeros((len(IDS) + 1, len(IDS)), int)
    drawn: set[int] = set()
    for name in IN_MANIFEST:
        truth = np.searchsorted(IDS, shard.truth[name])
        label, count = ndimage_label_of_equal(shard.painted[name])
        generator = np.random.default_rng([0, zlib.crc32(name.encode())])
        clusters = generator.integers(0, K + 1, count)
        drawn |= {*clusters.tolist()}
        for segment in range(count):
            own = (label == segment + 1) & (shard.truth[name] != IGNORE)
            counts = np.bincount(truth[own], minlength=len(IDS))
            random[clusters[segment]] += counts
            oracle[counts.argmax()] += counts
    assert drawn == set(range(K + 1))
    np.testing.assert_array_equal(arrays["random"], random)
    np.testing.assert_array_equal(arrays["oracle"], oracle)
    np.testing.assert_array_equal(arrays["segmentation"], shard.count()["segmentation"])


def ndimage_label_of_equal(values: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """Components of equal values, numbered by their first pixel in reading order."""
    parts = [
        label == number
        for value in np.unique(values)
        for label, count in [ndimage.label(values == value, np.ones((3, 3)))]
        for number in range(1, count + 1)
    ]
    parts.sort(key=lambda part: int(part.ravel().argmax()))
    return sum(number * part for number, part in enumerate(parts, 1)), len(parts)
