"""The workflow as a module of another, from a git repository; its package is not installed."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sysconfig
import threading
import venv
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("workflow", "resources", "envs")
REPOSITORY = "https://github.com/someone/lightcluster"

MODULE = """
configfile: "config/config.yaml"


module lightcluster:
    snakefile:
        {place}
    config:
        config


use rule * from lightcluster{renamed}


onstart:
    lightcluster.onstart()


onsuccess:
    lightcluster.onsuccess()
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A git repository of what is here now, the only commit tagged ``v1``."""
    folder = tmp_path_factory.mktemp("repository")
    others = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in NEEDED:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=others)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "1"),
                    ("tag", "v1")):  # fmt: skip
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter with all that is installed here, but for this package."""
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # The *.pth files of the folder named here, as of an editable installation, are not followed.
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    command = (
        "from importlib.util import find_spec\n"
        "print(*(find_spec(name) is not None for name in ('snakemake', 'lightcluster')))"
    )
    found = subprocess.run(
        [folder / "bin" / "python", "-c", command],
        cwd=folder, env=variables(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == "True False\n"
    return folder / "bin" / "python"


def variables(home: Path, **more: str) -> dict[str, str]:
    """A user's environment; Snakemake keeps what it fetches below their home."""
    others = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
    return {**others, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), **more}


def deploy(folder: Path, place: str, renamed: str = "") -> None:
    """Write what snakedeploy writes, for the small run in ``.test``."""
    shutil.copytree(ROOT / ".test" / "config", folder / "config")
    (folder / "Snakefile").write_text(MODULE.format(place=place, renamed=renamed))


def run(python: Path, folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
    result = subprocess.run(
        [python, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder, env=variables(folder / "home", **more), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return result.returncode, result.stdout


@pytest.mark.thorough
def test_a_module_of_github_runs_to_the_end_and_is_described_in_the_report(
    tmp_path, repository, python
):
    deploy(tmp_path, 'github("someone/lightcluster", path="workflow/Snakefile", tag="v1")')
    redirected = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY,
    }
    status, output = run(python, tmp_path, **redirected)
    assert status == 0, output
    assert "refined mask" in output
    results = tmp_path / "results" / "demo" / "lightcluster"
    assert len(list((results / "segmentation" / "seed-0").rglob("*.png"))) == 12
    assert "Nothing to be done" in run(python, tmp_path, **redirected)[1]
    status, output = run(python, tmp_path, "--report", "report.html", **redirected)
    assert status == 0, output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Unsupervised semantic segmentation with LightCluster" in page
    assert "The class that each cluster is matched to." in page


def test_rules_of_a_repository_on_a_disk_may_be_renamed(tmp_path, repository, python):
    place = f'"git+file://{repository}/workflow/Snakefile@v1"'
    deploy(tmp_path, place, renamed=" as lightcluster_*")
    status, output = run(python, tmp_path, "--dry-run")
    assert status == 0, output
    assert "lightcluster_paint_segmentation" in output
    (source,) = (tmp_path / ".snakemake" / "lightcluster" / "source").iterdir()
    assert (source / "workflow" / "lightcluster" / "resources" / "published.csv").is_file()


def test_rules_without_their_repository_are_refused(tmp_path, python):
    files = functools.partial(SimpleHTTPRequestHandler, directory=str(ROOT))
    with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        deploy(tmp_path, f'"http://127.0.0.1:{server.server_port}/workflow/Snakefile"')
        status, output = run(python, tmp_path, "--dry-run")
        server.shutdown()
    assert status != 0
    assert "the rules need the rest of the repository" in output


def test_the_small_run_to_try_an_installation_is_planned(run_snakemake, tmp_path):
    shutil.copytree(ROOT / ".test", tmp_path / ".test", ignore=shutil.ignore_patterns("results"))
    result = run_snakemake(tmp_path, "--dry-run", "--directory", ".test")
    assert result.returncode == 0, result.stdout
    assert re.search(r"^index_dataset +1$", result.stdout, flags=re.M), result.stdout
