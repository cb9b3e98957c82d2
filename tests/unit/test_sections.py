"""Every key of the configuration with wrong values: one plain line each, and no traceback."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from lightcluster import places
from lightcluster.config import Config, lookup, nest, parse_config, walk_keys
from lightcluster.errors import ConfigError
from lightcluster.layout import Layout
from lightcluster.methods.registry import OF_DATASET
from lightcluster.rules import StepRule
from lightcluster.steps import STEPS

ROOT = Path(__file__).resolve().parents[2]
JARGON = re.compile(
    r"(?i:input|\bvalid|dictionary|instance|extra|forbid|pydantic|parse|tuple|finite|union|literal"
    r"|assertion|error)|None|True|False|Settings|class '|\bstr\b|\bint\b"
)
"""What no message about a value may hold, the value itself aside."""

KEYS = [key for key, _ in walk_keys()]
FIELDS = dict(walk_keys())


def mistakes(raw: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    return str(caught.value).splitlines()[1:]


def kinds(annotation: Any) -> set[type]:
    """The plain types that a key may have; those of its entries for a list."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kinds(arguments[0])
    if origin is typing.Literal:
        return {type(value) for value in arguments}
    if origin is None:
        return set() if annotation is ... else {annotation}
    return set().union(*map(kinds, arguments))


def is_list(annotation: Any) -> bool:
    parts = [annotation, *typing.get_args(annotation)]
    return any(typing.get_origin(part) is tuple for part in parts)


def wrong_values(key: str) -> list[Any]:
    """Return values that the key cannot have, whatever it is."""
    field = FIELDS[key]
    types = kinds(field.annotation)
    wrong: list[Any] = [{}, {"a": 1}, [[]], [{}], [None], datetime.date(2020, 1, 2), b"x", "a\0b"]
    if type(None) not in types:
        wrong.append(None)
    if bool in types:
        return [*wrong, "maybe", 2, 0.5, [], [True], math.nan]
    wrong += [True, [False]]
    if is_list(field.annotation):
        wrong += [[], "x", 3, [math.nan], ["x", "x"], [1, 2, 3, "no"]]
    else:
        wrong += [[], [3], ["x"]]
    if types & {int, float}:
        wrong += [math.nan, math.inf, -math.inf, 10**30, "1,5", "x", ""]
        wrong += [0.123] * (float not in types)
    elif Path in types:
        wrong += ["", "  ", 3, 2.5, "x" * 256, "x/" * 3000]
    else:
        wrong += ["", 3, 2.5, "no such word " * 100]
    return wrong


@pytest.mark.parametrize("key", KEYS)
def test_every_wrong_value_of_every_key_is_one_plain_line(key):
    for value in wrong_values(key):
        (line,) = mistakes(nest({key: value}))
        start = f"  - {key} = "
        assert line.startswith(start), (value, line)
        words = line.removeprefix(start).partition(": ")[2]
        allowed = FIELDS[key].annotation
        for name in {str(item) for item in _words(allowed)}:
            words = words.replace(f"`{name}`", "")
        assert words, (value, line)
        assert not JARGON.search(words), (value, line)
        assert len(line) < 400


def _words(annotation: Any) -> set[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        return set(typing.get_args(annotation))
    return set().union(*map(_words, typing.get_args(annotation)))


@pytest.mark.parametrize("key", KEYS)
def test_a_wrong_value_in_a_run_reads_the_same(key):
    (alone,) = mistakes(nest({key: {"a": 1}}))
    found = mistakes({"runs": {"mine": nest({key: {"a": 1}})}})
    if key.startswith(("dataset.", "comparison.")):
        assert "must be the same for all runs" in found[0]
    else:
        assert found == [alone.replace(f"- {key}", f"- runs.mine.{key}")]


@pytest.mark.parametrize("key", KEYS)
def test_numbers_and_words_may_come_as_text_as_from_the_command_line(key):
    def as_text(value: Any) -> Any:
        if isinstance(value, list):
            return [as_text(item) for item in value]
        return json.dumps(value) if value is None or isinstance(value, bool) else str(value)

    default = lookup(Config(), key)
    config = Config.model_validate(nest({key: as_text(default)}))
    assert lookup(config, key) == default


@pytest.mark.parametrize("key", KEYS)
def test_a_key_with_dots_is_shown_in_its_section(key):
    if "." not in key:
        return
    (line,) = mistakes({key: 1})
    nested = ": {".join(key.split(".")) + ": 1" + "}" * key.count(".")
    assert line == f"  - {key}: unknown key; write it in its section, as `{nested}`"


@pytest.mark.parametrize(
    "section", [name for name in Config.model_fields if name in {k.split(".")[0] for k in KEYS}]
)
def test_an_empty_section_changes_nothing_and_any_other_thing_in_its_place_is_explained(section):
    if section == "method":
        return
    assert parse_config({section: None}) == parse_config({}) == parse_config({section: {}})
    assert parse_config(
        {
            "runs": {
                "lightcluster": {section: None}
                if section not in ("dataset", "comparison")
                else None
            }
        }
    ) == parse_config({})
    for value in (3, "key", [], ["a"], True, 2.5):
        (line,) = mistakes({section: value})
        assert f"{section} = " in line
        assert "must be a group of keys with their values, such as" in line


@pytest.mark.parametrize("key", [key for key in KEYS if key.endswith("seed")])
def test_seeds_are_what_every_library_takes(key):
    assert lookup(Config.model_validate(nest({key: 2**32 - 1})), key) == 2**32 - 1
    for value in (-1, 2**32, 2**63, 2**64):
        (line,) = mistakes(nest({key: value}))
        assert line.endswith("must be a whole number from 0 to 4294967295")
    (line,) = mistakes({"labelling": {"seeds": [0, 2**32]}})
    assert "4294967296 is not allowed" in line


@pytest.mark.parametrize(
    "key",
    [key for key in KEYS if isinstance(FIELDS[key].default, tuple)],
)
def test_lists_are_sets(key):
    default = FIELDS[key].default
    (line,) = mistakes(nest({key: [*default, default[0]]}))
    assert line.endswith(f": {default[0]!r} is given more than once")


def test_a_spread_of_colours_is_above_nothing_and_within_one():
    for std in ([0, 0, 0], [0.2, 0.2, -0.1], [58.4, 57.1, 57.4], [0.2, math.nan, 0.2], [0.2, 0.2]):
        (line,) = mistakes({"backbone": {"std": std}})
        assert line.endswith("must be a list of 3 numbers from 0.001 to 1 or none")
    Config.model_validate({"backbone": {"std": [0.229, 0.224, 0.225], "mean": [0, 0, 0]}})


def test_photographs_never_turn_into_the_demo():
    for key in ("images", "labels", "classes"):
        (line,) = mistakes({"dataset": {"name": "mine", key: "/my/photos"}})
        assert line.startswith(f"  - dataset.{key} = '/my/photos': not used by `format: demo`")
        assert "set `format` in `dataset` to " in line
        assert "folder" in line
    (line,) = mistakes({"dataset": {"name": "mine", "root": "/voc"}})
    assert "not used by `format: demo`" in line
    assert "set `format` in `dataset` to one of voc, " in line
    found = mistakes({"dataset": {"images": "/my/photos"}, "features": {"layer": "x"}})
    assert len(found) == 2


def test_classes_of_a_dataset_of_the_field_cannot_be_others():
    raw = {"format": "voc", "root": "/voc", "classes": "mine.csv", "ignore": 255}
    (line,) = mistakes({"dataset": raw})
    assert line.startswith("  - dataset.classes = 'mine.csv': not used by `format: voc`")


def test_the_background_is_not_ignored():
    (line,) = mistakes({"dataset": {"background": 7, "ignore": 7}})
    assert "dataset.ignore = 7: is the same as dataset.background" in line


@pytest.mark.parametrize("place", [*OF_DATASET, "Scenes", "MANIFEST.CSV", "Benchmarks"])
def test_runs_cannot_be_called_like_a_place_of_the_layout(place):
    (line,) = mistakes({"runs": {place: {}}})
    assert line.startswith(f"  - runs.{place}: ")
    assert "is reserved for the workflow; choose another name for the run" in line


def test_datasets_cannot_be_called_like_a_place_of_the_layout():
    for name in (*places.OF_RESULTS, "Weights"):
        (line,) = mistakes({"dataset": {"name": name}})
        assert "is reserved for the workflow; choose another name" in line
    parse_config({"dataset": {"name": "scenes"}, "runs": {"weights": {}}})


def test_every_place_of_the_layout_is_declared():
    """Whatever rules, their logs or the layout name below results or a dataset is in `places`."""
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").rglob("*.smk"))
    layout = (ROOT / "workflow/lightcluster/layout.py").read_text()
    text = rules + layout
    below_dataset = set(re.findall(r"\{(?:DATASET|self\.dataset_folder)\}/([a-z][\w.]*)", text))
    demo = Layout(parse_config({}))
    for rule in (StepRule(name, demo) for name in STEPS):
        for path in (rule.log, rule.benchmark):  # which no rule names
            below_dataset |= {*re.findall(rf"^{demo.dataset_folder}/([a-z][\w.]*)", path)}
    below_results = set(re.findall(r"\{RESULTS\}/([a-z][\w.]*)", text))
    assert below_dataset == {*OF_DATASET} - {places.ASIDE}
    assert below_results == set(places.OF_RESULTS)


def test_names_that_yaml_reads_as_something_else_are_to_be_quoted():
    day = datetime.date(2026, 1, 31)
    for value, shown in ((2026, "2026"), (day, "2026-01-31"), (True, "true")):
        for line in mistakes({"dataset": {"name": value}}) + mistakes({"runs": {value: {}}}):
            assert f" {shown}" in line
            assert line.endswith(", in quotes if it reads as a number, a date, or yes or no")
    (line,) = mistakes({"dataset": {"name": "a b"}})
    assert "quotes" not in line
    assert mistakes({"": 1})[0].startswith("  - '': unknown key")


def test_names_of_runs_are_names_and_differ_in_more_than_case():
    for name in (1, 2.5, True, None, "", ".hidden", "a/b", "..", "a b", "x" * 81, "é", "a\n"):
        (line,) = mistakes({"runs": {name: {}}})
        assert "is not a valid run name; must be a name of at most 80 letters" in line
    (line,) = mistakes({"runs": {"ViT": {}, "vit": {}}})
    assert line.startswith("  - runs.vit: differs from 'ViT' only in case, ")
    (line,) = mistakes({"runs": ["a", "b"]})
    assert line.startswith("  - runs = ['a', 'b']: must map names of runs to their settings")


def test_values_of_a_grid_are_a_set_and_few_enough():
    for values in ([1, 1], [1, "1"], [1, 1.0]):
        (line,) = mistakes({"grid": {"features.layer": values}})
        assert line.endswith("must not contain the same value twice")
    (line,) = mistakes({"grid": {"features": {"layer": [1, 2]}}})
    assert line == "  - grid.features: unknown key; write `features.layer: [...]`"
    (line,) = mistakes({"grid": {"features.layer": 3}})
    assert line.endswith("must be a list of at least one value, such as [3]")
    keys = [
        key
        for key in KEYS
        if key.endswith("seed") and key.split(".")[0] in ("clustering", "report")
    ]
    many = {key: list(range(200)) for key in keys}
    (line,) = mistakes({"grid": many})
    assert line == "  - grid: makes 40,000 runs; at most 10,000 are allowed"


def test_keys_are_words():
    for key in (1, None, True, 2.5):
        (line,) = mistakes({"features": {key: 1}})
        assert line.endswith(": unknown key; keys must be text")
    for key in ("x" * 10_000, "a\nb", "\0"):
        (line,) = mistakes({"features": {key: 1}})
        assert len(line) < 400


def test_values_without_end_are_shown_in_short():
    endless: list = []
    endless.append(endless)
    bomb: Any = "lol"
    for _ in range(60):
        bomb = [bomb] * 9
    for value in (endless, bomb, "x" * 10**6, {"a": bomb}, list(range(10**5))):
        for key in ("features.layer", "labelling.seeds", "dataset.images", "backbone.model"):
            if value == list(range(10**5)) and key == "labelling.seeds":
                continue
            (line,) = mistakes(nest({key: value}))
            assert len(line) < 600


def test_all_mistakes_are_found_together():
    raw = nest({key: {"a": 1} for key in KEYS})
    raw["nonsense"] = 1
    found = mistakes(raw)
    assert len(found) == len(KEYS) + 1
    assert all(any(f"- {key} = " in line for line in found) for key in KEYS)
    assert len(set(itertools.chain(found))) == len(found)
