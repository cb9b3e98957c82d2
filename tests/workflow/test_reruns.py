"""What runs again: every key of the configuration, every step's version, runs, added images."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from layouts import (
    COCO_IDS,
    scene_annotations,
    write_instances,
    write_lines,
    write_scene_tars,
)
from lightcluster.config import parse_config, walk_keys
from lightcluster.datasets.listing import shard_of
from lightcluster.datasets.scenes import SceneStyle, write_scenes
from lightcluster.extraction.store import FeatureStore
from lightcluster.extraction.weights import fetch_weights
from lightcluster.layout import read_choice
from lightcluster.methods.cause.recipe import released
from lightcluster.places import record_of
from lightcluster.step.declaration import OF_A_RUN
from lightcluster.steps import STEPS, rerun_by

ROOT = Path(__file__).resolve().parents[2]
OF_RUNS = {*OF_A_RUN, "all runs"}
"""Units of the steps that have a job where there is another run."""

DEMO = {
    "dataset": {"demo": {"scenes": 12}, "shard_size": 8},
    "features": {"facet": "auto", "layer": "auto"},
    "evaluation": {"protocols": ["maskcontrast", "per_image"]},
    "comparison": {"published": "coco_81"},
    "report": {"parts": 2},
    "runs": {"lightcluster": {}, "kmeans": {"method": "kmeans"}, "cause": {"method": "cause"}},
}
"""A configuration in which every step but `paint_labels` has a job."""

FOLDER = {
    "dataset": {
        "name": "photos",
        "format": "folder",
        "images": "scenes/images",
        "labels": "scenes/labels",
        "classes": "scenes/classes.csv",
        "shard_size": 8,
    }
}

TARS = {
    "dataset": {
        "name": "tars",
        "format": "webdataset",
        "images": "tars",
        "classes": "classes.csv",
        "label_extension": "seg.png",
    }
}

PARQUET = {
    "dataset": {
        "name": "cells",
        "format": "parquet",
        "images": "cells.parquet",
        "classes": "scenes/classes.csv",
        "label_column": "label",
    }
}

THINGS = {
    "dataset": {"name": "things", "format": "coco_things", "root": "coco", "shard_size": 4},
    "backbone": {"weights": "weights.safetensors"},
    "method": "kmeans",
}

CHANGES: dict[str, Any] = {
    "dataset.name": "elsewhere",
    "dataset.background": 1,
    "dataset.ignore": 254,
    "dataset.on_bad_image": "stop",
    "dataset.max_pixels": 10_000_000,
    "dataset.depth": "stretch",
    "dataset.shard_size": 4,
    "dataset.demo.scenes": 13,
    "dataset.demo.seed": 1,
    "method": "cause",
    "backbone.model": "vit_small_patch16_224",
    "backbone.weights": "finetuned.safetensors",
    "backbone.seed": 1,
    "backbone.mean": [0.4, 0.4, 0.4],
    "backbone.std": [0.3, 0.3, 0.3],
    "backbone.positions": "as_released",
    "features.facet": "token",
    "features.layer": -2,
    "features.rotation": "after",
    "features.auto_images": 9,
    "features.short_side": 112,
    "features.max_tokens": 5000,
    "features.precision": "bfloat16",
    "clustering.normalize": "none",
    "clustering.metric": "euclidean",
    "clustering.k_dataset": 3,
    "clustering.k_category": 3,
    "clustering.k_image": 3,
    "clustering.sample_tokens": 512,
    "clustering.restarts": 2,
    "clustering.restarts_image": 2,
    "clustering.iterations": 6,
    "clustering.seed": 1,
    "superclasses.count": 2,
    "superclasses.min_images": 3,
    "superclasses.sample_images": 1024,
    "foreground.rules": ["attention"],
    "consistency.rule": "any",
    "reestimation.rounds": 2,
    "reestimation.start": "merged",
    "reestimation.trees": 2,
    "reestimation.clusters": 16,
    "reestimation.prior": 10,
    "reestimation.radius": 0.2,
    "reestimation.epsilon": 0.01,
    "reestimation.sample_tokens": 512,
    "upsampling.method": "nearest",
    "upsampling.threshold": 0.4,
    "refinement.method": "crf",
    "refinement.guided_radius": 0.1,
    "refinement.guided_epsilon": 0.01,
    "refinement.clip": 0.2,
    "refinement.gaussian_sxy": 2,
    "refinement.gaussian_weight": 2,
    "refinement.bilateral_sxy": 20,
    "refinement.bilateral_srgb": 10,
    "refinement.bilateral_weight": 5,
    "refinement.iterations": 3,
    "refinement.min_area": 0.01,
    "refinement.max_pixels": 50_000,
    "regions.min_area": 0.1,
    "regions.split": 0.5,
    "regions.margin": 0.3,
    "regions.crop_size": 96,
    "regions.masked": True,
    "labelling.classes": 4,
    "labelling.features": ["cls"],
    "labelling.method": "kmeans",
    "labelling.pca": 4,
    "labelling.restarts": 3,
    "labelling.iterations": 7,
    "labelling.seeds": [0, 1],
    "labelling.sample_regions": 512,
    "cause.recipe": "released",
    "cause.head": "tr",
    "cause.size": 200,
    "cause.framing": "squash",
    "cause.resampling": "nearest",
    "cause.clusterbook_crops": "full",
    "cause.teacher_start": "shared",
    "cause.fractions": [0.5, 0.8],
    "cause.mirrored": True,
    "cause.codes": 17,
    "cause.bank": 5,
    "cause.batch_size": 4,
    "cause.learning_rate": 0.01,
    "cause.weight_decay": 0,
    "cause.clip": 2,
    "cause.least_steps": 4,
    "cause.probe_start": "uniform",
    "cause.probe_dropout": True,
    "cause.probe_weight_decay": 0.1,
    "cause.probe_clip": 1,
    "cause.linear_probe": "as_released",
    "cause.crf": False,
    "cause.crf_image": "bgr",
    "evaluation.protocols": ["stego", "coco_things", "per_image"],
    "evaluation.stego_squash": True,
    "comparison.published": "voc2012",
    "comparison.resamples": 200,
    "comparison.seed": 1,
    "report.samples": 2,
    "report.seed": 1,
    "report.failures": 3,
    "report.parts": 3,
    "report.gallery": 3,
    "report.segmentations": "all",
}
"""Another value of each key, put over `DEMO`."""

SET_OTHERS = ("cause.recipe", "cause.linear_probe")
"""Keys of `CHANGES` that set defaults of others, which are therefore given with them."""

FOLDER_CHANGES: dict[str, dict[str, Any]] = {
    "dataset.format": {"format": "demo", "images": None, "labels": None, "classes": None},
    "dataset.images": {"images": "copy/images"},
    "dataset.labels": {"labels": "copy/labels"},
    "dataset.label_pattern": {"label_pattern": "{stem}.tif"},
    "dataset.classes": {"classes": "copy/classes.csv"},
}
"""Keys that only a folder of images has; the changes of its section."""

TARS_CHANGES: dict[str, dict[str, Any]] = {
    "dataset.image_extension": {"image_extension": "jpg"},
    "dataset.label_extension": {"label_extension": "other.png"},
}
"""Keys that only a dataset in tars has, likewise."""

PARQUET_CHANGES: dict[str, dict[str, Any]] = {
    "dataset.image_column": {"image_column": "copy"},
    "dataset.label_column": {"label_column": "copy_label"},
}
"""Keys that only a dataset in parquet files has, likewise."""

THINGS_CHANGES: dict[str, dict[str, Any]] = {
    "dataset.root": {"root": "copy"},
    "dataset.split": {"split": "train2017"},
    "dataset.image_list": {"image_list": "list.txt"},
}
"""Keys that only a dataset of the field has, likewise."""


FIT_CHANGES: dict[str, dict[str, Any]] = {
    "fit.model": {"fit": {"model": "results/photos/lightcluster/model"}},
}
"""The key with which nothing is fitted, put over `FOLDER`."""


def sample(names: list[str], alike: Callable[[str], object]) -> list[Any]:
    """Mark all but the first of those that are alike: `make test` leaves them out."""
    seen: list[object] = []
    marked: list[Any] = []
    for name in names:
        repeated = alike(name) in seen
        marked.append(pytest.param(name, marks=pytest.mark.thorough) if repeated else name)
        seen.append(alike(name))
    return marked


def selected(request: pytest.FixtureRequest, test: str, parameter: str) -> set[str]:
    """Return the values with which a test is going to run."""
    items = (item for item in request.session.items if item.originalname == test)
    return {item.callspec.params[parameter] for item in items}


def without_a_job(key: str) -> set[str]:
    """Return the steps that have no job in the configuration that a key is changed in."""

    def of_no_run(*kinds: str) -> set[str]:
        return {name for name, step in STEPS.items() if not {*kinds} & {*step.kinds}}

    painted = {"paint_labels"}
    alone = {"choose_features", "score_images", "compare", "write_dataset_page", "discover_parts"}
    if key in THINGS_CHANGES:
        return alone | of_no_run("kmeans")
    if key in {**FOLDER_CHANGES, **TARS_CHANGES, **PARQUET_CHANGES}:
        return alone | painted | of_no_run("lightcluster")
    if key in FIT_CHANGES:
        return alone | painted | of_no_run("applied")
    if key == "report.segmentations":  # there is but one seed; `test_demo` has more
        unchanged = {"paint_segmentation", "draw_gallery", "write_gallery"}
        return painted | unchanged | of_no_run("lightcluster", "kmeans", "cause")
    if key == "labelling.seeds":  # another one is added, whose segmentations are not written
        return painted | {"paint_segmentation"} | of_no_run("lightcluster", "kmeans", "cause")
    if key == "method":  # the other run of this method has made what is shared
        shared = {"cache_crops", "cache_views", "fit_clusterbook", "train_head"}
        return painted | shared | of_no_run(CHANGES[key])
    return painted | of_no_run("lightcluster", "kmeans", "cause")


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return `value` under a dotted key."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


@pytest.fixture(scope="module")
def dry_run(run_snakemake):
    """``dry_run(folder, *arguments, config)``: number of jobs of each rule that would run."""

    def run(folder: Path, *arguments: str, config: Mapping[str, Any]) -> dict[str, int]:
        # A settings file for each, so that dry runs can go on side by side.
        result = run_snakemake(
            folder, "--dry-run", "--quiet", "host", *arguments, config=config, cores=1
        )
        assert result.returncode == 0, result.stdout
        table = result.stdout.partition("Job stats:")[2].partition("total")[0]
        jobs = re.findall(r"^(\w+) +(\d+)$", table, flags=re.M)
        return {rule: int(count) for rule, count in jobs if rule != "all"}

    return run


@pytest.fixture(scope="module")
def demo(tmp_path_factory, run_snakemake, fast_config):
    """A folder in which the demo is finished."""
    folder = tmp_path_factory.mktemp("demo")
    result = run_snakemake(folder, config=fast_config(DEMO))
    assert result.returncode == 0, result.stdout
    assert "chosen without labels" in result.stdout
    return folder


def test_the_features_that_are_chosen_are_extracted(demo, read_rows):
    (table,) = (demo / "results/demo/features").glob("*-auto-auto-*/choice.csv")
    best = read_rows(table)[0]
    assert read_choice(table) == (best["facet"], int(best["layer"]))
    stores = [FeatureStore.open(path) for path in table.parent.glob("*.zarr")]
    assert len(stores) == 2
    for store in stores:
        assert (*store.facets, str(store.attributes["layer"])) == (best["facet"], best["layer"])


def test_what_is_fitted_is_adopted_by_other_runs(demo, tmp_path, run_snakemake, fast_config):
    """The two steps that have no job in `DEMO`."""
    folder = moved(demo, tmp_path)
    runs = {
        "applied": {"fit": {"model": "results/demo/lightcluster/model"}},
        "probed": {"method": "cause", "fit": {"model": "results/demo/cause/cause"}},
    }
    until = ("--until", "adopt_fit", "adopt_probe")
    result = run_snakemake(folder, *until, config=fast_config({**DEMO, "runs": runs}))
    assert result.returncode == 0, result.stdout
    results = folder / "results" / "demo"
    for name in ("clusters/dataset.npz", "masks/foreground.npz"):
        assert (results / "applied" / name).exists()
    probe = "cause/seed-0/probe.safetensors"
    assert (results / "probed" / probe).read_bytes() == (results / "cause" / probe).read_bytes()


@pytest.fixture(scope="module")
def photos(tmp_path_factory, run_snakemake, fast_config):
    """A folder in which the segmentation of a folder of images with labels is finished."""
    folder = tmp_path_factory.mktemp("photos")
    write_scenes(folder / "scenes", 12, 3, SceneStyle(height=96, width=128))
    shutil.copytree(folder / "scenes", folder / "copy")
    result = run_snakemake(folder, config=fast_config(FOLDER))
    assert result.returncode == 0, result.stdout
    return folder


@pytest.fixture(scope="module")
def tars(tmp_path_factory, run_snakemake, fast_config):
    """A folder in which the segmentation of images in a tar is finished."""
    folder = tmp_path_factory.mktemp("tars")
    write_scene_tars(folder, 12, 1)
    result = run_snakemake(folder, config=fast_config(TARS))
    assert result.returncode == 0, result.stdout
    return folder


@pytest.fixture(scope="module")
def cells(tmp_path_factory, run_snakemake, fast_config):
    """A folder in which the segmentation of images in a parquet file is finished."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    folder = tmp_path_factory.mktemp("cells")
    write_scenes(folder / "scenes", 12, 3, SceneStyle(height=96, width=128))
    images, labels = (
        [path.read_bytes() for path in sorted((folder / "scenes" / kind).iterdir())]
        for kind in ("images", "labels")
    )
    columns = {"image": images, "label": labels, "copy": images, "copy_label": labels}
    write_table(arrow.table(columns), folder / "cells.parquet", row_group_size=5)
    result = run_snakemake(folder, config=fast_config(PARQUET))
    assert result.returncode == 0, result.stdout
    return folder


@pytest.fixture(scope="module")
def things(tmp_path_factory, run_snakemake, fast_config):
    """A folder in which images with instance annotations are segmented, by weights of a file."""
    folder = tmp_path_factory.mktemp("things")
    model = fast_config()["backbone"]["model"]
    fetch_weights(model, "random", None, 0, folder / THINGS["backbone"]["weights"])
    for split in ("val2017", "train2017"):
        write_instances(folder / "coco", scene_annotations(), split)
    shutil.copytree(folder / "coco", folder / "copy")
    write_lines(folder / "list.txt", COCO_IDS)
    result = run_snakemake(folder, config=fast_config(THINGS))
    assert result.returncode == 0, result.stdout
    return folder


@pytest.fixture(scope="module")
def rerun(request, demo, photos, things, dry_run, fast_config):
    """For each key that is tried, what a dry run on finished results would run if it changed."""
    dumped = parse_config(fast_config(DEMO))["cause"].cause.model_dump(mode="json")
    ours = {"cause": {key: dumped[key] for key in released("demo", "mlp")}}
    name = test_a_changed_key_reruns_the_documented_steps_and_no_others.__name__
    tried = selected(request, name, "key")
    jobs = (
        {
            key: (demo, fast_config(DEMO, ours if key in SET_OTHERS else {}, nested(key, value)))
            for key, value in CHANGES.items()
        }
        | {
            key: (photos, fast_config(FOLDER, {"dataset": changes}))
            for key, changes in FOLDER_CHANGES.items()
        }
        | {
            key: (things, fast_config(THINGS, {"dataset": changes}))
            for key, changes in THINGS_CHANGES.items()
        }
        | {
            key: (request.getfixturevalue("tars"), fast_config(TARS, {"dataset": changes}))
            for key, changes in TARS_CHANGES.items()
            if key in tried
        }
        | {
            key: (request.getfixturevalue("cells"), fast_config(PARQUET, {"dataset": changes}))
            for key, changes in PARQUET_CHANGES.items()
            if key in tried
        }
        | {key: (photos, fast_config(FOLDER, changes)) for key, changes in FIT_CHANGES.items()}
    )
    jobs = {key: job for key, job in jobs.items() if key in tried}
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda job: set(dry_run(job[0], config=job[1])), jobs.values())
        return dict(zip(jobs, found, strict=True))


def test_every_key_is_tried():
    changes = (CHANGES, FOLDER_CHANGES, TARS_CHANGES, PARQUET_CHANGES, THINGS_CHANGES, FIT_CHANGES)
    tried = [key for keys in changes for key in keys]
    assert sorted(tried) == sorted(key for key, _ in walk_keys())


def section_of(key: str) -> str:
    return key.partition(".")[0]


@pytest.mark.parametrize("key", sample([key for key, _ in walk_keys()], section_of))
def test_a_changed_key_reruns_the_documented_steps_and_no_others(key, rerun):
    assert rerun[key] == set(rerun_by(key)) - without_a_job(key)


# ---- what is no parameter --------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set-resources", "extract_features:batch_size=3", "embed_regions:device=cpu"),
        ("--cores", "7"),
        *(
            pytest.param(arguments, marks=pytest.mark.thorough)
            for arguments in (
                ("--set-threads", "extract_features=1", "cluster_dataset=1"),
                ("--set-resources", "refine_masks:mem_mb=9000", "refine_masks:runtime=999"),
                ("--resources", "gpu=2"),
            )
        ),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_settings_of_speed_rerun_nothing(arguments, demo, dry_run, fast_config):
    assert dry_run(demo, *arguments, config=fast_config(DEMO)) == {}


def test_touching_inputs_and_sources_reruns_nothing(photos, things, dry_run, fast_config):
    inputs = [path for path in (photos / "scenes").rglob("*") if path.is_file()]
    assert len(inputs) == 25
    for path in (*inputs, photos / "config" / "config.yaml", photos / "Snakefile"):
        os.utime(path)
    assert dry_run(photos, config=fast_config(FOLDER)) == {}
    for path in (*(things / "coco").rglob("*.*"), things / "weights.safetensors"):
        os.utime(path)
    assert dry_run(things, config=fast_config(THINGS)) == {}


def change_in_place(path: Path) -> None:
    """Change the last bit of the byte in the middle of a file; its length and time stay."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        (byte,) = file.read(1)
        file.seek(status.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size


@pytest.mark.parametrize(
    ("name", "shards", "features"),
    [("images/scene-0001.jpg", 1, 1), ("labels/scene-0001.png", 1, 1), ("classes.csv", 2, 2)],
)
def test_a_byte_of_an_input_changed_in_place_reruns_what_reads_it(
    name, shards, features, photos, tmp_path, dry_run, fast_config
):
    folder = moved(photos, tmp_path)
    change_in_place(folder / "scenes" / name)
    jobs = dry_run(folder, config=fast_config(FOLDER))
    assert (jobs["index_dataset"], jobs["extract_features"]) == (shards, features)
    assert ("read_classes" in jobs) == (name == "classes.csv")
    assert not jobs.keys() & {"fetch_weights"}


def test_a_byte_of_weights_and_of_annotations_changed_in_place_reruns_what_reads_them(
    things, tmp_path, dry_run, fast_config
):
    folder = moved(things, tmp_path)
    change_in_place(folder / "weights.safetensors")
    jobs = dry_run(folder, config=fast_config(THINGS))
    assert jobs["fetch_weights"] == 1
    assert not jobs.keys() & {"paint_labels", "index_dataset"}
    change_in_place(folder / "coco" / "annotations" / "instances_val2017.json")
    jobs = dry_run(folder, config=fast_config(THINGS))
    assert jobs["fetch_weights"] == jobs["paint_labels"] == 1


def moved(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of a folder at another place, with all times of its files."""
    copy = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, copy, symlinks=True)
    return copy


def test_moving_the_whole_folder_reruns_nothing(demo, photos, tmp_path, dry_run, fast_config):
    for folder, changes in ((demo, DEMO), (photos, FOLDER)):
        assert dry_run(moved(folder, tmp_path), config=fast_config(changes)) == {}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """``checkout()``: a new copy of the project's files, with new times."""

    def copy() -> Path:
        folder = tmp_path_factory.mktemp("checkout")
        shutil.copy(ROOT / "Snakefile", folder)
        for name in ("workflow", "profiles", "envs", "config", "resources"):
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(
                ROOT / name, folder / name, ignore=ignored, copy_function=shutil.copyfile
            )
        return folder

    return copy


def test_a_fresh_checkout_reruns_nothing(demo, checkout, dry_run, fast_config):
    snakefile = str(checkout() / "Snakefile")
    assert dry_run(demo, "--snakefile", snakefile, config=fast_config(DEMO)) == {}


@pytest.fixture(scope="module")
def bumped(request, demo, things, checkout, dry_run, fast_config):
    """For each step that is tried, the rules that would run if its version were raised."""

    def run(step: str) -> set[str]:
        folder = checkout()
        table = folder / "workflow" / "lightcluster" / "steps.py"
        with table.open("a", encoding="utf-8") as file:
            file.write("import dataclasses\n")
            file.write(f"STEPS[{step!r}] = dataclasses.replace(STEPS[{step!r}], version=99)\n")
        snakefile = str(folder / "Snakefile")
        finished, changes = (things, THINGS) if step == "paint_labels" else (demo, DEMO)
        return set(dry_run(finished, "--snakefile", snakefile, config=fast_config(changes)))

    name = test_a_raised_version_reruns_the_step_and_what_follows.__name__
    tried = selected(request, name, "step")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(tried, pool.map(run, tried), strict=True))


BUMPED = [
    name for name, step in STEPS.items() if step.kinds not in (("applied",), ("cause-applied",))
]
"""Steps that have a job in `DEMO` or `THINGS`."""


@pytest.mark.parametrize("step", sample(BUMPED, lambda name: STEPS[name].unit))
def test_a_raised_version_reruns_the_step_and_what_follows(step, bumped):
    following = {step}
    for name, other in STEPS.items():
        if following & set(other.after):
            following.add(name)
    absent = without_a_job("dataset.root" if step == "paint_labels" else "dataset.name")
    assert bumped[step] == following - absent


# ---- what made a result ------------------------------------------------------------------------


def test_results_without_the_notes_of_snakemake_know_what_made_them(
    photos, tmp_path, dry_run, fast_config
):
    """As when results/ is moved alone, and where two folders share it through a link."""
    folder, config = moved(photos, tmp_path), fast_config(FOLDER)
    shutil.rmtree(folder / ".snakemake")
    assert dry_run(folder, config=config) == {}
    shutil.rmtree(folder / ".snakemake")
    other = fast_config(FOLDER, {"dataset": {"max_pixels": 10_000_000}})
    assert dry_run(folder, config=other)["index_dataset"] == 2

    second = tmp_path / "second"
    second.mkdir()
    for name in ("scenes", "copy", "results"):
        (second / name).symlink_to(folder / name)
    assert dry_run(second, config=config) == {}
    assert dry_run(second, config=other)["index_dataset"] == 2


@pytest.mark.parametrize(
    "text",
    [
        None,
        *(
            pytest.param(text, marks=pytest.mark.thorough)
            for text in ("", "[]", '{"record_format_version": 1}')
        ),
    ],
)
def test_what_nobody_knows_the_maker_of_is_made_again(
    text, photos, tmp_path, run_snakemake, fast_config
):
    folder = moved(photos, tmp_path)
    record = record_of(folder / "results/photos/lightcluster/report")
    record.unlink() if text is None else record.write_text(text)
    said = run_snakemake(folder, "--dry-run", config=fast_config(FOLDER)).stdout
    assert "results/photos/lightcluster/report: there is no record of how it was made" in said
    assert re.search(r"^report +1$", said, flags=re.M)


def test_what_no_longer_belongs_is_set_aside(photos, tmp_path, run_snakemake, fast_config):
    folder = moved(photos, tmp_path)
    run = folder / "results/photos/lightcluster"
    images = sorted((folder / "scenes/images").iterdir())
    for image in images[5:]:
        image.unlink()
    notes = run / "segmentation/seed-0/notes.txt"
    notes.write_text("mine")
    other = folder / "results/photos/another/segmentation/seed-0/0001"
    shutil.copytree(run / "segmentation/seed-0/0001", other)
    before = list(run.rglob("0001*"))
    changes = {"labelling": {"seeds": [1]}}
    arguments = ("--until", "gather_manifest")
    result = run_snakemake(folder, *arguments, config=fast_config(FOLDER, changes))
    assert result.returncode == 0, result.stdout
    assert "LightCluster is done" not in result.stdout  # the scores are of the run before
    said = re.search(r"no longer among .* moved to (results/photos/aside/\S+)", result.stdout)
    aside = folder / said[1]
    assert before
    for path in before:
        assert not path.exists()
        assert (aside / path.relative_to(folder / "results/photos")).exists()
    assert not list((folder / "results/photos").glob("features/*/0001.zarr"))
    assert [path.name for path in run.glob("masks/png/[0-9]*")] == ["0000"]
    assert list(run.glob("segmentation/*")) == [notes.parent]
    assert list(notes.parent.iterdir()) == [notes]
    assert len(list(aside.glob("lightcluster/segmentation/seed-0/000?/*.png"))) == len(images)
    assert (aside / "lightcluster/segmentation/seed-0/classes.csv").exists()
    assert not (run / "classes/seed-0.npz").exists()
    assert other.is_dir()


# ---- runs and images ---------------------------------------------------------------------------

RUNS = {"lightcluster": {}, "second": {"consistency": {"rule": "all"}}}


@pytest.mark.parametrize("order", [1, pytest.param(-1, marks=pytest.mark.thorough)])
def test_a_run_that_is_added_is_all_that_is_computed(order, demo, dry_run, fast_config):
    runs = {name: {**DEMO["runs"], **RUNS}[name] for name in [*DEMO["runs"], "second"][::order]}
    jobs = dry_run(demo, config=fast_config({**DEMO, "runs": runs}))
    own = {
        name
        for name, step in STEPS.items()
        if step.unit in OF_RUNS and "lightcluster" in step.kinds
    }
    assert jobs.keys() == own
    one_run = dry_run(demo, "--forceall", config=fast_config(DEMO | {"runs": {"second": {}}}))
    assert jobs == {rule: count for rule, count in one_run.items() if rule in own}


@pytest.mark.thorough
def test_a_run_that_is_removed_leaves_its_files(
    demo, tmp_path, run_snakemake, dry_run, fast_config
):
    folder = moved(demo, tmp_path)
    kept = folder / "results/demo/lightcluster/tables/metrics.csv"
    before = kept.stat().st_mtime_ns
    config = fast_config(DEMO | {"runs": {"second": RUNS["second"]}})
    result = run_snakemake(folder, config=config)
    assert result.returncode == 0, result.stdout
    assert (folder / "results/demo/second/tables/metrics.csv").exists()
    assert kept.stat().st_mtime_ns == before
    again = dry_run(folder, config=fast_config(DEMO | {"runs": RUNS}))
    assert again == {"compare": 1, "write_dataset_page": 1}


def test_added_images_rerun_their_shard_and_what_is_fitted_on_all(
    photos, tmp_path, dry_run, fast_config
):
    folder = moved(photos, tmp_path)
    images = folder / "scenes" / "images"
    new = [f"new {number}.jpg" for number in range(40)]
    added = [name for name in new if shard_of(name, 2) == 1][:2]
    for name in added:
        shutil.copy(images / "scene-0000.jpg", images / name)
    jobs = dry_run(folder, config=fast_config(FOLDER))
    assert len(added) == 2
    before_fitting = {"index_dataset", "extract_features", "sample_features", "cluster_image"}
    assert {rule: jobs[rule] for rule in before_fitting} == dict.fromkeys(before_fitting, 1)
    fitted = {"cluster_dataset", "group_images", "cluster_category", "decide_foreground"}
    assert fitted <= jobs.keys()
    assert not jobs.keys() & {"read_classes", "fetch_weights"}
