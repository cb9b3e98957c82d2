"""The tables of protocol ``per_image``."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lightcluster.evaluation.per_image import COLUMNS, SUMMARY_COLUMNS, score_images, summarize
from lightcluster.files import encode_names, write_arrays
from lightcluster.shards import Shards

IMAGES = {
    "a.jpg": [[6, 0], [0, 4], [3, 1]],
    "b, with a comma.jpg": [[0, 3], [9, 0], [0, 0]],
    "all ignored.jpg": [[0, 0], [0, 0], [0, 0]],
    "c.jpg": [[4, 4], [0, 0], [0, 0]],
}
EXPECTED = {
    "a.jpg": (6 / 9 + 4 / 5) / 2,
    "b, with a comma.jpg": 1.0,
    "all ignored.jpg": math.nan,
    "c.jpg": 0.25,
}
IGNORED = {"a.jpg": 2, "b, with a comma.jpg": 0, "all ignored.jpg": 50, "c.jpg": 1}


def write_counts(folder: Path, seed: int, shards: list[list[str]], scale: int = 1) -> None:
    for shard, names in enumerate(shards):
        cells = [
            (number, cluster, true, pixels * scale)
            for number, name in enumerate(names)
            for cluster, row in enumerate(IMAGES[name])
            for true, pixels in enumerate(row)
            if pixels
        ]
        segmentation = sum((np.asarray(IMAGES[name]) for name in names), np.zeros((3, 2), np.int64))
        write_arrays(
            folder / "classes" / f"{shard:04d}" / f"seed-{seed}.npz", compressed=True,
            image_id=encode_names(names),
            **{
                "original.cells": np.asarray(cells, np.int64).reshape(-1, 4),
                "original.ignored": np.asarray([IGNORED[name] for name in names], np.int64),
                "original.segmentation": segmentation,
            },
        )  # fmt: skip


def tables(folder: Path, seeds: list[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    output, summary = folder / "per_image.csv", folder / "per_image_summary.csv"
    score_images(
        folder, Shards(3), seeds, output, summary, refinement="crf", dataset="data", run="a run",
        fitted_on="another half",
    )  # fmt: skip
    return tuple(pd.read_csv(path, keep_default_na=False) for path in (output, summary))


def test_every_image_has_a_row_for_each_seed(tmp_path: Path) -> None:
    """The second shard has no image with a label."""
    names = list(IMAGES)
    for seed in (0, 3):
        write_counts(tmp_path, seed, [names[:2], [], names[2:]])
    images, summary = tables(tmp_path, [0, 3])
    assert list(images.columns) == COLUMNS
    assert images["image_id"].tolist() == 2 * names
    assert images["seed"].tolist() == [0] * 4 + [3] * 4
    for row in images.to_dict("records"):
        expected = EXPECTED[row["image_id"]]
        assert (
            row["miou"] == ""
            if math.isnan(expected)
            else float(row["miou"]) == pytest.approx(expected, abs=1e-6)
        )
        assert row["ignored_pixels"] == IGNORED[row["image_id"]]
        extra = row["image_id"] == "a.jpg"
        assert row["fallback"] == ("extra clusters unmatched" if extra else "")
    constant = images.drop(columns=COLUMNS[2:9]).drop_duplicates().to_dict("records")
    assert constant == [
        {
            "dataset": "data", "run": "a run", "protocol": "per_image",
            "matching": "iou_hungarian", "resolution": "original", "crop": "none",
            "refinement": "crf", "seeds": 2, "fitted_on": "another half",
        }
    ]  # fmt: skip
    assert list(summary.columns) == SUMMARY_COLUMNS
    assert summary["seed"].tolist() == ["0", "3", "mean", "sd"]
    mean = statistics.mean(value for value in EXPECTED.values() if not math.isnan(value))
    assert [float(value) for value in summary["value"]] == pytest.approx([mean] * 3 + [0], abs=1e-6)
    assert set(summary["images"]) == {3}
    assert set(summary["ignored_pixels"]) == {53}


def test_the_mean_is_over_images_and_then_over_seeds() -> None:
    rows = pd.DataFrame(
        {"seed": ["0", "0", "1", "1"], "miou": [0.2, 0.4, 0.8, 0.6], "ignored_pixels": 5}
    )
    summary = summarize(rows).set_index("seed")
    assert summary["value"].tolist() == pytest.approx([0.3, 0.7, 0.5, statistics.stdev([0.3, 0.7])])
    assert set(summary["ignored_pixels"]) == {10}


def test_images_without_any_truth_have_no_mean() -> None:
    rows = pd.DataFrame({"seed": ["0", "1"], "miou": [math.nan] * 2, "ignored_pixels": 5})
    summary = summarize(rows)
    assert summary["value"].isna().all()
    assert set(summary["images"]) == {0}
