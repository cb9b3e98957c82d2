"""The command line for people: what its help says can be typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from lightcluster import __version__
from lightcluster.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_the_version_is_printed():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"lightcluster {__version__}\n")


def test_steps_are_no_commands_for_people():
    assert set(COMMANDS) == {
        "run", "check", "plan", "segment", "names", "export", "pretrain"
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_in_the_help_can_be_typed(name):
    command = COMMANDS[name]
    (example,) = re.findall(r"^Example: lightcluster (.*)$", command.epilog, flags=re.M)
    first, *arguments = shlex.split(example)
    assert first == name
    with command.make_context(name, arguments) as context:  # a mistake would raise
        assert context.params


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["holidays.yaml"], "holidays.yaml: there is no such configuration file"),
        (["--configfile", "a.yaml", "b.yaml"], "b.yaml: there is no such configuration file"),
        (["--configfiles=b.yaml"], "b.yaml: there is no such configuration file"),
        (["a.yaml"], "a.yaml, line 2: is not YAML (a tab; indent with spaces)"),
    ],
)
def test_a_configuration_file_that_cannot_be_read_is_named(tmp_path, arguments, message):
    (tmp_path / "a.yaml").write_text("dataset: {}\n\tname: x\n" if "line 2" in message else "{}")
    command = [sys.executable, "-m", "lightcluster", "run", *arguments, "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Error: {message}\n"


@pytest.mark.parametrize("module", ["typer", "snakemake.cli"])
def test_ctrl_c_while_modules_are_imported_is_said_in_one_line(tmp_path, module):
    """The key is pressed when the module is imported, before Snakemake handles it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Presses:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Presses())\n"
    )
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "lightcluster", "run", "-n"], cwd=tmp_path, capture_output=True,
        text=True, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
