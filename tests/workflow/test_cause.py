"""CAUSE through the workflow: trained, applied elsewhere, and marked where labels leak."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lightcluster.config import parse_config
from lightcluster.datasets.scenes import SceneStyle, write_scenes
from lightcluster.layout import Layout

pytestmark = pytest.mark.thorough

TRAINED = "results/train/cause/cause"
LEAK = "the evaluated images, WITH THEIR LABELS (linear probe as released)"


def photos(name: str, folder: str, runs: dict[str, object]) -> dict[str, object]:
    return {
        "dataset": {
            "name": name, "format": "folder", "images": f"{folder}/images",
            "labels": f"{folder}/labels", "classes": f"{folder}/classes.csv", "shard_size": 8,
        },
        "method": "cause",
        "runs": runs,
    }  # fmt: skip


AS_RELEASED = {"recipe": "released", "linear_probe": "as_released"}
TRAIN = photos("train", "a", {"cause": {}, "released": {"cause": AS_RELEASED}})
APPLIED = {
    "applied": {"fit": {"model": TRAINED}},
    "kmeans": {"method": "kmeans", "features": {"facet": "token"}},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run_snakemake, fast_config) -> tuple[Path, str]:
    """A folder in which heads are trained on one dataset, and one is applied to it and another."""
    folder = tmp_path_factory.mktemp("trained")
    for number, name in enumerate(("a", "b")):
        write_scenes(folder / name, 6, number, SceneStyle(height=72, width=96))
    again = {"applied": APPLIED["applied"]}
    for config in (TRAIN, photos("again", "a", again), photos("val", "b", APPLIED)):
        result = run_snakemake(folder, config=fast_config(config))
        assert result.returncode == 0, result.stdout
    return folder, result.stdout


def test_all_that_is_made_of_a_trained_run(trained, read_rows):
    results = trained[0] / "results" / "train"
    for run in ("cause", "released"):
        stages = {path.name for path in (results / run / "cause" / "seed-0").glob("[!.]*")}
        assert stages == {"probe.safetensors", "probe.csv", "classes.csv"}
        assert len(list((results / run / "segmentation").rglob("*.png"))) == 6
        page = (results / run / "report" / "index.html").read_text(encoding="utf-8")
        assert "<h3>Training</h3>" in page
        assert "fit_clusterbook" in page
        assert "cache_crops" in page  # in the table of times
    made = {name: len(list((results / name).glob("[!.]*"))) for name in ("crops", "views", "heads")}
    assert made == {"crops": 1 + 2, "views": 2, "heads": 2}  # as released, crops at two sizes
    assert not (results / "features").exists()
    (row, *_) = read_rows(results / "cause" / "tables" / "metrics.csv")
    assert row["fitted_on"] == "the evaluated images, without labels"
    assert row["refinement"] == "crf"


def test_every_figure_of_the_released_probe_says_that_it_saw_labels(trained, read_rows):
    results = trained[0] / "results" / "train"
    rows = read_rows(results / "released" / "tables" / "metrics.csv")
    assert {row["fitted_on"] for row in rows} == {LEAK}
    compared = read_rows(results / "comparison" / "comparison.csv")
    assert {row["name"] for row in compared if row["fitted_on"] == LEAK} == {"released"}
    for page in ("released/report/index.html", "comparison/index.html"):
        assert "WITH THEIR LABELS" in (results / page).read_text(encoding="utf-8")
    assert "LABELS" not in (results / "cause" / "report" / "index.html").read_text("utf-8")
    columns = read_rows(results / "released" / "cause" / "seed-0" / "probe.csv")[0]
    assert set(columns) == {"step", "epoch", "modularity", "linear_probe"}
    losses = [list(read_rows(path)[0]) for path in (results / "heads").glob("*/seed-0.csv")]
    own = ["step", "epoch", "contrast"]
    assert sorted(losses) == [own, [*own, "linear_probe"]]


def test_runs_that_differ_in_the_probe_share_what_is_trained_before_it(
    trained, run_snakemake, fast_config
):
    """A third run beside those that are finished has a probe of its own, and no more."""
    folder, _ = trained
    runs = {"detached": {"cause": {"linear_probe": "detached"}}, **TRAIN["runs"]}
    config = fast_config({**TRAIN, "runs": runs})
    result = run_snakemake(folder, "--dry-run", "--until", "fit_probe", config=config)
    counts = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout, flags=re.M))
    assert counts == {"fit_probe": "1", "total": "1"}


def test_on_the_images_of_the_training_an_applied_head_segments_the_same(trained):
    results = trained[0] / "results"
    pngs = sorted((results / "train/cause/segmentation").rglob("*.png"))
    assert len(pngs) == 6
    for path in pngs:
        place = path.relative_to(results / "train" / "cause")
        assert (results / "again" / "applied" / place).read_bytes() == path.read_bytes()


def test_tables_and_summary_name_the_images_of_the_training(trained, read_rows):
    folder, output = trained
    rows = read_rows(folder / "results/val/applied/tables/metrics.csv")
    assert {row["fitted_on"] for row in rows} == {"train, without labels"}
    assert f"fitted on train, without labels: {TRAINED}" in output
    assert not (folder / "results/val/crops").exists()


def test_the_number_of_jobs_is_the_one_that_plan_states(
    trained, run_snakemake, fast_config, tmp_path
):
    for config in (TRAIN, photos("val", "b", APPLIED)):
        folder = tmp_path / str(config["dataset"]["name"])  # type: ignore[index]
        folder.mkdir()
        for name in ("a", "b"):
            (folder / name).symlink_to(trained[0] / name)
        copy = folder / "results/train/cause"
        copy.mkdir(parents=True)
        shutil.copytree(trained[0] / TRAINED, copy / "cause")
        result = run_snakemake(folder, "--dry-run", "--forceall", config=fast_config(config))
        counts = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout, flags=re.M))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            planned = Layout(parse_config(fast_config(config))).count_jobs()
        del counts["all"], counts["total"]
        assert {step: int(count) for step, count in counts.items()} == planned


def test_a_head_that_does_not_fit_is_a_mistake(trained, run_snakemake, fast_config):
    folder, _ = trained
    changes = {"labelling": {"seeds": [0, 7]}, "cause": {"head": "tr", "framing": "squash"}}
    changes["backbone"] = {"positions": "as_released"}
    config = fast_config(photos("val", "b", {"applied": {**APPLIED["applied"], **changes}}))
    result = run_snakemake(folder, "--dry-run", config=config)
    assert result.returncode != 0
    for message in (
        "runs.applied.cause.head = 'tr': the head of seed 0 was trained with 'mlp'",
        "runs.applied.cause.framing = 'squash': the head of seed 0 was trained with 'crop'",
        "runs.applied.backbone.positions = 'as_released': the head of seed 0 was trained with",
        f"{TRAINED}/seed-7/probe.safetensors: is missing; a run with `method: cause` writes",
    ):
        assert message in result.stdout


def test_a_head_of_other_weights_is_refused(trained, run_snakemake, fast_config):
    folder, _ = trained
    config = fast_config(
        photos("val", "b", {"applied": APPLIED["applied"]}), {"backbone": {"seed": 5}}
    )
    result = run_snakemake(folder, "--until", "adopt_probe", config=config)
    assert result.returncode != 0
    assert "trained with other backbone weights than those set in `backbone`" in result.stdout


def test_a_size_of_too_few_patches_is_a_clear_error(trained, run_snakemake, fast_config):
    folder, _ = trained
    config = fast_config(photos("small", "a", {"cause": {}}), {"cause": {"size": 160}})
    result = run_snakemake(folder, "--until", "cache_crops", config=config)
    assert result.returncode != 0
    assert (
        "cause.size: training crops have a side of 112 pixels, 7.0 patches of 16" in result.stdout
    )
