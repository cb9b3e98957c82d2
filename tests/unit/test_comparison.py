"""The comparison of runs: its table and its figure."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lightcluster.errors import StoreError
from lightcluster.evaluation.comparison import (
    COLUMNS,
    bootstrap_run,
    main_rows,
    make_comparison,
)
from lightcluster.evaluation.mask_counts import STAGES
from lightcluster.evaluation.protocols import FRAMES, frame_called
from lightcluster.evaluation.published import read_published
from lightcluster.evaluation.tables import Conditions, evaluate
from lightcluster.files import encode_names, write_arrays
from lightcluster.methods.cause.method import LABELS
from lightcluster.reporting import comparison as drawing
from lightcluster.reporting.comparison import compare, describe, plot_comparison
from lightcluster.reporting.tables import describe_run, read_table
from lightcluster.shards import Shards

IMAGES, SEEDS = 6, (0, 1, 2)
NAMES = ("ground", "cat", "dog")


def class_counts(generator: np.random.Generator, right: float) -> NDArray[np.int64]:
    """Counts [images, 3, 3] of clusters that have this share of their pixels right."""
    classes = generator.integers(50, 100, (IMAGES, 3))
    counts = np.einsum("it,ct->ict", classes, np.full((3, 3), (1 - right) / 2))
    counts[:, range(3), range(3)] = right * classes
    return np.rint(counts + generator.random(counts.shape) * 4).astype(np.int64)


def write_run(
    folder: Path, right: float, protocols: list[str], *, background: bool = True,
    masks: bool = True, seed: int = 0, fitted_on: str = "themselves",
) -> None:  # fmt: skip
    """Write the counts of a run on one shard, and its tables."""
    generator = np.random.default_rng(seed)
    if masks:
        of_masks = generator.integers(10, 90, (IMAGES * background, len(STAGES), 2, 3))
        ignored = np.zeros(len(of_masks), np.int64)
        write_arrays(
            folder / "counts/masks/0000.npz", by_class=of_masks, ignored=ignored,
            boundary_f=generator.random(of_masks.shape[:2]),
            background=np.asarray(0 if background else -1),
        )  # fmt: skip
        votes = np.vstack([np.eye(3, dtype=np.int64), np.zeros((1, 3), np.int64)])
        write_arrays(folder / "counts/neighbors.npz", original=votes, centre=votes)
    for labelling in SEEDS:
        arrays = {"image_id": encode_names([f"{n}.jpg" for n in range(IMAGES)])}
        for frame in ("original", "centre"):
            counts = class_counts(generator, right)
            total = counts.sum(axis=0)
            number, cluster, true = np.nonzero(counts)
            arrays[f"{frame}.segmentation"] = total
            arrays[f"{frame}.random"] = np.full((3, 3), total.sum() // 9)
            arrays[f"{frame}.oracle"] = np.vstack([np.diag(total.sum(axis=0)), np.zeros(3, int)])
            arrays[f"{frame}.ignored"] = np.arange(IMAGES)
            arrays[f"{frame}.cells"] = np.stack(
                [number, cluster, true, counts[number, cluster, true]], axis=1
            )
        write_arrays(
            folder / f"counts/classes/0000/seed-{labelling}.npz", compressed=True, **arrays
        )
    classes = folder / "classes.csv"
    lines = [f"{number},{name}" for number, name in enumerate(NAMES)]
    classes.write_text("\n".join(["id,name", *lines]), encoding="utf-8")
    evaluate(
        folder / "counts", Shards(1), list(SEEDS), classes, folder / "tables",
        masks=masks, background=0 if background else None,
        conditions=Conditions("data", folder.name, protocols, False, "crf", fitted_on),
    )  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(tmp_path / "good", 0.8, ["maskcontrast", "stego"])
    write_run(tmp_path / "same", 0.8, ["maskcontrast", "stego"])
    write_run(tmp_path / "bad", 0.5, ["maskcontrast"], seed=1)
    return tmp_path


def comparison(folder: Path, *names: str, published: str = "none") -> pd.DataFrame:
    compare(
        folder, list(names), Shards(1), folder / "comparison/comparison.csv",
        folder / "comparison/comparison.png", published=published, resamples=200, seed=0,
    )  # fmt: skip
    return pd.read_csv(folder / "comparison/comparison.csv", keep_default_na=False)


def cell(table: pd.DataFrame, run: str, protocol: str, metric: str, stage: str) -> pd.Series:
    rows = table[
        (table["name"] == run) & (table["protocol"] == protocol) & (table["metric"] == metric)
    ]
    rows = rows[rows["stage"] == stage]
    assert len(rows) == 1
    return rows.iloc[0]


def test_runs_are_compared_with_the_first(runs: Path) -> None:
    table = comparison(runs, "good", "same", "bad")
    assert list(table.columns) == COLUMNS
    assert set(table["kind"]) == {"measured"}
    figures = {("foreground", "fgbg_miou"): 2, ("foreground", "image_foreground_iou"): 2,
               ("foreground", "class_recall"): 2, ("foreground", "boundary_f"): 2,
               ("maskcontrast", "miou"): 1,
               ("maskcontrast", "pixel_accuracy"): 1, ("stego", "miou"): 1,
               ("stego", "pixel_accuracy"): 1}  # fmt: skip
    for name, expected in (("good", figures), ("same", figures)):
        found = table[table["name"] == name].groupby(["protocol", "metric"]).size()
        assert found.to_dict() == expected
    assert set(table[table["name"] == "bad"]["protocol"]) == {"foreground", "maskcontrast"}

    metrics = read_table(runs / "bad/tables/metrics.csv")
    row = cell(table, "bad", "maskcontrast", "miou", "segmentation")
    own = metrics[(metrics["matching"] == "iou_hungarian") & (metrics["metric"] == "miou")]
    by_seed = own[own["stage"] == "segmentation"].set_index("seed")["value"]
    values = [by_seed[str(seed)] for seed in SEEDS]
    assert float(row["value"]) == pytest.approx(np.mean(values), abs=2e-6)
    assert float(row["sd"]) == pytest.approx(np.std(values, ddof=1), abs=2e-6)
    floor = own[own["stage"] == "random_labels"].set_index("seed")["value"]["mean"]
    assert float(row["floor"]) == pytest.approx(floor, abs=2e-6)
    assert float(row["ceiling"]) == 1
    assert row["matching"] == "iou_hungarian"
    assert (row["reference"], int(float(row["resamples"]))) == ("good", 200)

    reference = cell(table, "good", "maskcontrast", "miou", "segmentation")
    assert (reference["difference"], reference["reference"]) == ("", "")
    difference = float(row["value"]) - float(reference["value"])
    assert float(row["difference"]) == pytest.approx(difference, abs=3e-6)
    assert float(row["low"]) < float(row["difference"]) < float(row["high"]) < 0
    for protocol, metric, stage in (
        ("stego", "miou", "segmentation"),
        ("foreground", "fgbg_miou", "refined"),
        ("foreground", "boundary_f", "reestimated"),
    ):
        row = cell(table, "same", protocol, metric, stage)
        assert [float(row[name]) for name in ("difference", "low", "high")] == [0, 0, 0]
    assert cell(table, "good", "stego", "miou", "segmentation")["crop"] == "centre 320"


def test_a_figure_that_the_first_run_lacks_has_no_difference(runs: Path) -> None:
    table = comparison(runs, "bad", "good")
    assert cell(table, "good", "stego", "miou", "segmentation")["difference"] == ""
    assert cell(table, "good", "maskcontrast", "miou", "segmentation")["difference"] != ""


def test_published_figures_stand_below_and_are_marked(runs: Path) -> None:
    table = comparison(runs, "good", published="voc2012")
    kinds = table["kind"].tolist()
    assert kinds == sorted(kinds)  # measured, then published
    published = table[table["kind"] == "published"].set_index("name")
    assert len(published) == len(read_published("voc2012"))
    row = published.loc["DeepSpectral (self-trained)"]
    assert (float(row["value"]), float(row["sd"])) == pytest.approx((0.372, 0.038))
    assert row["hygiene"] == "not training-free"
    assert published.loc["CAUSE (DINO S/8, TR)"]["protocol"] == "stego"
    assert published.loc["CAUSE (DINO S/8, TR)"]["source"] == "CAUSE, on val"
    for unknown in ("difference", "images", "seeds", "fitted_on", "floor"):
        assert set(published[unknown]) == {""}
    assert set(table[table["kind"] == "measured"]["hygiene"]) == {""}


def test_the_figure_is_a_png_and_the_same_each_time(runs: Path) -> None:
    first, second = (
        (comparison(runs, "good", published="none"),
         (runs / "comparison/comparison.png").read_bytes())[1] for _ in range(2)
    )  # fmt: skip
    assert first == second
    with Image.open(runs / "comparison/comparison.png") as image:
        assert image.width > 1000
    comparison(runs, "good", "bad", published="none")
    assert (runs / "comparison/comparison.png").read_bytes() != first


def test_without_a_background_the_classes_alone_are_compared(tmp_path: Path) -> None:
    for name, right in (("one", 0.8), ("two", 0.6)):
        write_run(tmp_path / name, right, ["stego"], background=False)
    table = comparison(tmp_path, "one", "two", published="coco_stuff_27")
    assert "foreground" not in set(table["protocol"])
    assert float(cell(table, "two", "stego", "miou", "segmentation")["high"]) < 0


def test_runs_fitted_elsewhere_are_named(runs: Path) -> None:
    write_run(runs / "applied", 0.8, ["maskcontrast"], fitted_on="others (split train)")
    table = comparison(runs, "good", "applied")
    named = table.drop_duplicates("name").set_index("name")["fitted_on"]
    assert dict(named) == {"good": "themselves", "applied": "others (split train)"}


def test_a_method_without_masks_is_compared_by_its_classes(tmp_path: Path) -> None:
    write_run(tmp_path / "one", 0.8, ["maskcontrast"])
    write_run(tmp_path / "two", 0.6, ["maskcontrast"], masks=False)
    table = comparison(tmp_path, "one", "two")
    assert set(table[table["protocol"] == "foreground"]["name"]) == {"one"}
    assert float(cell(table, "two", "maskcontrast", "miou", "segmentation")["high"]) < 0
    matchings = read_table(tmp_path / "two/tables/metrics.csv")["matching"]
    assert "background_fixed" not in set(matchings)


def test_runs_of_different_images_are_refused(runs: Path) -> None:
    metrics = {name: read_table(runs / name / "tables/metrics.csv") for name in ("good", "bad")}
    metrics["bad"]["images"] = 5
    with pytest.raises(StoreError, match=r"different images.*'bad': 5"):
        make_comparison(metrics, {}, [])


@pytest.mark.parametrize(
    ("column", "other", "spared"),
    [("clusters", 9, {"foreground"}), ("crop", "centre 99", set())],
)
def test_what_was_counted_otherwise_is_not_subtracted(
    runs: Path, column: str, other: object, spared: set[str]
) -> None:
    names = ("good", "same")
    metrics = {name: read_table(runs / name / "tables/metrics.csv") for name in names}
    scores = {
        name: bootstrap_run(runs / name, table, Shards(1), 100, 0)
        for name, table in metrics.items()
    }
    metrics["same"][column] = other
    table = make_comparison(metrics, scores, [])
    found = table[table["name"] == "same"].dropna(subset="difference")
    assert set(found["protocol"]) == spared


def test_a_frame_is_known_by_its_words() -> None:
    for name, frame in FRAMES.items():
        assert frame_called(*frame) == name
    with pytest.raises(StoreError, match="no protocol counts pixels so"):
        frame_called("original", "centre 320")


def test_scores_in_words() -> None:
    row = {"kind": "measured", "value": 0.5, "sd": 0.01, "difference": math.nan,
           "low": math.nan, "high": math.nan, "hygiene": math.nan}  # fmt: skip
    assert describe(row) == "50.0 ± 1.0"
    row |= {"difference": -0.02, "low": -0.03, "high": 0.001}
    assert describe(row) == "50.0 ± 1.0  (-2.0: -3.0 to +0.1)"
    row |= {"kind": "published", "sd": math.nan, "hygiene": "label leak"}
    assert describe(row) == "50.0  published, label leak"


def test_main_figures_are_of_the_protocols_own_matching(runs: Path) -> None:
    rows = main_rows("good", read_table(runs / "good/tables/metrics.csv"))
    assert [(row["protocol"], row["matching"]) for row in rows] == [
        *[("foreground", "none")] * 8,
        *[("maskcontrast", "iou_hungarian")] * 2,
        *[("stego", "count_hungarian")] * 2,
    ]


def test_figures_that_labels_had_a_part_in_say_so(runs: Path, monkeypatch) -> None:
    figures: list[Figure] = []

    def keep(rows: pd.DataFrame) -> Figure:
        figures.append(plot_comparison(rows))
        return figures[-1]

    monkeypatch.setattr(drawing, "plot_comparison", keep)
    fitted = f"the evaluated images, {LABELS}"
    write_run(runs / "leaky", 0.8, ["maskcontrast"], fitted_on=fitted)
    for names in (("good",), ("good", "leaky")):
        comparison(runs, *names, published="none")
        for axes in figures[-1].axes:  # classes, and masks
            said = [text.get_text() for text in axes.texts]
            assert sum(LABELS in text for text in said) == ("leaky" in names)
    own = {name: read_table(runs / name / "tables/metrics.csv") for name in ("good", "leaky")}
    assert describe_run(own["leaky"]).endswith(LABELS)
    assert LABELS not in describe_run(own["good"])
