"""The demo on a real SLURM: the same bytes, though jobs are cancelled and a node is drained."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.usefixtures("slurm")

DEMO = {
    "dataset": {"demo": {"scenes": 8}, "shard_size": 4},
    "clustering": {"restarts": 1, "iterations": 3},
    "superclasses": {"count": 2, "min_images": 2},
    "report": {"gallery": 0},
}
PROFILE = (
    *("--profile", "profiles/slurm"),
    *("--slurm-status-command", "squeue"),  # there is no accounting database here
    *("--slurm-init-seconds-before-status-checks", "8"),
    *("--seconds-between-status-checks", "2"),
)
SMALLER = ("extract_features:mem_mb=3000*attempt", "embed_regions:mem_mb=3000*attempt")
"""Each of the two nodes has half of this machine's memory; a second attempt has to fit, too."""


def command(*words: str) -> str:
    """Return what a command of SLURM prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def wait_for(condition: Callable[[], object], seconds: float = 600) -> None:
    """Wait until something holds: long, because other tests keep this machine busy."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def running(rule: str) -> list[str]:
    """Return the ids of the jobs of a rule that run now."""
    listed = command("squeue", "--noheader", "--states=RUNNING", "--Format=JobID:20,Comment:100")
    return [line.split()[0] for line in listed.splitlines() if f"rule_{rule}" in line]


def submitted(rule: str) -> list[dict[str, str]]:
    """Return what SLURM knows of each job of a rule, ended or not, in the order of submission."""
    listed = command("scontrol", "--oneliner", "show", "jobs").splitlines()
    return [
        dict(re.findall(r"(\w+)=(\S*)", line)) for line in listed if f"Comment=rule_{rule}" in line
    ]


@pytest.fixture(scope="module")
def config(fast_config):
    return fast_config(DEMO)


@pytest.fixture(scope="module")
def local(tmp_path_factory, run_snakemake, config):
    """The digests of what a run without SLURM makes."""
    folder = tmp_path_factory.mktemp("local")
    result = run_snakemake(folder, config=config)
    assert result.returncode == 0, result.stdout
    return folder


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory, run_snakemake, config):
    """A run on SLURM, a job of which is cancelled, and one node drained and resumed."""
    folder = tmp_path_factory.mktemp("slurm-run")
    seen: dict[str, object] = {}

    def disturb() -> None:
        wait_for(lambda: len(submitted("extract_features")) >= 2 and running("extract_features"))
        seen["cancelled"] = running("extract_features")[0]
        command("scancel", str(seen["cancelled"]))
        command("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        seen["drained"] = command("sinfo", "--noheader", "--nodes=n1", "--format=%T").strip()
        wait_for(lambda: list(folder.glob("results/demo/features/*/*.zarr")))
        command("scontrol", "update", "nodename=n1", "state=resume")

    thread = threading.Thread(target=disturb)
    thread.start()
    result = run_snakemake(folder, *PROFILE, "--set-resources", *SMALLER, config=config)
    thread.join()
    return folder, result, seen


def test_the_demo_runs_to_its_end(disturbed):
    _, result, _ = disturbed
    assert result.returncode == 0, result.stdout
    assert "LightCluster is done: 8 images of dataset 'demo'." in result.stdout


def test_the_bytes_are_those_of_a_local_run(disturbed, local, digests):
    """Whose steps are forked, while those on SLURM each have an interpreter of their own."""
    assert digests(disturbed[0]) == digests(local)


def test_a_cancelled_job_is_submitted_again(disturbed):
    _, result, seen = disturbed
    assert seen["cancelled"]
    assert f"SLURM-job '{seen['cancelled']}' failed" in result.stdout
    assert "Trying to restart job" in result.stdout


def test_the_other_node_goes_on_while_one_is_drained(disturbed):
    assert disturbed[2]["drained"].startswith("drain")


def test_small_steps_are_submitted_together(disturbed):
    _, result, _ = disturbed
    submitted = len(re.findall(r"has been submitted with SLURM jobid", result.stdout))
    arrays = len(re.findall(r"Submitted array job", result.stdout))
    steps = int(re.findall(r"(\d+) of \1 steps \(100%\) done", result.stdout)[-1])
    assert arrays == 1
    assert submitted < steps / 2


def test_gpu_steps_ask_for_a_gpu_and_others_do_not(disturbed):
    jobs = command("scontrol", "--oneliner", "show", "jobs").splitlines()
    asked = {
        match[1]: "gres:gpu:1" in job
        for job in jobs
        if (match := re.search(r"Comment=rule_(\w+?)(?:_wildcards\S*)?(?: |$)", job))
    }
    assert {rule for rule, gpu in asked.items() if gpu} == {"extract_features", "embed_regions"}


def test_gpu_steps_of_several_shards_are_submitted_at_once(disturbed, run_snakemake, config):
    """The limit of one at a time (profiles/default) is for a workstation.

    Both shards are ready from the beginning, so that one would wait for the other by the limit
    alone.
    """
    again = ("--forcerun", "extract_features", "--until", "extract_features")
    result = run_snakemake(
        disturbed[0], *PROFILE, *again, "--set-resources", *SMALLER, config=config
    )
    assert result.returncode == 0, result.stdout
    first, second = submitted("extract_features")[-2:]
    assert max(first["SubmitTime"], second["SubmitTime"]) < min(first["EndTime"], second["EndTime"])


def test_a_job_that_takes_too_much_memory_gets_more(tmp_path, run_snakemake, config, digests):
    """50 MB do not suffice for snakemake and a step, 800 MB do."""
    little = ("--set-resources", "generate_demo:mem_mb=50*attempt**4")
    result = run_snakemake(tmp_path, *PROFILE, *little, "--until", "generate_demo", config=config)
    assert result.returncode == 0, result.stdout
    jobs = command("scontrol", "--oneliner", "show", "jobs")
    states = re.findall(rf"JobState=(\w+) .*?WorkDir={re.escape(str(tmp_path))} ", jobs)
    assert "COMPLETED" in states
    assert len(states) == 2
    assert "Trying to restart job" in result.stdout
    assert (tmp_path / "results" / "demo" / "scenes" / "classes.csv").exists()
