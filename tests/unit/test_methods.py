"""What methods declare fits what there is."""

from __future__ import annotations

from importlib import import_module

import pytest

from lightcluster import docs
from lightcluster.config import Config, parse_config, walk_keys
from lightcluster.config.fit import Adoption
from lightcluster.datasets.labels import Classes
from lightcluster.layout import Layout
from lightcluster.methods.protocol import WITH_LABELS, Method, Shared, seen_labels
from lightcluster.methods.registry import (
    KINDS,
    METHODS,
    PRELOADED,
    SHARED,
    kind_of,
    kinds_sharing,
    method_of,
)
from lightcluster.step.declaration import Step
from lightcluster.steps import STEPS

ALL = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@ALL
def test_the_steps_that_a_method_names_are_those_of_its_runs(method: Method) -> None:
    named = {method.segments, *method.reported, *(figure.step for figure in method.figures)}
    assert {method.name in STEPS[step].kinds for step in named} == {True}


@ALL
def test_the_keys_that_a_method_names_are_keys(method: Method) -> None:
    assert {*method.conditions} <= {key for key, _ in walk_keys()}
    assert {*method.shown, *method.notes} <= {*Config.model_fields}


@ALL
def test_what_is_done_with_fit_model_is_where_a_method_says(method: Method) -> None:
    """Methods that can apply what another run has fitted say what that is; others do not."""
    assert bool(method.adoption) == bool(method.adopted) == bool(method.fit)
    if method.adoption:
        assert isinstance(import_module(method.adoption).ADOPTION, Adoption)


@ALL
def test_a_step_makes_all_that_a_method_shares(method: Method) -> None:
    config = Config.model_validate({"method": method.name})
    made = {step.unit for step in STEPS.values() if method.name in step.kinds}
    assert {shared.unit for shared in method.shared} <= made
    for shared in method.shared:
        assert SHARED[shared.wildcard] is shared
        assert len(set(shared.ids(config))) == len(shared.ids(config)) > 0
    of_shards = [place for place, _ in method.progress.values() if isinstance(place, Shared)]
    assert {*of_shards} <= {*method.shared}


@ALL
def test_without_masks_there_is_a_number_of_clusters(method: Method) -> None:
    assert (method.clusters is None) == method.masks
    if method.clusters is not None:
        assert method.clusters("auto", Classes((0, 3, 9), ("ground", "cat", "dog")), 0) == 3


@ALL
def test_the_size_of_a_run_grows_with_its_images(method: Method) -> None:
    config = Config.model_validate({"method": method.name})
    (few, small), (many, large) = (method.views(side, side, config, 8) for side in (192, 1024))
    assert 0 < few <= many
    assert 0 < small <= large
    assert 2**28 < method.peak_bytes(few, small, 192, config) < 2**36


def test_the_modules_that_methods_preload_are_there() -> None:
    for modules in PRELOADED.values():
        for name in modules:
            import_module(name)


def test_runs_are_of_the_kind_that_their_method_says() -> None:
    for method in METHODS.values():
        config = Config.model_validate({"method": method.name})
        assert (method_of(config), kind_of(config)) == (method, method.name)
        if method.adopted:
            applied = Config.model_validate({"method": method.name, "fit": {"model": "there"}})
            assert kind_of(applied) == method.adopted
    assert len({*KINDS}) == len(KINDS)
    assert {kind for wildcard in SHARED for kind in kinds_sharing(wildcard)} == {*KINDS}


def test_every_drawing_is_of_a_kind_of_runs() -> None:
    drawn = {kind for method in METHODS.values() for kind in method.drawings}
    assert {*METHODS} <= drawn <= {*KINDS}
    assert {path.stem for path in docs.documents() if path.suffix == ".svg"} == {
        f"workflow-{kind}" for kind in drawn
    }


def test_a_step_declares_no_unit_or_kind_that_there_is_not() -> None:
    def nothing() -> None:
        """Do nothing."""

    for wrong in (Step(title="", unit="image"), Step(title="", kinds=("lightclutser",))):
        with pytest.raises(ValueError, match="the step nothing declares"):
            wrong(nothing)
    assert "nothing" not in STEPS


def test_figures_are_those_of_the_method() -> None:
    runs = {"ours": {}, "without": {"report": {"parts": 0}}, "kmeans": {"method": "kmeans"}}
    layout = Layout(parse_config({"runs": {**runs, "cause": {"method": "cause"}}}))
    figures = {run: layout.figures(run) for run in layout.configs}
    assert figures == {
        "ours": ["parts.png"], "without": [], "kmeans": [], "cause": ["training.png"]
    }  # fmt: skip


def test_of_what_saw_labels_all_that_is_said_of_them_is_kept() -> None:
    assert seen_labels("the evaluated images, without labels") == ""
    assert seen_labels(f"train, {WITH_LABELS} (so)") == f"{WITH_LABELS} (so)"
