"""The main job on a small demo: whole, interrupted, repeated with a changed parameter."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightcluster.config import parse_config
from lightcluster.layout import Layout
from lightcluster.steps import STEPS, rerun_by

DEMO = {
    "dataset": {"demo": {"scenes": 12}, "shard_size": 8},
    "labelling": {"seeds": [0, 1, 2, 3, 4]},
}
RUN = Path("results/demo/lightcluster")


@pytest.fixture(scope="module")
def config(fast_config):
    return fast_config(DEMO)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_snakemake, config):
    """A folder in which the whole workflow has run once, and what that printed."""
    folder = tmp_path_factory.mktemp("demo")
    result = run_snakemake(folder, config=config)
    assert result.returncode == 0, result.stdout
    return folder, result.stdout


def rerunning(run_snakemake, folder, config, *arguments) -> set[str]:
    """Return the rules that a dry run would run."""
    result = run_snakemake(folder, "--dry-run", "--quiet", "host", *arguments, config=config)
    assert result.returncode == 0, result.stdout
    table = result.stdout.partition("Job stats:")[2].partition("total")[0]
    return set(re.findall(r"^(\w+) +\d+$", table, flags=re.M)) - {"all"}


def digests(folder: Path) -> dict[str, str]:
    """Return a digest of every result; logs, timings and snakemake's time stamps are none."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        place = path.relative_to(folder)
        aside = {"logs", "benchmarks", ".snakemake_timestamp"} & set(place.parts)
        if path.is_file() and not aside:
            found[str(place)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_a_plain_dry_run_lists_every_step(tmp_path, run_snakemake):
    result = run_snakemake(tmp_path, "--dry-run")
    assert result.returncode == 0, result.stdout
    for step in STEPS:
        assert re.search(rf"^{step} +\d+$", result.stdout, flags=re.M), step


def test_the_number_of_jobs_is_the_one_that_plan_states(tmp_path, run_snakemake, config):
    result = run_snakemake(tmp_path, "--dry-run", config=config)
    counts = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout, flags=re.M))
    planned = Layout(parse_config(config)).count_jobs()
    assert {step: int(counts[step]) for step in STEPS} == planned


def test_the_run_says_what_is_done_and_where_to_look(finished):
    _, output = finished
    assert "100%) done" in output
    assert "refined mask" in output
    assert str(RUN / "report" / "index.html") in output


def test_every_scene_has_a_segmentation_a_mask_and_its_scores(finished, read_rows):
    folder, _ = finished
    names = {f"scene-{index:04d}.png" for index in range(12)}
    for place in ("segmentation/seed-4", "masks/round-0/png"):
        assert {path.name for path in (folder / RUN / place).rglob("*.png")} == names
    assert not read_rows(folder / "results/demo/rejected.csv")
    metrics = read_rows(folder / RUN / "tables" / "metrics.csv")
    stages = {row["stage"] for row in metrics}
    assert stages >= {"dataset", "category", "image", "merged", "upsampled", "refined"}
    assert stages >= {"segmentation", "random_labels", "oracle_labels"}
    seeds = {row["seed"] for row in metrics if row["stage"] == "segmentation"}
    assert seeds == {"0", "1", "2", "3", "4", "mean", "sd"}
    assert all(0 <= float(row["value"]) <= 1 for row in metrics if row["value"])


def test_logs_hold_a_progress_bar_with_speed_and_time_left(finished):
    folder, _ = finished
    (log, *_) = (folder / "results/demo/logs/extract_features").rglob("*.log")
    assert re.search(
        r"100%.*\d+/\d+ \[\d\d:\d\d<\d\d:\d\d, +[\d.]+(image/s|s/image)\]", log.read_text()
    )


def test_nothing_is_left_to_do_and_touching_or_speed_settings_change_nothing(
    finished, run_snakemake, config
):
    folder, _ = finished
    assert rerunning(run_snakemake, folder, config) == set()
    os.utime(folder / "config" / "config.yaml")
    arguments = ("--set-resources", "extract_features:batch_size=3", "extract_features:device=cpu")
    assert rerunning(run_snakemake, folder, config, *arguments) == set()
    assert rerunning(run_snakemake, folder, config, "--set-threads", "extract_features=1") == set()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("refinement", "iterations", 3),
        ("clustering", "k_category", 3),
        ("labelling", "pca", 4),
        ("consistency", "rule", "any"),
        ("report", "samples", 2),
        ("features", "facet", "token"),
    ],
)
def test_a_changed_parameter_reruns_exactly_what_depends_on_it(
    finished, run_snakemake, fast_config, section, key, value
):
    folder, _ = finished
    changed = fast_config({**DEMO, section: {**DEMO.get(section, {}), key: value}})
    assert rerunning(run_snakemake, folder, changed) == set(rerun_by(f"{section}.{key}"))


def test_a_second_run_computes_only_what_it_does_not_share(finished, run_snakemake, config):
    folder, _ = finished
    runs = {"lightcluster": {}, "second": {"consistency": {"rule": "all"}}}
    rerun = rerunning(run_snakemake, folder, {**config, "runs": runs})
    assert "merge_levels" in rerun
    assert not rerun & {"index_dataset", "fetch_weights", "extract_features"}


def test_killed_at_any_moment_a_plain_rerun_gives_the_same_bytes(
    finished, tmp_path, run_snakemake, config
):
    """SIGKILL the whole process group three times, then run to the end."""
    whole, _ = finished
    run_snakemake(tmp_path, "--dry-run", config=config)  # links the project, writes the settings
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "test.yaml"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for seconds in (6, 9, 12):
        process = subprocess.Popen(
            [*command, "--nolock"], cwd=tmp_path, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    result = run_snakemake(tmp_path, "--nolock", config=config)
    assert result.returncode == 0, result.stdout
    assert digests(tmp_path) == digests(whole)
    assert not list((tmp_path / "results").rglob("*.tmp"))


def test_a_run_can_be_moved(finished, tmp_path, run_snakemake, config):
    whole, _ = finished
    moved = tmp_path / "moved"
    shutil.copytree(whole, moved, symlinks=True)
    assert rerunning(run_snakemake, moved, config) == set()


def test_the_report_of_snakemake_needs_no_network(finished, run_snakemake, config):
    folder, _ = finished
    result = run_snakemake(folder, "--report", "report.html", config=config)
    assert result.returncode == 0, result.stdout
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "metrics.csv" in page
    assert "contact_sheet_1" in page


def test_mistakes_of_the_configuration_are_all_reported(tmp_path, run_snakemake):
    config = {"features": {"shortside": 3}, "clustering": {"k_image": 0}}
    result = run_snakemake(tmp_path, "--dry-run", config=config)
    assert result.returncode != 0
    assert "did you mean features.short_side?" in result.stdout
    assert "clustering.k_image = 0" in result.stdout


def test_parsing_imports_neither_torch_nor_timm(tmp_path, run_snakemake, config):
    run_snakemake(tmp_path, "--dry-run", config=config)
    probe = (
        "import sys; sys.argv = ['snakemake', '-n', '--quiet', 'all', '--configfile', 'test.yaml'];"
        "import snakemake.cli\n"
        "try: snakemake.cli.main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', sorted({'torch', 'timm', 'faiss', 'skimage'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True
    )
    assert "LOADED []" in result.stdout, result.stdout + result.stderr


def test_metrics_are_read_back_by_pandas_as_they_are(finished):
    folder, _ = finished
    with (folder / RUN / "tables" / "metrics.csv").open(newline="") as file:
        (header, *rows) = csv.reader(file)
    assert header[:8] == [
        "dataset", "run", "protocol", "stage", "matching", "fallback", "seed", "metric",
    ]  # fmt: skip
    assert {len(row) for row in rows} == {len(header)}
