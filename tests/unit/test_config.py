"""The configuration: defaults, and all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightcluster.config import (
    DEFAULT_RUN,
    Config,
    expand_grid,
    lookup,
    parse_config,
    put_over,
    walk_keys,
)
from lightcluster.errors import ConfigError
from lightcluster.extraction.backbones.registry import DEFAULT
from lightcluster.methods.cause.recipe import TRAINING, released


def mistakes(raw: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    return str(caught.value).splitlines()[1:]


def test_empty_configuration_is_the_default_run():
    assert parse_config({}) == {DEFAULT_RUN: Config()}


def test_all_mistakes_are_reported_at_once_with_key_value_and_what_is_allowed():
    found = mistakes(
        {
            "features": {"short_side": 1, "layer": "x"},
            "clustering": {"k_image": 1, "metric": "manhattan"},
            "labelling": {"classes": "many"},
        }
    )
    assert len(found) == 5
    text = "\n".join(found)
    assert "features.short_side = 1: must be a whole number from 16 to 4096" in text
    assert "features.layer = 'x': must be a whole number or `auto`" in text
    assert "clustering.metric = 'manhattan': must be `spherical` or `euclidean`" in text
    assert "labelling.classes = 'many': must be a whole number from 1 to 10000 or `auto`" in text


@pytest.mark.parametrize(
    ("raw", "suggestion"),
    [
        ({"features": {"shortside": 224}}, "did you mean features.short_side?"),
        ({"featres": {}}, "did you mean features?"),
        ({"k_dataset": 3}, "did you mean clustering.k_dataset?"),
        ({"consistency": {"zzz": 1}}, "allowed here: rule"),
    ],
)
def test_unknown_keys_suggest_the_nearest_name(raw, suggestion):
    (line,) = mistakes(raw)
    assert "unknown key" in line
    assert suggestion in line


@pytest.mark.parametrize(
    ("raw", "seeds"),
    [
        ({}, 5),
        ({"dataset": {"format": "folder", "name": "a", "images": "a"}}, 1),
        ({"dataset": {"format": "folder", "name": "a", "images": "a", "labels": None}}, 1),
        (
            {"dataset": {"format": "folder", "name": "a", "images": "a", "labels": "b",
                         "classes": "c"}},
            5,
        ),
        (
            {"dataset": {"format": "folder", "name": "a", "images": "a"},
             "labelling": {"seeds": [3, 4]}},
            2,
        ),
    ],
)  # fmt: skip
def test_without_labels_one_labelling_seed_is_enough(raw, seeds):
    (config,) = parse_config(raw).values()
    assert len(config.labelling.seeds) == seeds


def test_a_list_of_wrong_items_names_them():
    (line,) = mistakes({"labelling": {"seeds": [0, -1, -2]}})
    assert "labelling.seeds = [0, -1, -2]: -1 and -2 are not allowed; must be a list" in line


@pytest.mark.parametrize(
    ("protocols", "message"),
    [
        ([], "must be a list of one or more of `maskcontrast`, `stego`"),
        (["per_image"], "per_image is a diagnostic; at least one other"),
        (["stego", "stego"], "'stego' is given more than once"),
        (["miou"], "'miou' is not allowed; must be"),
    ],
)
def test_the_protocols_must_be_known_different_and_of_the_dataset(protocols, message):
    (line,) = mistakes({"evaluation": {"protocols": protocols}})
    assert "evaluation.protocols" in line
    assert message in line


def test_folder_needs_images_and_labels_need_classes():
    found = mistakes({"dataset": {"format": "folder", "labels": "l"}})
    assert [line.split(" = ")[0].strip(" -") for line in found] == [
        "dataset.images",
        "dataset.classes",
    ]


def test_the_embedded_weights_are_of_one_model_in_every_run():
    raw = {"backbone": {"model": "vit_small_patch8_224.dino"}}
    with pytest.raises(ConfigError, match=r"1 mistake.*\n.*backbone.weights = 'embedded'.*`hub`"):
        parse_config({"runs": {"a": {}, "b": raw, "c": raw}})
    raw["backbone"]["weights"] = "hub"
    assert parse_config({"runs": {"a": raw}})["a"].backbone.weights == "hub"


@pytest.mark.parametrize("method", ["kmeans", "cause"])
def test_only_regions_have_a_silhouette(method):
    raw = {"labelling": {"classes": "silhouette"}}
    assert parse_config(raw)["lightcluster"].labelling.classes == "silhouette"
    (line,) = mistakes({"runs": {"a": {}, "b": {"method": method}}, **raw})
    assert "labelling.classes = 'silhouette': needs regions" in line
    assert f"`method: {method}` does not have" in line


def test_mistakes_of_the_dataset_and_of_several_runs_are_reported_together():
    foreign = {"backbone": {"model": "vit_small_patch8_224.dino"}}
    found = mistakes({"dataset": {"format": "folder"}, "runs": {"a": {"x": 1}, "b": foreign}})
    assert [line.split(" = ")[0].split(":")[0].strip(" -") for line in found] == [
        "dataset.images",
        "runs.a.x",
        "backbone.weights",
    ]


def test_sizes_follow_the_backbone_where_they_are_not_set():
    def sizes(**raw):
        config = Config.model_validate(raw)
        return config.features.short_side, config.regions.crop_size

    hub = {"model": "vit_small_patch8_224.dino", "weights": "hub"}
    embedded = tuple(
        DEFAULT.defaults[a][b] for a, b in (("features", "short_side"), ("regions", "crop_size"))
    )
    assert sizes() == sizes(features={"layer": 3}) == sizes(backbone={"seed": 1}) == embedded
    assert sizes(backbone=hub) == sizes(backbone={"model": "mean_color"}) == (448, 224)
    assert sizes(features={"short_side": 64}, regions={"crop_size": 32}) == (64, 32)
    assert sizes(backbone=hub, features={"short_side": 64}) == (64, 224)


def cause_of(raw: dict) -> dict:
    (config,) = parse_config(raw).values()
    return config.cause.model_dump(mode="json")


def test_a_recipe_is_nothing_but_the_defaults_of_other_keys():
    """Told by hand, key by key, the settings of either recipe are the other recipe."""
    ours, theirs = cause_of({}), cause_of({"cause": {"recipe": "released"}})
    told = {key: theirs[key] for key in released("demo", "mlp")}
    assert {**cause_of({"cause": told}), "recipe": "released"} == theirs
    back = {"recipe": "released", **{key: ours[key] for key in told}}
    assert {**cause_of({"cause": back}), "recipe": "ours"} == ours
    for key, value in told.items():
        alone = cause_of({"cause": {"recipe": "released", key: ours[key]}})
        assert alone == {**theirs, key: ours[key]}
        assert cause_of({"cause": {key: value}}) == {**ours, key: value}


def test_each_run_has_the_recipe_of_its_own_head_and_dataset():
    configs = parse_config(
        {
            "dataset": {"format": "coco_stuff27", "root": "coco"},
            "grid": {"cause.recipe": ["ours", "released"], "cause.head": ["mlp", "tr"]},
        }
    )
    assert [(c.cause.clip, c.cause.probe_clip) for c in configs.values()] == [
        (1, None), (1, None), (0.1, 0.1), (2, 2),
    ]  # fmt: skip


def test_what_a_linear_probe_changes_is_trained_as_released():
    ours = cause_of({})
    found = cause_of({"cause": {"linear_probe": "as_released", "probe_clip": 5}})
    wanted = released("demo", "mlp")
    as_released = {key: wanted[key] for key in TRAINING}
    assert found == {**ours, **as_released, "linear_probe": "as_released", "probe_clip": 5}
    assert found["probe_dropout"]
    assert cause_of({"cause": {"linear_probe": "detached"}})["probe_dropout"] is False
    assert cause_of({"cause": {"recipe": "released"}})["linear_probe"] == "none"


def test_runs_override_nested_keys_and_keep_the_rest():
    configs = parse_config(
        {
            "clustering": {"k_image": 3},
            "runs": {"a": {}, "b": {"clustering": {"k_dataset": 4}}},
        }
    )
    assert list(configs) == ["a", "b"]
    assert configs["a"].clustering.k_dataset == 2
    assert (configs["b"].clustering.k_dataset, configs["b"].clustering.k_image) == (4, 3)


def test_mistakes_of_runs_name_the_run():
    found = "\n".join(
        mistakes(
            {
                "runs": {
                    "a b": {},
                    "features": {},
                    "c": 3,
                    "d": {"clustering": {"k_image": 1}},
                    "e": {"dataset": {"name": "x"}, "comparison": {"seed": 1}},
                }
            }
        )
    )
    assert "'a b'" in found
    assert (
        "runs.features: 'features' in the folder of a dataset is reserved for the workflow" in found
    )
    assert "runs.c = 3: must be the settings in which the run differs" in found
    assert "runs.d.clustering.k_image = 1" in found
    assert "runs.e.dataset" in found
    assert "runs.e.comparison" in found


def test_a_grid_is_a_run_for_every_combination():
    grid = {"features.layer": [-1, -3], "clustering.k_image": [2, 3]}
    configs = parse_config({"clustering": {"k_dataset": 5}, "grid": grid})
    assert list(configs) == [
        "layer--1_k_image-2", "layer--1_k_image-3", "layer--3_k_image-2", "layer--3_k_image-3",
    ]  # fmt: skip
    found = [(config.features.layer, config.clustering.k_image) for config in configs.values()]
    assert found == [(-1, 2), (-1, 3), (-3, 2), (-3, 3)]
    assert {config.clustering.k_dataset for config in configs.values()} == {5}


def test_runs_and_grid_add_up():
    configs = parse_config({"runs": {"default": {}}, "grid": {"consistency.rule": ["any", "all"]}})
    assert list(configs) == ["default", "rule-any", "rule-all"]
    assert configs["default"].consistency.rule == "majority"


def test_names_of_a_grid_are_readable_unique_and_short():
    names = list(
        expand_grid(
            {"clustering.iterations": [5], "refinement.iterations": [3], "regions.masked": [True]}
        )
    )
    assert names == ["clustering.iterations-5_refinement.iterations-3_masked-True"]
    assert list(expand_grid({"foreground.rules": [["attention", "border"], ["center"]]})) == [
        "rules-attention.border", "rules-center",
    ]  # fmt: skip
    alike = list(expand_grid({"backbone.weights": ["/a/b.pth", "/a$b.pth", "x"]}))
    assert len(set(alike)) == 3
    assert alike[2] == "weights-x"
    assert all(name.startswith("weights--a-b.pth-") for name in alike[:2])
    long = expand_grid({"backbone.weights": ["w" * 300, "w" * 301]})
    assert len(long) == 2
    assert {len(name) for name in long} == {80}
    grid = {"backbone.weights": ["é $(rm) '\"\n", "w" * 300], "features.layer": [1, 2]}
    assert len(parse_config({"grid": grid})) == 4  # all names are allowed


def test_mistakes_of_the_grid_are_reported_with_the_others():
    found = mistakes(
        {
            "features": {"short_side": 1},
            "runs": {"a": {"x": 1}},
            "grid": {
                "features.lyer": [1],
                "features": [{}],
                "dataset.name": ["a"],
                "comparison.seed": [1],
                "clustering.k_image": [0, 2],
                "consistency.rule": "any",
                "regions.margin": [],
                "clustering.seed": [1, 1],
            },
        }
    )
    assert [line.split(" = ")[0].split(": ")[0].strip(" -") for line in found] == [
        "grid.features.lyer", "grid.features", "grid.dataset.name", "grid.comparison.seed",
        "grid.clustering.k_image", "grid.consistency.rule", "grid.regions.margin",
        "grid.clustering.seed", "features.short_side", "runs.a.x",
    ]  # fmt: skip
    assert "did you mean features.layer?" in found[0]
    assert mistakes({"grid": 3}) == [
        "  - grid = 3: must map keys to lists of values, such as `grid: {features.layer: [-1, -3]}`"
    ]
    both = {"runs": {"rule-any": {}}, "grid": {"consistency.rule": ["any"]}}
    assert "`grid` makes a run with the same name" in mistakes(both)[0]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "$(x)", "-x"])
def test_names_of_folders_cannot_leave_results_or_reach_a_shell(name):
    assert mistakes({"dataset": {"name": name}})


def test_configurations_cannot_be_changed():
    config = Config()
    with pytest.raises(ValueError, match="frozen"):
        config.features.layer = 3


def test_put_over_keeps_the_arguments():
    base, changes = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}
    assert put_over(base, changes) == {"a": {"b": 3, "c": 2}, "d": 4}
    assert base == {"a": {"b": 1, "c": 2}}


def test_every_key_can_be_looked_up_and_is_described():
    for key, field in walk_keys():
        lookup(Config(), key)
        assert field.description, key
    assert lookup(Config(), "dataset.demo") == {"scenes": 96, "seed": 0}
    assert (
        lookup(Config.model_validate({"dataset": {"images": Path("x")}}), "dataset.images") == "x"
    )
