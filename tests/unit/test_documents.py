"""What the documents say of files, commands and settings is so."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise, takewhile
from pathlib import Path

import pytest
import typer
import yaml

from lightcluster.cli import app
from lightcluster.config import Config, parse_config
from lightcluster.configfiles import merge_files
from lightcluster.errors import ConfigError
from lightcluster.methods.registry import OF_DATASET
from lightcluster.places import WEIGHTS
from lightcluster.steps import STEPS

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (".", "benchmarks", "config", "docs", "docs/*", "profiles", "resources")
DOCUMENTS = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md"))
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
of_each = pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)


def fenced(path: Path, language: str) -> list[str]:
    """Return the blocks of a language in a document."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, flags=re.M | re.S)


def prose(path: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> list[tuple[str, list[str]]]:
    """Return all commands of the documents' consoles, with the document, in words."""
    found = []
    for path, name in zip(DOCUMENTS, IDS, strict=True):
        for block in fenced(path, "console"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(name, shlex.split(line[2:], comments=True))
                      for line in lines if line.startswith("$ ")]  # fmt: skip
    return found


def mistakes(settings: dict) -> list[str]:
    try:
        parse_config(settings)
    except ConfigError as error:
        return str(error).splitlines()[1:]
    return []


def test_documents_are_found():
    assert {"README.md", "docs/tutorial.md", "docs/howto/reruns.md"} <= set(IDS)


@of_each
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@of_each
def test_pictures_have_a_description(path):
    assert all(re.findall(r"!\[(.*?)\]", prose(path)))


@of_each
def test_settings_are_accepted(path):
    for block in fenced(path, "yaml"):
        settings = yaml.safe_load(block)
        if set(settings) <= {*Config.model_fields, "runs", "grid"}:
            parse_config(settings)
        else:
            assert path.parent.name == "profiles", settings


@of_each
def test_configuration_files_that_are_named_are_there(path):
    own = {"config/holidays.yaml"}
    named = set(re.findall(r"\b(?:config|profiles|benchmarks)/[\w/]+\.(?:yaml|py)\b",
                           path.read_text(encoding="utf-8")))  # fmt: skip
    assert not [name for name in named - own if not (ROOT / name).exists()]


def test_commands_are_known():
    known = typer.main.get_command(app).commands
    makefile = (ROOT / "Makefile").read_text()
    seen = set()
    for name, words in commands():
        seen.add(words[0])
        if words[0] == "lightcluster":
            command = known[words[1]]
            options = {option for of in command.params for option in of.opts}
            assert {word for word in words if word.startswith("--")} <= options, (name, words)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, flags=re.M), (name, words)
        elif words[0] == "snakemake":
            steps = [step for option, step in pairwise(words)
                     if option in ("--until", "--forcerun", "-R")]  # fmt: skip
            assert set(steps) <= set(STEPS), (name, words)
    assert {"lightcluster", "make", "snakemake"} <= seen


def test_configuration_files_of_commands_go_together():
    together = set()
    for name, words in commands():
        if words[0] == "snakemake" and "--configfile" in words:
            files = takewhile(lambda word: word[0] != "-", words[words.index("--configfile") + 1 :])
            paths = tuple(ROOT / file for file in files)
            if len(paths) > 1 or paths[0].exists():
                found = mistakes(merge_files([ROOT / "config" / "config.yaml", *paths]))
                # models are what an earlier command of the document makes
                assert not [mistake for mistake in found if ".fit.model = 'results/" not in mistake]
                together.add((name, paths))
    assert len(together) > 5


def test_settings_given_on_the_command_line_are_accepted():
    for _, words in commands():
        if "--config" in words:
            key, _, value = words[words.index("--config") + 1].partition("=")
            parse_config({key: yaml.safe_load(value)})


def test_the_tree_of_results_has_every_place():
    (tree,) = fenced(ROOT / "docs" / "reference" / "results.md", "text")
    named = set(re.findall(r"[\w.-]+", tree))
    assert {*OF_DATASET, WEIGHTS} <= named
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").rglob("*.smk"))
    of_runs = set(re.findall(r"\{RUN\}/([\w.-]+)", rules))
    assert {"tables", "segmentation"} <= of_runs <= named
