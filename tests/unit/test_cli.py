"""The command line for people: what its help says can be typed."""

from __future__ import annotations

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


def test_a_configuration_file_that_is_missing_is_named(tmp_path):
    command = [sys.executable, "-m", "lightcluster", "run", "holidays.yaml", "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: holidays.yaml: there is no such configuration file\n"
