"""Which images the report shows as likely failures, and what it says of time and memory."""

from __future__ import annotations

import numpy as np
import pytest
from builders import write_level_masks

from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.manifest import Row, Sample
from lightcluster.evaluation.counting import LabelledImage
from lightcluster.evaluation.mask_counts import STAGES
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.files import write_arrays
from lightcluster.reporting.choice import (
    agreement_of,
    least_agreement,
    level_agreement,
    lowest_accuracy,
    lowest_iou,
    read_agreements,
)
from lightcluster.reporting.provenance import PACKAGES, Cost, read_cost, read_costs, versions


def test_agreement_is_the_share_of_patches_on_which_all_levels_say_the_same():
    votes = np.array([[[0, 0, 1, 1]], [[0, 1, 1, 1]], [[0, 0, 1, 0]]], bool)
    assert level_agreement(votes) == 0.5
    assert level_agreement(votes[:1]) == 1
    assert level_agreement(np.ones((3, 2, 2), bool)) == 1


def test_levels_agree_by_chance_as_often_as_shuffled_ones():
    draw = np.random.default_rng(0)
    votes = draw.random((3, 200, 300)) < np.array([0.2, 0.5, 0.7])[:, None, None]
    found = agreement_of(votes)
    assert found.share == level_agreement(votes)
    assert found.chance == pytest.approx(0.2 * 0.5 * 0.7 + 0.8 * 0.5 * 0.3, abs=0.01)
    assert found.share == pytest.approx(found.chance, abs=0.01)
    assert agreement_of(np.ones((3, 2, 2), bool)) == (1, 1)


def test_the_images_of_least_agreement_are_found_over_all_shards(tmp_path):
    draw, samples, expected = np.random.default_rng(0), [], {}
    for shard in ("0000", "0001", "0002"):
        votes = {f"{shard}-{n}": draw.random((3, 3, 4)) < draw.random() for n in range(5)}
        write_level_masks(tmp_path / f"{shard}.npz", votes)
        for name, vote in votes.items():
            samples.append(Sample(shard, Row(name, tmp_path, None, f"{name}.png", 3, 4)))
            expected[name] = np.mean([len({*column}) == 1 for column in vote.reshape(3, -1).T])

    def least(count: int) -> list[tuple[float, Sample]]:
        return least_agreement(read_agreements(samples, tmp_path), count)

    found = least(4)
    assert [agreed for agreed, _ in found] == sorted(expected.values())[:4]
    assert all(expected[sample.row.image_id] == agreed for agreed, sample in found)
    assert len(least(99)) == 15
    assert least(0) == []


def test_the_masks_that_fit_worst_are_found_among_labelled_images(tmp_path):
    draw, samples, expected = np.random.default_rng(1), [], {}
    for shard in ("0000", "0001"):
        counts = []
        for number, name in enumerate(f"{shard}-{n}" for n in range(4)):
            label = LabelFile(tmp_path / "label.png") if number != 1 else None
            samples.append(Sample(shard, Row(name, tmp_path, label, f"{name}.png", 2, 2)))
            if label is not None:
                table = draw.integers(1, 50, (len(STAGES), 2, 2))
                if number == 3:
                    table[-1] = [[9, 0], [0, 0]]  # nothing there and nothing found
                else:
                    (_, false), (missed, right) = table[-1].T.tolist()
                    expected[name] = right / (right + false + missed)
                counts.append(table)
        write_arrays(
            tmp_path / "counts" / f"{shard}.npz",
            by_class=np.asarray(counts),
            boundary_f=np.ones((3, len(STAGES))),
            ignored=np.zeros(3),
            background=np.asarray(0),
        )
    found = lowest_iou(samples, tmp_path / "counts", 3)
    assert [iou for iou, _ in found] == sorted(expected.values())[:3]
    assert all(expected[sample.row.image_id] == iou for iou, sample in found)


def test_the_images_with_the_fewest_right_pixels_are_found_among_labelled_ones(tmp_path):
    classes = np.array([2, UNMATCHED, 0])
    right = {"a": [[1, 0, 5], [9, 9, 9], [3, 1, 1]], "c": [[0, 0, 9], [0, 0, 0], [1, 0, 0]]}
    samples = [
        Sample("0000", Row(name, tmp_path, label, f"{name}.png", 2, 2))
        for name, label in (
            ("a", LabelFile(tmp_path)), ("b", None), ("c", LabelFile(tmp_path)),
            ("d", LabelFile(tmp_path)),
        )
    ]  # fmt: skip
    counts = [LabelledImage(name, np.array(table), 0) for name, table in right.items()]
    counts.append(LabelledImage("d", np.zeros((3, 3), np.int64), 4))  # all ignored
    found = lowest_accuracy(samples, counts, classes, 5)
    assert [(share, sample.row.image_id) for share, sample in found] == [(8 / 38, "a"), (1, "c")]
    assert len(lowest_accuracy(samples, counts, classes, 1)) == 1


def write_benchmark(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["s\th:m:s\tmax_rss\tcpu_time", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def test_costs_are_summed_by_step_in_the_order_of_the_workflow(tmp_path):
    run, dataset = tmp_path / "run", tmp_path / "dataset"
    write_benchmark(run / "refine_masks" / "0000.tsv", (2.5, "0:00:02", 100.0, 2.0))
    write_benchmark(run / "refine_masks" / "0001.tsv", (4, "0:00:04", 80.0, 3.0))
    write_benchmark(run / "count_confusion" / "seed-1" / "0000.tsv", (1, "0:00:01", "-", "NA"))
    write_benchmark(dataset / "index_dataset" / "0000.tsv", (3, "0:00:03", 50, 1))
    write_benchmark(dataset / "extract_features" / "mine" / "0000.tsv", (9, "0:00:09", 700, 16))
    write_benchmark(dataset / "extract_features" / "other" / "0000.tsv", (1, "0:00:01", 1, 1))
    write_benchmark(dataset / "choose_features" / "mine.tsv", (5, "0:00:05", 600, 5))
    write_benchmark(dataset / "cache_views" / "too" / "0000.tsv", (3, "0:00:03", 9, 3))
    write_benchmark(run / "evaluate.tsv", (1, "0:00:01", 60, 1))
    found = read_costs(run, dataset, ["mine", "too"])
    assert [cost.step for cost in found] == [
        "index_dataset", "choose_features", "extract_features", "refine_masks", "cache_views",
        "count_confusion", "evaluate",
    ]  # fmt: skip
    assert found[3] == Cost("refine_masks", 2, 6.5, 4.0, 5.0, 100.0)
    assert found[2].memory == 700
    assert found[5] == Cost("count_confusion", 1, 1.0, 1.0, 0.0, 0.0)


def test_a_step_without_jobs_costs_nothing():
    assert read_cost("evaluate", []) == Cost("evaluate", 0, 0, 0, 0, 0)


def test_versions_are_those_that_are_installed():
    found = versions()
    assert {"LightCluster", "Python", "torch", "faiss-cpu", "zarr"} < set(found)
    assert found["numpy"] == np.__version__
    assert set(found) <= {"LightCluster", "Python", *PACKAGES}
    assert "no-such-package" not in versions(["no-such-package"])
