"""Fitted on one dataset, evaluated on another: the model of a run in the place of a fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lightcluster.datasets.scenes import SceneStyle, write_scenes

pytestmark = pytest.mark.thorough

MODEL = "results/train/lightcluster/model"


def photos(name: str, folder: str, shard_size: int = 4) -> dict[str, object]:
    return {
        "dataset": {
            "name": name, "format": "folder", "images": f"{folder}/images",
            "labels": f"{folder}/labels", "classes": f"{folder}/classes.csv",
            "shard_size": shard_size,
        },
        "labelling": {"seeds": [3, 0]},
        "evaluation": {"protocols": ["maskcontrast", "per_image"]},
        "report": {"segmentations": "all", "gallery": 0},
    }  # fmt: skip


APPLIED = {"runs": {"own": {}, "applied": {"fit": {"model": MODEL}}}}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, run_snakemake, fast_config) -> Path:
    """A folder in which one dataset is fitted, and it and another are segmented by that fit."""
    folder = tmp_path_factory.mktemp("fitted")
    for number, name in enumerate(("a", "b")):
        write_scenes(folder / name, 7, number, SceneStyle(height=72, width=96))
    painted = ("--until", "paint_masks", "paint_segmentation")
    for config, until in (
        (photos("train", "a"), (*painted, "export_model")),
        ({**photos("again", "a"), **APPLIED}, painted),
        ({**photos("val", "b", shard_size=8), **APPLIED}, ()),
    ):
        result = run_snakemake(folder, *until, config=fast_config(config))
        assert result.returncode == 0, result.stdout
    assert f"fitted on train, without labels: {MODEL}" in result.stdout
    return folder


def test_on_the_images_of_the_fit_nothing_differs(fitted):
    again, train = fitted / "results" / "again", fitted / "results" / "train" / "lightcluster"
    pngs = sorted(path.relative_to(train) for path in train.rglob("*.png") if "seed-" in str(path))
    assert len([path for path in pngs if "segmentation" in path.parts]) == 14
    for run in ("own", "applied"):
        for path in pngs:
            assert (again / run / path).read_bytes() == (train / path).read_bytes(), path
    for name in ("dataset", "category", "superclasses"):
        arrays = (place / "clusters" / f"{name}.npz" for place in (again / "applied", train))
        assert all(path.is_file() for path in arrays)


def test_tables_name_the_images_of_the_fit(fitted, read_rows):
    val = fitted / "results" / "val"
    for table in ("metrics", "per_image"):
        found = {
            run: {row["fitted_on"] for row in read_rows(val / run / "tables" / f"{table}.csv")}
            for run in ("own", "applied")
        }
        assert found == {
            "own": {"the evaluated images, without labels"},
            "applied": {"train, without labels"},
        }
    rows = read_rows(val / "comparison" / "comparison.csv")
    assert {(row["name"], row["fitted_on"]) for row in rows} == {
        ("own", "the evaluated images, without labels"), ("applied", "train, without labels")
    }  # fmt: skip
    page = (val / "applied" / "report" / "index.html").read_text()
    assert "fitted on train, without labels" in page
    assert not (val / "applied" / "model").exists()


def test_another_model_is_applied_anew(fitted, tmp_path, run_snakemake, fast_config):
    folder = tmp_path / "copy"
    shutil.copytree(fitted, folder, symlinks=True)
    config = fast_config({**photos("val", "b", shard_size=8), **APPLIED})
    assert "Nothing to be done" in run_snakemake(folder, "--dry-run", config=config).stdout
    changed = {**photos("train", "a"), "reestimation": {"rounds": 1}}
    fitted_anew = run_snakemake(folder, "--until", "export_model", config=fast_config(changed))
    assert fitted_anew.returncode == 0, fitted_anew.stdout
    again = run_snakemake(folder, "--dry-run", "--quiet", "host", config=config)
    assert "adopt_fit" in again.stdout
    assert "extract_features" not in again.stdout


def test_a_damaged_model_ends_with_its_name(fitted, tmp_path, run_snakemake, fast_config):
    folder = tmp_path / "copy"
    shutil.copytree(fitted, folder, symlinks=True)
    shutil.rmtree(folder / "results" / "val" / "applied")
    config = fast_config({**photos("val", "b", shard_size=8), **APPLIED})
    (folder / MODEL / "dataset.npz").write_bytes(b"")
    result = run_snakemake(folder, config=config)
    assert result.returncode != 0
    assert "dataset.npz: missing, or not what model.json says" in result.stdout
    (folder / MODEL / "model.json").unlink()
    result = run_snakemake(folder, config=config)
    assert "runs.applied.fit.model" in result.stdout
    assert "no model, model.json is missing" in result.stdout
    assert "Traceback" not in result.stdout
