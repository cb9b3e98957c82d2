"""The table of steps, and the documents made from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lightcluster import docs
from lightcluster.config import Config, parse_config, walk_keys
from lightcluster.step.declaration import DECLARED, Step, app
from lightcluster.steps import STEPS, in_order, rerun_by, settings_of

ROOT = Path(__file__).resolve().parents[2]


def test_steps_are_in_the_order_of_the_workflow():
    seen = set()
    for name, step in STEPS.items():
        assert set(step.after) <= seen, name
        seen.add(name)


def test_every_key_is_read_by_a_step():
    assert [key for key, _ in walk_keys() if not rerun_by(key)] == []


def test_another_folder_needs_every_step_but_the_weights():
    assert set(STEPS) - set(rerun_by("dataset.name")) == {"fetch_weights"}


def test_steps_read_only_keys_that_exist():
    keys = {key for key, _ in walk_keys()}
    sections = {key.rpartition(".")[0] for key in keys}
    assert {read for step in STEPS.values() for read in step.reads} <= keys | sections


@pytest.mark.parametrize(
    ("key", "first", "spared"),
    [
        ("refinement.iterations", "refine_masks", "merge_levels"),
        ("clustering.k_image", "cluster_image", "cluster_dataset"),
        ("labelling.pca", "label_regions", "embed_regions"),
        ("report.samples", "report", "evaluate"),
        ("features.layer", "extract_features", "fetch_weights"),
    ],
)
def test_a_key_reruns_the_step_that_reads_it_and_what_follows(key, first, spared):
    rerun = rerun_by(key)
    assert first in rerun
    assert spared not in rerun
    assert "report" in rerun


def test_settings_change_with_exactly_the_keys_that_are_read():
    one = Config()
    other = parse_config({"refinement": {"iterations": 9}})["lightcluster"]
    changed = {name for name in STEPS if settings_of(name, one) != settings_of(name, other)}
    assert changed == {"refine_masks", "export_model", "report"}


def test_every_step_is_a_rule_and_every_rule_a_step():
    text = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").rglob("*.smk"))
    used = re.findall(r"^\s*use rule (\w+) from step with:", text, flags=re.M)
    assert sorted(used) == sorted(STEPS)


def test_every_step_is_a_command_and_every_command_a_step():
    assert [command.callback.__name__ for command in app.registered_commands] == list(DECLARED)
    assert set(DECLARED) == set(STEPS)


def test_a_step_stands_behind_those_whose_files_it_reads():
    for number, (name, step) in enumerate(STEPS.items()):
        assert set(step.after) <= set(list(STEPS)[:number]), name
    last, middle = (Step(title="", after=after) for after in (("first", "middle"), ("first",)))
    declared = {"last": last, "middle": middle}
    assert list(in_order({**declared, "first": Step(title="")})) == ["first", "middle", "last"]


@pytest.mark.parametrize(
    ("path", "text"), [pytest.param(*item, id=item[0].name) for item in docs.documents().items()]
)
def test_generated_documents_are_up_to_date(path, text):
    assert path.read_text(encoding="utf-8") == text, "run `make docs`"


def test_every_key_is_documented():
    text = docs.config_readme()
    for key, field in walk_keys():
        row = next(
            line
            for line in text.splitlines()
            if line.startswith(f"| `{key.partition('.')[2] or key}` |")
        )
        assert field.description in text
        assert row.count(" | ") >= 4


def test_the_schema_holds_every_section():
    schema = json.loads(docs.config_schema())
    assert set(schema["properties"]) == {*Config.model_fields, "runs", "grid"}
    assert schema["additionalProperties"] is False
