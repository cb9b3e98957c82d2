"""Bad input that ends a run, or a shard, through real runs of the workflow."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from layouts import write_numbered_classes, write_scene
from lightcluster.datasets.listing import shard_of
from lightcluster.errors import ConfigError
from lightcluster.preview import read_configs

# ---- mistakes that are found before any job runs -------------------------------------------------


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("empty", "dataset.images = 'empty': no images found"),
        ("missing", "dataset.images = 'missing': there is no such folder"),
    ],
)
def test_a_folder_without_images_ends_the_run_at_once(
    tmp_path, run_snakemake, fast_config, images, message
):
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    config = fast_config({"dataset": {"name": "none", "format": "folder", "images": images}})
    result = run_snakemake(tmp_path, config=config)
    assert result.returncode != 0
    assert message in result.stdout
    assert "Traceback" not in result.stdout
    assert "common.smk" not in result.stdout  # where in the rules the mistake was found
    assert not (tmp_path / "results").exists()


def test_classes_that_cannot_be_used_are_named(tmp_path, run_snakemake, fast_config):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    write_scene(0, "good.jpg", tmp_path / "images", tmp_path / "labels")
    (tmp_path / "classes.csv").write_text("number;title\n0;background\n")
    dataset = {
        "name": "few",
        "format": "folder",
        "images": "images",
        "labels": "labels",
        "classes": "classes.csv",
    }
    config = fast_config({"dataset": dataset})
    result = run_snakemake(tmp_path, "results/few/manifest.csv", config=config)
    assert result.returncode != 0
    assert "classes.csv: needs a header line `id,name`" in result.stdout
    assert "Traceback" not in result.stdout


# ---- settings ------------------------------------------------------------------------------------

WRONG = """
dataset: {name: mine, images: /my/photos}
features.layer: 9
labelling: {features: cls}
clustering: {seed: 4294967296}
backbone: {std: [0, 0, 0]}
runs: {scenes: , benchmarks: {}}
"""
TWICE = "labelling: {classes: 3}\nlabelling: {classes: 5}\n"


def test_mistakes_in_settings_read_the_same_from_the_workflow_and_from_check(
    tmp_path, run_snakemake, monkeypatch
):
    for text, mistakes in ((WRONG, 8), (TWICE, 1)):
        (tmp_path / "mine.yaml").write_text(text)
        result = run_snakemake(tmp_path, "-n", "--configfile", "mine.yaml")
        assert result.returncode != 0
        assert "Traceback" not in result.stdout
        assert "common.smk" not in result.stdout
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError) as caught:
            read_configs([Path("mine.yaml")])
        assert str(caught.value) in result.stdout
        assert len(str(caught.value).splitlines()) == mistakes
    assert "mine.yaml, line 2: `labelling` is given twice (first in line 1)" in result.stdout


# ---- shards without images -----------------------------------------------------------------------


def name_in_shard(stem: str, shard: int, shards: int) -> str:
    """Return a file name that falls into a shard."""
    names = (f"{stem}-{number}.jpg" for number in range(1000))
    return next(name for name in names if shard_of(name, shards) == shard)


@pytest.mark.thorough
def test_shards_without_a_usable_image_do_not_hinder_the_others(
    tmp_path, run_snakemake, fast_config, read_rows
):
    images, labels = tmp_path / "images", tmp_path / "labels"
    for folder in (images, labels):
        folder.mkdir()
    good = [name_in_shard(stem, 0, 4) for stem in ("first", "second", "third")]
    good.append(name_in_shard("fourth", 3, 4))
    for index, name in enumerate(good):
        write_scene(index, name, images, labels)
    bad = [name_in_shard(stem, 1, 4) for stem in ("letter", "nothing")]
    (images / bad[0]).write_text("no image")
    (images / bad[1]).touch()
    write_numbered_classes(tmp_path / "classes.csv")
    config = fast_config(
        {
            "dataset": {
                "name": "holes",
                "format": "folder",
                "images": "images",
                "labels": "labels",
                "classes": "classes.csv",
                "shard_size": 2,
            }
        }
    )
    result = run_snakemake(tmp_path, config=config)
    assert result.returncode == 0, result.stdout

    results = tmp_path / "results" / "holes"
    in_shard = {f"{shard:04d}": len(read_rows(results / f"manifest/{shard:04d}.csv"))
                for shard in range(4)}  # fmt: skip
    assert in_shard == {"0000": 3, "0001": 0, "0002": 0, "0003": 1}
    assert sorted(row["image_id"] for row in read_rows(results / "rejected.csv")) == sorted(bad)
    painted = sorted(path.stem for path in results.glob("lightcluster/segmentation/*/*/*.png"))
    assert painted == sorted(Path(name).stem for name in good)
    assert read_rows(results / "lightcluster" / "tables" / "metrics.csv")


def test_a_dataset_without_a_usable_image_says_so(tmp_path, run_snakemake, fast_config):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "letter.jpg").write_text("no image")
    config = fast_config({"dataset": {"name": "bad", "format": "folder", "images": "images"}})
    result = run_snakemake(tmp_path, config=config)
    assert result.returncode != 0
    assert "no image can be used; see results/bad/manifest/*.rejected.csv" in result.stdout
    assert "letter.jpg" in (tmp_path / "results/bad/manifest/0000.rejected.csv").read_text()
    assert "Traceback" not in result.stdout, result.stdout


# ---- network -------------------------------------------------------------------------------------


def test_offline_the_message_says_where_weights_are_to_be_had(tmp_path, run_snakemake, fast_config):
    """The tests run with ``HF_HUB_OFFLINE=1``."""
    config = fast_config({"backbone": {"weights": "hub"}})
    result = run_snakemake(tmp_path, "--until", "fetch_weights", config=config)
    assert result.returncode != 0
    assert "could not be downloaded and is not in the cache" in result.stdout
    assert re.search(r"Download the file from \S+vit_tiny\S+ on a machine", result.stdout)
    assert "set `backbone.weights: path/to/file.safetensors`" in result.stdout


@pytest.mark.thorough
def test_nothing_but_hub_weights_needs_a_network(tmp_path, run_snakemake, fast_config):
    """A run in a network of its own, which has no other member."""
    alone = ("unshare", "--net", "env", "--unset=HF_HUB_OFFLINE")
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("no network can be taken away here (needs root and unshare)")
    config = fast_config({"dataset": {"demo": {"scenes": 3}}})
    result = run_snakemake(tmp_path, within=alone, config=config)
    assert result.returncode == 0, result.stdout
