"""Names and places: what runs share, and what they do not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightcluster import digests
from lightcluster.config import FitSettings, parse_config
from lightcluster.errors import DatasetError
from lightcluster.extraction.settings import BackboneSettings
from lightcluster.identity import features_id, weights_id
from lightcluster.layout import Layout
from lightcluster.methods.cause.sharing import clusterbook_crops_id, crop_size, crops_id


def configs(**runs):
    return parse_config({"runs": runs})


def test_runs_with_the_same_features_share_them():
    both = configs(a={}, b={"clustering": {"k_image": 3}, "refinement": {"method": "none"}})
    layout = Layout(both)
    assert layout.features_folder("a") == layout.features_folder("b")


@pytest.mark.parametrize(
    "changes",
    [
        {"features": {"layer": 3}},
        {"features": {"max_tokens": 500}},
        {"features": {"precision": "float32"}},
        {"backbone": {"weights": "random"}},
        {"backbone": {"mean": [0.1, 0.2, 0.3]}},
        {"backbone": {"weights": "hub"}},
    ],
)
def test_whatever_changes_features_changes_their_name(changes):
    layout = Layout(configs(a={}, b=changes))
    assert layout.features_folder("a") != layout.features_folder("b")


def test_how_many_images_auto_looks_at_matters_to_auto_alone():
    few = {"auto_images": 9}
    layout = Layout(
        configs(
            a={}, b={"features": few},
            c={"features": {"layer": "auto"}}, d={"features": {"layer": "auto", **few}},
        )
    )  # fmt: skip
    folders = [layout.features_folder(run) for run in "abcd"]
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3
    assert [layout.is_chosen(folder.rpartition("/")[2]) for folder in folders] == [0, 0, 1, 1]
    assert layout.count_jobs()["choose_features"] == 2
    assert "choose_features" not in Layout(configs(a={}, b={"features": few})).count_jobs()


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"cause": {"probe_start": "uniform", "crf": False, "linear_probe": "detached"}}, 3),
        ({"labelling": {"classes": 5}, "report": {"samples": 3}}, 3),
        ({"cause": {"bank": 7}}, 2),
        ({"cause": {"clip": 7}}, 2),
        ({"cause": {"teacher_start": "shared"}}, 2),
        ({"cause": {"probe_dropout": True, "probe_clip": 1, "crf_image": "bgr"}}, 3),
        ({"cause": {"linear_probe": "as_released"}}, 2),
        ({"cause": {"clusterbook_crops": "full"}}, 1),
        ({"cause": {"resampling": "nearest"}}, 0),
        ({"cause": {"codes": 7}}, 1),
        ({"cause": {"learning_rate": 0.5}}, 1),
        ({"cause": {"mirrored": True}}, 0),
        ({"cause": {"head": "tr"}}, 0),
    ],
)
def test_runs_share_as_much_of_a_training_as_their_settings_have_in_common(changes, shared):
    layout = Layout(parse_config({"method": "cause", "runs": {"a": {}, "b": changes}}))
    folders = {
        wildcard: [layout.shared_folder(run, wildcard) for run in "ab"]
        for wildcard in ("crops", "clusterbook", "head")
    }
    assert sum(of_a == of_b for of_a, of_b in folders.values()) == shared
    for wildcard, (_, folder) in folders.items():
        of_b = SimpleNamespace(**{wildcard: folder.rpartition("/")[2]})
        assert layout.shared_folder(layout.run_of(of_b), wildcard) == folder
    jobs = {step: count // 5 for step, count in layout.count_jobs().items()}  # of five seeds
    assert (jobs["fit_clusterbook"], jobs["train_head"]) == (2 - (shared > 1), 2 - (shared > 2))


def test_as_released_both_heads_have_one_clusterbook_of_crops_at_the_full_size():
    runs = {head: {"cause": {"head": head}} for head in ("mlp", "tr")}
    layout = Layout(
        parse_config({"method": "cause", "cause": {"recipe": "released"}, "runs": runs})
    )
    assert len({layout.shared_folder(run, "clusterbook") for run in runs}) == 1
    crops = {run: crops_id(config) for run, config in layout.configs.items()}
    assert {clusterbook_crops_id(config) for config in layout.configs.values()} == {crops["tr"]}
    assert crops["mlp"] != crops["tr"]
    sizes = {run: crop_size(config, crops[run]) for run, config in layout.configs.items()}
    assert sizes == {"mlp": 224, "tr": 320}
    jobs = {step: count // 5 for step, count in layout.count_jobs().items()}  # of five seeds
    assert (jobs["fit_clusterbook"], jobs["train_head"], jobs["fit_probe"]) == (1, 2, 2)
    alone = Layout({"mlp": layout.configs["mlp"]})
    assert alone.count_jobs()["cache_crops"] == layout.count_jobs()["cache_crops"]


def test_runs_share_the_trainings_of_the_seeds_that_both_have():
    layout = Layout(
        configs(
            a={"method": "cause", "labelling": {"seeds": [0, 1]}},
            b={"method": "cause", "labelling": {"seeds": [1, 2, 3]}},
        )
    )
    jobs = layout.count_jobs()
    assert (jobs["fit_clusterbook"], jobs["train_head"], jobs["fit_probe"]) == (4, 4, 5)


def test_names_are_readable_and_safe():
    config = configs(
        a={
            "backbone": {"model": "vit_small_patch8_224.dino", "weights": "my dir/wéights;x.pth"},
            "features": {"facet": "token", "layer": 9, "short_side": 320},
        }
    )["a"]
    name = features_id(config)
    assert name.startswith("vit_small_patch8_224.dino-w_ights_x-token-layer9-320-")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")


def test_the_seed_names_random_weights_only():
    names = {weights_id(BackboneSettings(weights="hub", seed=seed)) for seed in (0, 1)}
    assert len(names) == 1
    names = {weights_id(BackboneSettings(weights="random", seed=seed)) for seed in (0, 1)}
    assert len(names) == 2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a dataset, weights and a trained probe."""
    monkeypatch.chdir(tmp_path)
    files = ["images/a.jpg", "images/b.jpg", "labels/a.png", "classes.csv", "weights.pth",
             "cause/seed-0/probe.safetensors", "cause/seed-0/classes.csv"]  # fmt: skip
    for file in map(Path, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(300_000))
    return tmp_path


def stamps(**options) -> dict[str, str]:
    """Return the digests that jobs are given, by the files that they are of."""
    dataset = {"format": "folder", "images": "images", "labels": "labels", "shard_size": 1,
               "classes": "classes.csv"}  # fmt: skip
    configs = parse_config({"dataset": dataset, "backbone": {"weights": "weights.pth"}})
    (run, config), *_ = configs.items()
    adopting = config.model_copy(update={"method": "cause", "fit": FitSettings(model="cause")})
    layout = Layout({run: adopting}, **options)
    shard_of = {entry.image_id: shard for shard in layout.shards
                for entry in layout.entries(shard)}  # fmt: skip
    return {
        **{f"images/{name}": layout.files_stamp(shard) for name, shard in shard_of.items()},
        "labels/a.png": layout.files_stamp(shard_of["a.jpg"]),
        "classes.csv": layout.classes_stamp,
        "weights.pth": layout.weights_stamp(weights_id(config.backbone)),
        "cause/seed-0/probe.safetensors": layout.fit_stamp(run, "0"),
        "cause/seed-0/classes.csv": layout.fit_stamp(run, "0"),
    }


def test_what_jobs_are_given_tells_the_whole_content_of_files_and_not_their_times(folder):
    before = stamps(planning=True)
    assert stamps() == before
    for name in before:
        status = os.stat(name)
        with open(name, "r+b") as file:
            file.seek(150_000)
            file.write(b"x")
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns))
        changed = stamps(planning=True)
        assert stamps() == changed
        assert changed[name] != before[name]
        others = {other for other in before if before[other] != before[name]}
        assert {other: changed[other] for other in others} == {
            other: before[other] for other in others
        }
        Path(name).write_bytes(bytes(300_000))
    assert stamps() == before


def test_the_names_and_the_contents_of_images_are_told_apart(folder):
    before = stamps()
    assert before["images/a.jpg"] != before["images/b.jpg"]
    Path("images/b.jpg").rename("images/c.jpg")
    assert stamps()["images/c.jpg"] != before["images/b.jpg"]
    Path("labels/a.png").unlink()
    assert stamps()["labels/a.png"] != before["labels/a.png"]


def test_a_job_reads_the_files_of_its_own_shard_alone(folder, monkeypatch):
    read = []
    digest = digests._digest_file
    monkeypatch.setattr(
        digests, "_digest_file", lambda name, count: read.append(name) or digest(name, count)
    )
    dataset = {"format": "folder", "images": "images", "shard_size": 1}
    layout = Layout(parse_config({"dataset": dataset}))
    layout.files_stamp(layout.shards[0])
    assert read == [f"images/{entry.image_id}" for entry in layout.entries("0000")]
    assert not Path(".snakemake").exists()
    Layout(parse_config({"dataset": dataset}), planning=True).files_stamp("0000")
    assert sorted(read)[-2:] == ["images/a.jpg", "images/b.jpg"]


def test_jobs_are_given_the_settings_of_their_own_run():
    layout = Layout(configs(a={"features": {"short_side": 64}}, b={"clustering": {"k_image": 5}}))
    settings = json.loads(layout.settings("cluster_image", SimpleNamespace(run="b")))
    assert settings["clustering.k_image"] == 5
    folder = layout.features_folder("a").rpartition("/")[2]
    settings = json.loads(layout.settings("extract_features", SimpleNamespace(features=folder)))
    assert settings["features.short_side"] == 64


def test_missing_folders_are_named(tmp_path):
    raw = {"dataset": {"format": "folder", "images": str(tmp_path / "nowhere")}}
    with pytest.raises(DatasetError, match=r"dataset\.images = .*nowhere"):
        Layout(parse_config(raw))


def test_shards_hold_every_image_once():
    layout = Layout(parse_config({"dataset": {"demo": {"scenes": 300}, "shard_size": 64}}))
    assert list(layout.shards) == [f"{shard:04d}" for shard in range(8)]
    names = [entry.image_id for shard in layout.shards for entry in layout.entries(shard)]
    assert sorted(names) == [f"scene-{index:04d}.jpg" for index in range(300)]


def test_the_gallery_of_a_large_dataset_is_shared_out_over_its_shards():
    def shares(limit: int) -> list[int | None]:
        config = {
            "dataset": {"demo": {"scenes": 100}, "shard_size": 30},
            "report": {"gallery": limit},
        }
        layout = Layout(parse_config(config))
        return [layout.gallery_share("lightcluster", shard) for shard in layout.shards]

    assert shares(100) == [None] * 4
    few = shares(41)
    assert sum(few) == 41
    assert max(few) - min(few) < 10
    assert sum(shares(1)) == 1


def test_there_is_a_comparison_of_several_runs_or_with_published_figures(tmp_path):
    assert not Layout(parse_config({})).compared
    assert "compare" not in Layout(parse_config({})).count_jobs()
    two = Layout(parse_config({"runs": {"a": {}, "b": {}}}))
    published = Layout(parse_config({"comparison": {"published": "voc2012"}}))
    for layout in (two, published):
        assert layout.compared
        assert layout.count_jobs()["compare"] == 1
    (tmp_path / "a.png").write_bytes(b"")
    unlabelled = {"format": "folder", "images": str(tmp_path)}
    assert not Layout(parse_config({"dataset": unlabelled, "runs": {"a": {}, "b": {}}})).compared


def test_images_are_scored_by_themselves_in_the_runs_that_ask_for_it():
    asked = {"evaluation": {"protocols": ["stego", "per_image"]}}
    layout = Layout(configs(a={}, b=asked))
    assert (layout.scores_images("a"), layout.scores_images("b")) == (False, True)
    assert layout.count_jobs()["score_images"] == 1


def test_segmentations_of_the_first_seed_or_of_all_are_written():
    every = {"report": {"segmentations": "all"}, "labelling": {"seeds": [3, 1]}}
    runs = {"one": {"labelling": {"seeds": [3, 1]}}, "all": every}
    layout = Layout(configs(**runs, kmeans={"method": "kmeans", "labelling": {"seeds": [3, 1]}}))
    painted = [(job["run"], job["seed"]) for job in layout.jobs()["paint_segmentation"]]
    assert painted == [("one", "3"), ("all", "3"), ("all", "1")]
    assert [job["seed"] for job in layout.jobs()["paint_clusters"]] == ["3", "1"]


def test_the_order_of_runs_changes_no_job():
    """Runs that share weights, features or a training may differ in what these do not depend on."""
    runs = {
        "first": {},
        "seed": {"backbone": {"seed": 1}},
        "colours": {"backbone": {"model": "mean_color", "weights": "hub"}},
        "colours too": {"backbone": {"model": "mean_color", "weights": "random", "seed": 3}},
        "mlp": {"method": "cause", "cause": {"head": "mlp", "size": 320}},
        "tr": {"method": "cause", "cause": {"head": "tr", "size": 224}, "backbone": {"seed": 9}},
        "few": {"features": {"auto_images": 9}, "labelling": {"seeds": [7]}},
    }
    runs = {name.replace(" ", "-"): changes for name, changes in runs.items()}

    def jobs(names):
        layout = Layout(configs(**{name: runs[name] for name in names}))
        return {
            (step, *job.items()): layout.settings(step, SimpleNamespace(**job))
            for step, of_step in layout.jobs().items()
            for job in of_step
        }

    both = jobs(runs)
    assert jobs(reversed(runs)) == both
    for name in runs:
        assert jobs([name]).items() <= both.items()
    assert sum(step == "fetch_weights" for step, *_ in both) == 2
    assert sum(step == "cache_crops" for step, *_ in both) == 1
