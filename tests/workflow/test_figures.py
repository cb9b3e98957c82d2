"""`make run` as it is: the default configuration gives the figures of the model card."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

CARD = Path(__file__).parents[2] / "resources" / "README.md"
TOLERANCE = 2.0
"""Points; other processors round otherwise, and without bfloat16 the arithmetic is another."""


@pytest.fixture(scope="module")
def scores(tmp_path_factory, run_snakemake, read_rows) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("default")
    result = run_snakemake(folder)
    assert result.returncode == 0, result.stdout
    return read_rows(folder / "results/demo/lightcluster/tables/metrics.csv")


def stated(figure: str) -> float:
    """Return a figure of the row of the embedded backbone in the model card."""
    return float(re.search(rf"^\| {figure} \| \*\*([\d.]+)", CARD.read_text(), flags=re.M)[1])


def per_cent(rows: list[dict[str, str]]) -> float:
    return 100 * statistics.mean(float(row["value"]) for row in rows)


@pytest.mark.parametrize("stage", ["merged", "refined"])
def test_masks(scores, stage):
    rows = [row for row in scores if (row["stage"], row["metric"]) == (stage, "fgbg_miou")]
    assert len(rows) == 1
    assert per_cent(rows) == pytest.approx(stated(f"{stage} mask"), abs=TOLERANCE)


def test_classes_over_five_seeds(scores):
    wanted = ("segmentation", "iou_hungarian", "miou")
    rows = [row for row in scores if (row["stage"], row["matching"], row["metric"]) == wanted]
    rows = [row for row in rows if row["seed"].isdigit()]  # and not their mean and deviation
    assert len(rows) == 5
    assert per_cent(rows) == pytest.approx(stated("classes"), abs=TOLERANCE)
