"""A real SLURM of two nodes on this machine, for as long as these tests run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm.sh")
PROGRAMS = ("slurmctld", "slurmd", "munged")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[Path]:
    """The folder of its logs. Skips, with the reason, where SLURM cannot be started."""
    if os.geteuid() != 0:
        pytest.skip("starting a SLURM needs root")
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        pytest.skip(
            f"no {', '.join(missing)} here: `sudo tests/cluster/slurm.sh install` fetches it"
        )
    if Path("/etc/slurm/slurm.conf").exists():
        pytest.skip("this machine belongs to a SLURM already (/etc/slurm/slurm.conf)")
    # A test run that is ended early stops its SLURM, too.
    signal.signal(signal.SIGTERM, lambda number, frame: pytest.exit("terminated"))
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run(
        [str(SCRIPT), "start", str(folder), "2"],
        env={**os.environ, "GPUS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if started.returncode:
        subprocess.run([str(SCRIPT), "stop", str(folder)], check=False)
        pytest.skip(f"SLURM does not start here: {started.stdout}")
    yield folder
    subprocess.run([str(SCRIPT), "stop", str(folder)], check=True)
