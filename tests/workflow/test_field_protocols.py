"""Two runs of a grid under all protocols: tables, comparison, and what the pixels say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightcluster.evaluation.protocols import to_frame

pytestmark = pytest.mark.thorough

CONFIG = {
    "dataset": {"demo": {"scenes": 12}, "shard_size": 8},
    "labelling": {"classes": "auto", "seeds": [0, 3]},
    "evaluation": {"protocols": ["stego", "maskcontrast", "coco_things", "per_image"]},
    "comparison": {"published": "coco_stuff_27", "resamples": 100},
    "report": {"segmentations": "all"},
    "grid": {"consistency.rule": ["majority", "image"]},
}
RUNS = ("rule-majority", "rule-image")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_snakemake, fast_config) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("protocols")
    result = run_snakemake(folder, config=fast_config(CONFIG))
    assert result.returncode == 0, result.stdout
    return folder / "results" / "demo", result.stdout


def test_every_table_states_its_protocol_and_images_stand_apart(finished, read_rows):
    folder, _ = finished
    for run in RUNS:
        metrics = read_rows(folder / run / "tables" / "metrics.csv")
        found = list(dict.fromkeys(row["protocol"] for row in metrics))
        assert found == ["foreground", "stego", "maskcontrast", "coco_things"]
        for row in metrics:
            for column in ("matching", "resolution", "crop", "refinement", "seeds", "fitted_on"):
                assert row[column], (row, column)
        images = read_rows(folder / run / "tables" / "per_image.csv")
        assert len(images) == 12 * 2
        assert {row["protocol"] for row in images} == {"per_image"}
        summary = read_rows(folder / run / "tables" / "per_image_summary.csv")
        assert [row["seed"] for row in summary] == ["0", "3", "mean", "sd"]


def test_the_accuracy_of_stego_is_that_of_the_pixels(finished, read_rows):
    folder, _ = finished
    run = folder / RUNS[0]
    names = [row["name"] for row in read_rows(folder / "classes.csv")]
    ids = [int(row["id"]) for row in read_rows(folder / "classes.csv")]
    matched = {
        int(row["cluster"]): ids[names.index(row["class"])]
        for row in read_rows(run / "tables" / "matching.csv")
        if (row["protocol"], row["seed"]) == ("stego", "3") and row["class"]
    }
    right = total = 0
    for path in (run / "segmentation" / "seed-3").rglob("scene-*.png"):
        with Image.open(path) as image, Image.open(folder / "scenes/labels" / path.name) as label:
            predicted = to_frame(np.asarray(image), "centre")
            truth = to_frame(np.asarray(label), "centre")
        counted = truth != 255
        classes = np.vectorize(lambda cluster: matched.get(cluster, -1))(predicted)
        right += int((classes == truth)[counted].sum())
        total += int(counted.sum())
    assert total > 0
    (row,) = [
        row
        for row in read_rows(run / "tables" / "metrics.csv")
        if (row["protocol"], row["seed"], row["stage"], row["metric"])
        == ("stego", "3", "segmentation", "pixel_accuracy")
    ]
    assert float(row["value"]) == pytest.approx(right / total, abs=1e-6)


def test_runs_are_compared_with_each_other_and_with_published_figures(finished, read_rows):
    folder, output = finished
    assert "comparison/comparison.csv" in output
    rows = read_rows(folder / "comparison" / "comparison.csv")
    measured = [row for row in rows if row["kind"] == "measured"]
    assert rows[: len(measured)] == measured
    assert {row["name"] for row in measured} == set(RUNS)
    assert {row["protocol"] for row in measured} == {
        "foreground", "stego", "maskcontrast", "coco_things",
    }  # fmt: skip
    for row in measured:
        compared = row["name"] == RUNS[1]
        assert bool(row["difference"]) == bool(row["low"]) == compared
        assert not compared or row["reference"] == RUNS[0]
    assert {row["dataset"] for row in rows[len(measured) :]} == {"coco_stuff_27"}
    with Image.open(folder / "comparison" / "comparison.png") as image:
        image.verify()
