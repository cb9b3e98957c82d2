"""The main job on a small demo: whole, interrupted, repeated with a changed parameter."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightcluster.config import parse_config
from lightcluster.layout import Layout
from lightcluster.names.listing import list_clusters
from lightcluster.names.run import open_named
from lightcluster.regions.palette import hex_color
from lightcluster.reporting.provenance import read_cost
from lightcluster.steps import STEPS

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


def test_a_plain_dry_run_lists_every_step(tmp_path, run_snakemake):
    result = run_snakemake(tmp_path, "--dry-run")
    assert result.returncode == 0, result.stdout
    # Only where something is `auto`, scored by itself or compared, or annotations are painted.
    elsewhere = {
        "choose_features", "score_images", "compare", "write_dataset_page", "paint_labels"
    }  # fmt: skip
    ours = {name for name, step in STEPS.items() if "lightcluster" in step.kinds}
    for step in ours - elsewhere:
        assert re.search(rf"^{step} +\d+$", result.stdout, flags=re.M), step


def test_the_number_of_jobs_is_the_one_that_plan_states(tmp_path, run_snakemake, config):
    result = run_snakemake(tmp_path, "--dry-run", config=config)
    counts = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout, flags=re.M))
    planned = Layout(parse_config(config)).count_jobs()
    assert {step: int(counts[step]) for step in STEPS if step in counts} == planned


def test_what_forked_steps_take_is_measured(finished):
    folder, _ = finished
    files = sorted((folder / RUN / "benchmarks").rglob("*.tsv"))
    costs = {path: read_cost("any", [path]) for path in files}
    assert len(costs) > 20
    for path, cost in costs.items():
        assert 0.02 < cost.cpu < 600, path
        assert 50 < cost.memory < 4000, path


def test_the_run_says_what_is_done_and_where_to_look(finished):
    _, output = finished
    assert "100%) done" in output
    assert "refined mask" in output
    assert str(RUN / "report" / "index.html") in output


def test_clusters_are_listed_with_their_sizes_and_matches_as_in_the_gallery(finished):
    folder, _ = finished
    lines = list(list_clusters(open_named(folder / RUN), {}))
    text = (folder / RUN / "gallery" / "data" / "classes.js").read_text("utf-8")
    known = json.loads(text.removeprefix("gallery.know(").removesuffix(");\n"))["clusters"]
    assert len(known) == len(lines) - 1 >= 2
    for line, facts in zip(lines[1:], known, strict=True):
        match = ["{}, IoU {:.2f}".format(*facts["match"])] if facts["match"] else []
        found = [facts["id"], "-", facts["regions"], facts["images"], *match]
        assert line.split() == " ".join(map(str, found)).split()


def test_every_scene_has_a_segmentation_a_mask_and_its_scores(finished, read_rows):
    folder, _ = finished
    names = {f"scene-{index:04d}.png" for index in range(12)}
    for place in ("segmentation", "masks/png"):
        assert {path.name for path in (folder / RUN / place).rglob("*.png")} == names
    assert not read_rows(folder / "results/demo/rejected.csv")
    metrics = read_rows(folder / RUN / "tables" / "metrics.csv")
    stages = {row["stage"] for row in metrics}
    assert stages >= {"dataset", "category", "image", "merged", "upsampled", "refined"}
    assert stages >= {"segmentation", "random_labels", "oracle_labels"}
    seeds = {row["seed"] for row in metrics if row["stage"] == "segmentation"}
    assert seeds == {"0", "1", "2", "3", "4", "mean", "sd"}
    assert all(0 <= float(row["value"]) <= 1 for row in metrics if row["value"])


def test_segmentations_of_all_seeds_are_written_if_asked_for(finished, run_snakemake, fast_config):
    folder, _ = finished
    painted = {path.parent.name for path in (folder / RUN / "segmentation").glob("*/0000")}
    assert painted == {"seed-0"}
    config = fast_config(DEMO, {"report": {"segmentations": "all"}})
    result = run_snakemake(folder, "--dry-run", config=config)
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout, flags=re.M))
    assert jobs == {"all": "1", "paint_segmentation": "8", "report": "1", "total": "10"}


def test_a_class_has_one_colour_on_all_pages_and_in_all_files(finished, read_rows):
    folder = finished[0] / RUN
    written = {
        row["id"]: row["color"] for row in read_rows(folder / "segmentation/seed-0/classes.csv")
    }
    clusters = {number: color for number, color in written.items() if number != "0"}
    assert len(set(clusters.values())) == len(clusters) > 1
    for path in (folder / "segmentation").rglob("*.png"):
        with Image.open(path) as image:
            colors = np.array(image.getpalette()).reshape(-1, 3)
        assert all(hex_color(colors[int(number)]) == color for number, color in clusters.items())
    page = (folder / "report" / "index.html").read_text("utf-8")
    rows = r'<tr><th scope="row" data-value="[^"]*"><span[^>]*background: ?(#\w+)[^>]*></span>'
    assert dict(re.findall(rows + r'<a href="[^"]*;class=(\d+)"', page)) == {
        color: number for number, color in clusters.items()
    }
    facts = (folder / "gallery/data/classes.js").read_text("utf-8")
    known = json.loads(facts.removeprefix("gallery.know(").removesuffix(");\n"))
    assert {str(one["id"]): one["color"] for one in known["clusters"]} == clusters
    legend = dict(re.findall(r"background: ?(#\w+)[^>]*></span>([^<(]+) \(cluster", page))
    # Several clusters may be matched to a class, which has the colour of the first.
    truth = {color: name for name, color in known["truth"] if color in legend}
    assert len(truth) > 2
    assert truth.items() <= legend.items()


def test_logs_hold_a_progress_bar_with_speed_and_time_left(finished):
    folder, _ = finished
    (log, *_) = (folder / "results/demo/logs/extract_features").rglob("*.log")
    assert re.search(
        r"100%.*\d+/\d+ \[\d\d:\d\d<\d\d:\d\d, +[\d.]+(image/s|s/image)\]", log.read_text()
    )


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


def test_parsing_imports_neither_torch_nor_timm(tmp_path, run_snakemake, settings_file, config):
    run_snakemake(tmp_path, "--dry-run", config=config)
    name = settings_file(tmp_path, config)
    probe = (
        f"import sys; sys.argv = ['snakemake', '-n', '--quiet', 'all', '--configfile', '{name}'];"
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
