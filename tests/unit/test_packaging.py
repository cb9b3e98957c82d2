"""The three lists of dependencies say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
OTHER_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch", "faiss-cpu": "faiss"}
NOT_IN_JOBS = {"snakemake", "snakemake-executor-plugin-slurm"}


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {item.name: item for item in map(Requirement, project["dependencies"])}


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_conda_environments_have_the_ranges_of_pyproject(name):
    listed = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())["dependencies"]
    (pip,) = [item["pip"] for item in listed if isinstance(item, dict)]
    found = {}
    for line in [*(item for item in listed if isinstance(item, str)), *pip]:
        package, _, span = line.partition(" ")
        found[re.sub("-(cpu|gpu)$", "", package)] = set(filter(None, span.split(",")))
    for package, requirement in requirements().items():
        if package not in NOT_IN_JOBS:
            key = OTHER_NAMES.get(package, package)
            assert found[key] == {str(span) for span in requirement.specifier}, package


def test_tested_versions_lie_in_the_ranges():
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            pinned[name.lower()] = version
    for name, requirement in requirements().items():
        assert pinned[name.lower()] in requirement.specifier, name
