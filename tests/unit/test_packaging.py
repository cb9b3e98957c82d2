"""What is installed: the lists of dependencies say the same, and a wheel has all that it needs."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OTHER_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch", "faiss-cpu": "faiss"}
NOT_IN_JOBS = {"snakemake", "snakemake-executor-plugin-slurm"}


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {item.name: item for item in map(Requirement, project["dependencies"])}


def pinned() -> dict[str, str]:
    """Return the tested version of each package, by its canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


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
    versions = pinned()
    for name, requirement in requirements().items():
        assert versions[canonicalize_name(name)] in requirement.specifier, name


def test_the_lock_file_has_the_tested_versions_with_hashes():
    lines = (ROOT / "envs" / "lock.txt").read_text().splitlines()
    locked: dict[str, set[str]] = {}
    for line, following in itertools.pairwise(lines):
        if found := re.match(r"([\w.-]+)==([\w.]+)", line):
            locked.setdefault(canonicalize_name(found[1]), set()).add(found[2])
            assert "--hash=sha256:" in following, line
    versions = pinned()
    for name in map(canonicalize_name, requirements()):
        assert locked[name] == {versions[name]}, name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built of a copy: building leaves files."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    others = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("workflow", "resources"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=others)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "built"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=folder, check=True)
    (built,) = (folder / "built").glob("*.whl")
    return built


def test_a_wheel_has_every_file_of_the_package_and_its_resources(wheel):
    package = ROOT / "workflow" / "lightcluster"
    needed = {
        str(path.relative_to(package.parent))
        for folder in (package, package / "resources")
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"lightcluster/py.typed", "lightcluster/resources/published.csv"} <= needed
    with zipfile.ZipFile(wheel) as archive:
        assert needed <= set(archive.namelist())


@pytest.mark.thorough
def test_the_commands_of_a_wheel_need_no_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    (tmp_path / "demo.yaml").write_text("dataset: {name: demo, format: demo}\n")
    command = "from lightcluster import cli; print(cli.__file__); cli.main()"
    found = subprocess.run(
        [sys.executable, "-c", command, "check", "--configfile", "demo.yaml"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert str(tmp_path / "installed") in found.stdout
    assert "all sound" in found.stdout


def test_environments_are_where_the_tools_of_the_workflow_catalogue_look():
    assert (ROOT / "workflow" / "envs").resolve() == ROOT / "envs"
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"] == {"conda": True}
    assert {"desc", "flags"} == set(usage["mandatory-flags"])
