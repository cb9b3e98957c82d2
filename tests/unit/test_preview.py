"""The commands before a long run: check and plan."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightcluster import preview
from lightcluster.config import Config, parse_config
from lightcluster.errors import ConfigError
from lightcluster.estimate import Speed, measure_speed
from lightcluster.layout import Layout
from lightcluster.masks import crf
from lightcluster.preview import Size, _duration, check_all, measure, peak_bytes, print_plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A working directory with six images, five labels and a configuration for them."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("{}")
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for index in range(6):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    for index in range(5):
        label = np.full((48, 64), index % 3, np.uint8)
        Image.fromarray(label).save(tmp_path / "labels" / f"{index}.png")
    (tmp_path / "classes.csv").write_text("id,name\n0,background\n1,cat\n2,dog\n")
    settings = {
        "dataset": {
            "name": "mine",
            "format": "folder",
            "images": "images",
            "labels": "labels",
            "classes": "classes.csv",
        },
        "backbone": {"model": "vit_tiny_patch16_224", "weights": "random"},
        "features": {"short_side": 64},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("place", ["results", "results/mine", "results/weights", ".snakemake"])
@pytest.mark.parametrize("what", ["a file", "a link to nothing", "a link to itself"])
def test_what_stands_where_results_are_to_be_is_named(photographs, capsys, place, what):
    path = Path(place)
    path.parent.mkdir(exist_ok=True)
    if what == "a file":
        path.write_text("mine")
    else:
        path.symlink_to("nowhere" if what == "a link to nothing" else path.name)
    assert check_all([Path("mine.yaml")]) == 1
    text = capsys.readouterr().out
    assert f"{place}: is {'not a folder' if what == 'a file' else 'a broken link'}" in text
    assert "all sound" not in text


def test_results_that_cannot_be_written_are_named(photographs, capsys, monkeypatch):
    """Root may write everywhere; what the system says of others is told here by its own call."""
    (photographs / "results").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "results")
    assert check_all([Path("mine.yaml")]) == 1
    assert f"{photographs / 'results'}: is read-only" in capsys.readouterr().out


def test_check_counts_what_there_is(photographs, capsys):
    assert check_all([Path("mine.yaml")]) == 0
    text = capsys.readouterr().out
    assert "6 images, 5 label maps, 3 classes" in text
    assert "6 images can be used, 5 of them with labels" in text
    assert "5.5 M parameters" in text
    assert "all sound" in text
    assert "for the demo" not in text


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({}, False),
        ({"reestimation": {"rounds": 0}}, True),
        ({"reestimation": {"start": "merged"}}, True),
        ({"reestimation": {"rounds": 0}, "superclasses": {"count": 2}}, False),
        ({"reestimation": {"rounds": 0}, "clustering": {"k_category": 3}}, False),
    ],
)
def test_check_says_where_few_images_make_two_levels_the_same(photographs, capsys, changes, warned):
    settings = json.loads((photographs / "mine.yaml").read_text())
    (photographs / "mine.yaml").write_text(json.dumps(settings | changes))
    assert check_all([Path("mine.yaml")]) == 0
    text = capsys.readouterr().out
    assert ("6 images make one superclass" in text) == warned
    assert ("all sound" in text) != warned


def test_check_says_that_the_embedded_backbone_is_for_the_demo(photographs, capsys):
    settings = json.loads((photographs / "mine.yaml").read_text())
    del settings["backbone"]
    (photographs / "mine.yaml").write_text(json.dumps(settings))
    assert check_all([Path("mine.yaml")]) == 0
    assert "is for the demo" in " ".join(capsys.readouterr().out.split())


def test_check_names_bad_images_labels_and_weights(photographs, capsys):
    (photographs / "images" / "1.png").write_bytes(b"")
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(photographs / "labels" / "2.png")
    settings = json.loads((photographs / "mine.yaml").read_text())
    settings["backbone"]["weights"] = "nowhere.safetensors"
    (photographs / "mine.yaml").write_text(json.dumps(settings))
    assert check_all([Path("mine.yaml")]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "image '1.png': the file is empty" in text
    assert "label '2.png': label holds the ids 7" in text
    assert "nowhere.safetensors" in text
    assert "1 problem(s)" in text  # a run would leave out the others


@pytest.mark.parametrize(
    ("bad", "changes", "code"),
    [(2, {}, 0), (2, {"on_bad_image": "stop"}, 1), (6, {}, 1)],
)
def test_check_is_content_where_a_run_would_end_well(photographs, capsys, bad, changes, code):
    for index in range(bad):
        (photographs / "images" / f"{index}.png").write_bytes(b"no image")
    settings = json.loads((photographs / "mine.yaml").read_text())
    settings["dataset"] |= changes
    (photographs / "mine.yaml").write_text(json.dumps(settings))
    assert check_all([Path("mine.yaml")]) == code
    text = " ".join(capsys.readouterr().out.split())
    assert "image '1.png': " in text
    assert ("usable, but look at" in text) == (code == 0)


def test_check_names_layers_that_the_backbone_does_not_have(photographs, capsys):
    settings = json.loads((photographs / "mine.yaml").read_text())
    layers = {"first": -12, "last": 11, "beyond": 12, "again": 12, "before": -13, "auto": "auto"}
    settings["runs"] = {run: {"features": {"layer": layer}} for run, layer in layers.items()}
    settings["runs"]["trained"] = {"method": "cause", "features": {"layer": 99}}
    settings["runs"]["colour"] = {"backbone": {"model": "mean_color"}, "features": {"layer": -2}}
    (photographs / "mine.yaml").write_text(json.dumps(settings))
    assert check_all([Path("mine.yaml")]) == 1
    text = " ".join(capsys.readouterr().out.split())
    for layer in (12, -13):
        said = f"features.layer = {layer}: this backbone has 12 blocks; allowed: -12"
        assert text.count(said) == 1
    assert "features.layer = -2: this backbone has 1 block;" in text
    assert "3 problem(s)" in text


def test_check_says_that_the_crf_is_not_installed(photographs, capsys, monkeypatch):
    """As with Python 3.13, for which pip cannot build it."""
    monkeypatch.setattr(crf, "INSTALLED", False)
    assert check_all([Path("mine.yaml")]) == 0
    for changes in ({"refinement": {"method": "crf"}}, {"method": "cause"}):
        Path("crf.yaml").write_text(json.dumps(changes))
        assert check_all([Path("mine.yaml"), Path("crf.yaml")]) == 1
        assert "the CRF needs pydensecrf2" in " ".join(capsys.readouterr().out.split())


def test_check_says_what_is_unusual_of_images_and_what_is_passed_over(photographs, capsys):
    Image.fromarray(np.arange(64, dtype=np.uint16).repeat(64).reshape(64, 64) + 256).save(
        photographs / "images" / "dark.png"
    )
    for name in ("raw.nef", "notes.txt"):
        (photographs / "images" / name).write_text("")
    assert check_all([Path("mine.yaml")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "1 image of more than 8 bits; black to white is 0 to 1023 (1)" in text
    assert "*.nef: 1 file, such as 'raw.nef': raw camera data" in text
    assert "1 other file was skipped: 1 .txt" in text


def test_measure_counts_patches_of_each_images_own_grid(photographs):
    configs = parse_config(json.loads((photographs / "mine.yaml").read_text()))
    layout, config = Layout(configs), configs["lightcluster"]
    size = measure(layout.all_entries(), config)
    assert (size.images, size.tokens, size.dim) == (6, 6 * 4 * 5, 192)
    rows = [Image.open(path).size for path in (photographs / "images").iterdir()]
    assert size.pixels == sum(width * height for width, height in rows)
    assert peak_bytes(size, config) < 2**30


def test_the_memory_of_gathering_depends_on_samples_but_not_on_the_images():
    small, large = (Size(images=n, tokens=1000 * n, dim=768) for n in (1500, 10**6))
    many = {"sample_tokens": 2**27}
    paper = Config(reestimation={"rounds": 0, **many})
    for config in (paper, Config()):
        assert peak_bytes(small, config) == peak_bytes(large, config)
    assert peak_bytes(large, Config(reestimation=many)) - peak_bytes(large, paper) > 2**31


def test_a_consensus_of_many_regions_takes_memory():
    size = Size(images=10**6, tokens=10**9, dim=384)
    many = {"sample_regions": 16_384}
    assert peak_bytes(size, Config(labelling=many)) > 2 * 2**30
    assert peak_bytes(size, Config(labelling={**many, "method": "kmeans"})) < 2**30


def test_plan_prints_sizes_and_jobs(photographs, capsys):
    print_plan([Path("mine.yaml")])
    text = " ".join(capsys.readouterr().out.split())
    assert "120" in text
    assert "36 jobs in 1 shard(s)" in text
    assert re.search(
        r"time: about [1-9]\d* (seconds|minutes) on the \d+ cores of this machine", text
    )
    assert "an estimate, from passes of the backbone" in text
    assert "training" not in text


def test_plan_says_when_shards_are_too_large_for_their_jobs(photographs, capsys, monkeypatch):
    def planned(**size) -> str:
        monkeypatch.setattr(preview, "measure", lambda *given: Size(dim=192, images=6, **size))
        print_plan([Path("mine.yaml")])
        return " ".join(capsys.readouterr().out.split())

    text = planned(tokens=6_000, pixels=6 * 640 * 480)
    assert "a shard has about 6 images; its jobs need about 144 MiB of memory" in text
    assert "shard_size" not in text
    text = planned(tokens=6_000, pixels=16 * 10**9)  # twice what they request, and a little more
    assert "its jobs need about 3.9 GiB of memory" in text
    assert "`dataset: {shard_size: 2}`, which gives 4 shards" in text


def test_the_memory_of_the_jobs_of_a_shard():
    """As measured with 1,200 photographs: 233 MB."""
    size = Size(images=1200, tokens=1_260_000, dim=3, pixels=1200 * 187_500)
    assert 220e6 < preview.shard_bytes(size, 1) < 270e6
    assert preview.shard_bytes(size, 64) < 153e6


def test_the_time_of_a_run_grows_with_its_images_and_its_backbone():
    """Sums by hand."""
    speed = Speed("cpu", 2, token=1e-3, slowness=1.0)
    assert speed.of_features(5_000) == 5
    few, many = (speed.of_run(images, 196, shards=1, masks=True) for images in (0, 1_000))
    assert few == 40  # starting the steps
    assert many == pytest.approx(40 + 150 + 2 * 196)
    assert speed.of_run(1_000, 196, shards=4, masks=True) == pytest.approx(40 + 75 + 2 * 196)
    slow = Speed("cpu", 2, token=1e-3, slowness=3.0)
    assert slow.of_run(1_000, 196, shards=1, masks=True) == pytest.approx(3 * 190 + 2 * 196)
    assert speed.of_run(1_000, 196, shards=1, masks=False) == pytest.approx(40 + 75)


def test_a_larger_backbone_takes_longer_for_each_patch():
    models = ("vit_tiny_patch16_224", "vit_base_patch16_224")
    tiny, base = (
        measure_speed(Config(backbone={"model": model, "weights": "random"}), 196, 1).token
        for model in models
    )
    assert base > 3 * tiny > 0  # 16 times the products


def test_of_cause_the_training_is_not_estimated(photographs, capsys):
    settings = json.loads((photographs / "mine.yaml").read_text())
    settings |= {"method": "cause", "cause": {"size": 184}}
    (photographs / "mine.yaml").write_text(json.dumps(settings))
    print_plan([Path("mine.yaml")])
    text = " ".join(capsys.readouterr().out.split())
    assert "not included: the training of 'lightcluster'" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12.4, "12 seconds"), (119, "119 seconds"), (125, "2 minutes"), (7_200, "2 hours"),
     (200_000, "2 days")],
)  # fmt: skip
def test_durations_are_in_a_unit_that_fits(seconds, words):
    assert _duration(seconds) == words


def test_mistakes_end_with_a_message_not_a_traceback(photographs):
    (photographs / "mine.yaml").write_text("features: {layr: 3}")
    result = subprocess.run(
        [sys.executable, "-m", "lightcluster", "check", "--configfile", "mine.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "features.layr: unknown key; did you mean features.layer?" in result.stdout
    assert "Traceback" not in result.stderr


def test_check_finds_mistakes_of_all_kinds_at_once(photographs, capsys):
    settings = json.loads((photographs / "mine.yaml").read_text())
    settings["features"] = {"layr": 3, "facet": "keys"}
    settings["backbone"]["weights"] = "nowhere.safetensors"
    (photographs / "mine.yaml").write_text(json.dumps(settings))
    (photographs / "classes.csv").write_text("id,name\n0,background\n1,cat\n1,dog\n")
    (photographs / "images" / "1.png").write_bytes(b"")
    assert check_all([Path("mine.yaml")]) == 1
    text = " ".join(capsys.readouterr().out.split())
    for said in (
        "features.layr: unknown key; did you mean features.layer?",
        "features.facet = 'keys': must be",
        "classes.csv, line 4: id 1 is repeated",
        "image '1.png': the file is empty",
        "nowhere.safetensors: cannot be read",
        "4 problem(s)",
    ):
        assert said in text
    assert "no label fits" not in text  # nobody knows, without classes
    assert "usable label map" not in text
    assert "not checked" not in text


def test_check_says_what_it_cannot_check(photographs, capsys):
    settings = json.loads((photographs / "mine.yaml").read_text())
    settings["dataset"] |= {"images": "missing"}
    settings["backbone"] |= {"weights": "nowhere.safetensors"}
    (photographs / "mine.yaml").write_text(json.dumps(settings))
    assert check_all([Path("mine.yaml")]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "dataset: dataset.images = 'missing': there is no such folder" in text
    assert "nowhere.safetensors: cannot be read" in text
    assert "2 problem(s)" in text
    settings["dataset"] |= {"imagse": "missing"}
    settings["runs"] = {"other": {"backbone": {"weights": "elsewhere.safetensors"}}}
    (photographs / "mine.yaml").write_text(json.dumps(settings))
    assert check_all([Path("mine.yaml")]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "dataset: not checked, because of mistakes in the configuration" in text
    assert "elsewhere.safetensors: cannot be read" in text


def test_all_files_that_cannot_be_read_are_named_at_once(photographs):
    Path("one.yaml").write_text("features: {layer: 3}\nfeatures: {}\n")
    with pytest.raises(ConfigError) as caught:
        check_all([Path("one.yaml"), Path("two.yaml")])
    first, second = str(caught.value).splitlines()
    assert first.startswith("one.yaml, line 2: `features` is given twice")
    assert second == "two.yaml: there is no such configuration file"


def test_of_cause_crops_and_windows_are_counted(photographs):
    """Six images of 48 × 64: five crops of 8 × 8 patches, three windows of 12 × 12, twice."""
    config = parse_config(
        {
            "dataset": {"format": "folder", "images": "images", "name": "mine"},
            "backbone": {"model": "vit_tiny_patch16_224", "weights": "random"},
            "method": "cause",
            "cause": {"size": 184},
        }
    )["lightcluster"]
    layout = Layout({"run": config})
    size = measure(layout.all_entries(), config)
    windows = 2 * 3
    assert (size.images, size.tokens) == (6 * (5 + windows), 6 * (5 * 8**2 + windows * 12**2))
    bank = 4 * 2048 * 100 * 2048
    assert bank < peak_bytes(size, config) < 2 * bank
    half = config.model_copy(update={"cause": config.cause.model_copy(update={"bank": 50})})
    assert peak_bytes(size, half) < peak_bytes(size, config)
    assert layout.count_jobs()["train_head"] == 1
    assert "extract_features" not in layout.count_jobs()
