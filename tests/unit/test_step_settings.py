"""What a step is given of the configuration: what it declares, typed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightcluster.config import Config, lookup, parse_config
from lightcluster.step.declaration import DECLARED, Step
from lightcluster.step.settings import UndeclaredKeyError, view
from lightcluster.steps import STEPS, settings_of

CONFIG = parse_config(
    {
        "dataset": {"format": "folder", "images": "photos", "depth": 12},
        "backbone": {"mean": [0.1, 0.2, 0.3]},
        "clustering": {"k_dataset": 5},
        "foreground": {"rules": ["border", "center"]},
    }
)["lightcluster"]
CONFIG = Config.model_validate(CONFIG.model_dump())  # a default of 30 is a float where it says so


def given(step: str) -> Config:
    """Return what the command of a step makes of the JSON of its rule."""
    return view(step, STEPS[step].reads, json.loads(json.dumps(settings_of(step, CONFIG))))


@pytest.mark.parametrize("step", STEPS)
def test_every_declared_key_has_the_value_and_the_type_of_the_configuration(step):
    for key in STEPS[step].reads:
        own, whole = given(step), CONFIG
        for name in key.split("."):
            own, whole = getattr(own, name), getattr(whole, name)
        assert own == whole
        assert type(own) is type(whole)


def test_values_are_not_those_of_json():
    assert given("index_dataset").dataset.images == Path("photos")
    assert given("extract_features").backbone.mean == (0.1, 0.2, 0.3)
    assert given("cluster_image").foreground.rules == ("border", "center")


def test_a_key_that_a_step_does_not_declare_cannot_be_read():
    settings = given("cluster_dataset")
    assert settings.clustering.k_dataset == 5
    for read in (
        lambda: settings.clustering.k_image,  # beside those that it declares
        lambda: settings.refinement.method,  # in another section
        lambda: settings.method,  # on which only its place depends
    ):
        with pytest.raises(UndeclaredKeyError, match="the step cluster_dataset reads"):
            read()


def test_the_message_names_the_key():
    with pytest.raises(UndeclaredKeyError, match=r"'clustering\.k_image', which is not"):
        given("cluster_dataset").clustering.k_image  # noqa: B018


@pytest.mark.parametrize("kind", ["reads", "places"])
def test_a_step_cannot_declare_what_is_no_key(kind):
    def misspelt() -> None:
        """Never called."""

    with pytest.raises(ValueError, match=r"misspelt declares unknown .*: clustering\.metrics"):
        Step(title="", **{kind: ("clustering.metric", "clustering.metrics")})(misspelt)
    assert "misspelt" not in DECLARED


def test_json_of_another_version_of_a_step_is_refused():
    values = settings_of("cluster_dataset", CONFIG)
    del values["clustering.metric"]
    with pytest.raises(KeyError, match=r"clustering\.metric"):
        view("cluster_dataset", STEPS["cluster_dataset"].reads, values)


def test_settings_are_what_they_are_in_the_configuration_for_every_step():
    for name, step in STEPS.items():
        values = settings_of(name, CONFIG)
        assert values == {key: lookup(CONFIG, key) for key in step.reads} | {
            "version": step.version
        }
