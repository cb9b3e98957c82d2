"""Interrupted and damaged work: kills, full disks, broken files, two runs at once."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightcluster.extraction.settings import BackboneSettings
from lightcluster.forkserver import VARIABLE
from lightcluster.identity import weights_id
from lightcluster.places import RECORDS, record_of
from lightcluster.records import lacking

DEMO = {
    "dataset": {"demo": {"scenes": 8}, "shard_size": 4},
    "clustering": {"restarts": 1, "iterations": 3},
    "superclasses": {"count": 2, "min_images": 2},
}
KILLS = 8
FEATURES = "results/demo/features/*/0001.zarr"


@pytest.fixture(scope="module")
def config(fast_config):
    return fast_config(DEMO)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_snakemake, config):
    """A folder in which the workflow has run undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    result = run_snakemake(folder, config=config)
    assert result.returncode == 0, result.stdout
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished folder, to be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    return folder


@pytest.fixture
def new_folder(tmp_path, run_snakemake, config):
    """A folder in which the workflow can run, but has not."""
    folder = tmp_path / "new"
    assert run_snakemake(folder, "--dry-run", config=config).returncode == 0
    return folder


def start(
    folder: Path,
    config,
    settings_file,
    *arguments: str,
    output: Path = Path(os.devnull),
    **variables: str,
) -> subprocess.Popen[bytes]:
    """Start ``snakemake --cores 2``, the head of a process group of its own."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    with output.open("wb") as stream:
        return subprocess.Popen(
            [*command, "--configfile", settings_file(folder, config)],
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                **variables,
            },
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def completed(folder: Path) -> dict[Path, int]:
    """Return the outputs that snakemake took note of as complete, with their times."""
    found = {}
    for place, _, names in os.walk(folder / "results"):  # which is at ease with what vanishes
        for name in names if Path(place).name == RECORDS else ():
            path = Path(place).parent / name.removesuffix(".json")
            with contextlib.suppress(FileNotFoundError):
                found[path] = path.stat().st_mtime_ns
    return found


# ---- kills ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory, finished, run_snakemake, settings_file, config, served):
    """A run that is killed 8 times, and begun again each time: its folder, what was complete
    after each kill, and the result of the last command, which is left to end.

    The whole process group is killed: while it starts, or soon after it has three to nine more
    results, so that it gets on with each life, however slow the machine. Every fourth life has a
    fork server of its own; the others begin sooner with the one that all tests share.
    """
    run = tmp_path_factory.mktemp("killed") / "run"
    assert run_snakemake(run, "--dry-run", config=config).returncode == 0
    seeded = random.Random(0)
    complete = [completed(run)]
    for number in range(KILLS):
        process = start(run, config, settings_file, **(served() if number % 4 else {}))
        more = len(complete[-1]) + 3 * (number % 4)
        while process.poll() is None and len(completed(run)) < more:
            time.sleep(0.05)
        time.sleep(2 * seeded.random())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        complete.append(completed(run))
    return run, complete, run_snakemake(run, config=config)


@pytest.mark.thorough
def test_killed_again_and_again_a_plain_rerun_gives_the_same_bytes(killed, finished, digests):
    folder, _, result = killed
    assert result.returncode == 0, result.stdout
    assert digests(folder) == digests(finished)
    assert not list((folder / "results").rglob("*.tmp"))


@pytest.mark.thorough
def test_nothing_that_was_complete_is_computed_twice(killed):
    folder, complete, _ = killed
    for before, after in itertools.pairwise([*complete, completed(folder)]):
        assert {path: after.get(path) for path in before} == before


@pytest.mark.thorough
def test_the_kills_are_spread_over_the_run(killed):
    folder, complete, _ = killed
    counts = [len(each) for each in complete]
    assert counts[-1] > len(completed(folder)) / 2
    assert len(set(counts)) > KILLS / 2


# ---- one job that dies -----------------------------------------------------------------------


def pids_of(folder: Path, *words: str) -> list[int]:
    """Return the processes that work in `folder` and whose command line holds all these words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                here = (entry / "cwd").resolve() == folder
            except OSError:
                continue
            if here and all(word in command for word in words):
                found.append(int(entry.name))
    return found


def test_a_job_that_dies_costs_its_shard_alone(
    tmp_path, new_folder, run_snakemake, settings_file, config, digests, served
):
    """As when a decoder crashes or the kernel ends a process that took too much memory."""
    log = new_folder / "run.log"
    until = ("--until", "extract_features")
    process = start(new_folder, config, settings_file, *until, output=log, **served())
    words = ("lightcluster.step\0extract-features", "0001.zarr")
    while process.poll() is None and not (pids := pids_of(new_folder, *words)):
        time.sleep(0.02)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert process.wait() != 0
    said = log.read_text()
    results = new_folder / "results" / "demo"
    assert "no features of shard 0001 (" in said
    assert "the same command goes on from there" in said
    assert len(list(results.glob("features/*/0000.zarr"))) == 1
    assert not list(results.glob("features/*/0001.zarr"))

    before = completed(new_folder)
    result = run_snakemake(new_folder, *until, config=config)
    assert result.returncode == 0, result.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    undisturbed = run_snakemake(tmp_path / "undisturbed", *until, config=config)
    assert undisturbed.returncode == 0, undisturbed.stdout
    assert digests(new_folder) == digests(tmp_path / "undisturbed")


# ---- snakemake killed alone ------------------------------------------------------------------


@pytest.fixture
def outlive(new_folder, settings_file):
    """``outlive(config, until)``: kill snakemake while a step is at work; return the step, stopped.

    The step is a process that would go on, as after ``kill -9`` of snakemake alone where there is
    no fork server to end it.
    """
    left: list[int] = []

    def kill_alone(config, until: str, *targets: str) -> int:
        process = start(
            new_folder, config, settings_file, *targets, "--until", until, **{VARIABLE: ""}
        )
        words = f"lightcluster.step\0{until.replace('_', '-')}"
        while not (found := pids_of(new_folder, words)):
            assert process.poll() is None
            time.sleep(0.02)
        (step,) = found
        os.kill(step, signal.SIGSTOP)
        left.append(step)
        process.kill()
        process.wait()
        return step

    yield kill_alone
    for step in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(step, signal.SIGKILL)


def let_go(step: int) -> None:
    """Let a stopped process go on to its end."""
    os.kill(step, signal.SIGCONT)
    while Path(f"/proc/{step}/cwd").exists():
        time.sleep(0.05)


@pytest.mark.thorough
def test_a_step_that_outlives_its_run_does_not_replace_a_newer_result(
    outlive, new_folder, run_snakemake, config, digests, merge
):
    until = "generate_demo"
    older, newer = (merge(config, {"dataset": {"demo": {"seed": seed}}}) for seed in (1, 2))
    step = outlive(older, until)
    result = run_snakemake(new_folder, "--until", until, config=newer)
    assert result.returncode == 0, result.stdout
    before = digests(new_folder)
    let_go(step)
    assert digests(new_folder) == before
    assert not list((new_folder / "results").rglob("*.tmp"))
    look = run_snakemake(new_folder, "--dry-run", "--until", until, config=newer)
    assert re.search(r"^total +0$", look.stdout, re.MULTILINE), look.stdout


@pytest.mark.thorough
def test_steps_end_with_snakemake_that_is_killed_alone(new_folder, settings_file, config, merge):
    long = merge(config, {"dataset": {"demo": {"scenes": 5000}, "shard_size": 5000}})
    process = start(new_folder, long, settings_file, "--until", "generate_demo")
    while not list(new_folder.glob("results/demo/.scenes*/images/*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    while pids_of(new_folder):
        time.sleep(0.05)
    assert not list((new_folder / "results" / "demo").glob("*scenes*"))


@pytest.mark.thorough
def test_no_unlocking_though_it_was_the_weights_that_were_being_made(
    outlive, new_folder, run_snakemake, config
):
    name = weights_id(BackboneSettings(**config["backbone"]))
    target = f"results/weights/{name}.safetensors"
    step = outlive(config, "fetch_weights", target)
    (note,) = (new_folder / ".snakemake" / "locks").iterdir()
    assert target in note.read_text()
    result = run_snakemake(new_folder, target, config=config)
    assert result.returncode == 0, result.stdout
    made = (new_folder / target).stat()
    let_go(step)
    assert (new_folder / target).stat() == made


# ---- two runs at once ------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_second_run_says_that_it_is_one_and_leaves(
    finished, new_folder, run_snakemake, settings_file, config, digests
):
    first = start(new_folder, config, settings_file, "--until", "extract_features")
    lock = new_folder / "results" / "demo" / ".lock"
    while not lock.exists() or not lock.stat().st_size:
        time.sleep(0.05)
    second = run_snakemake(new_folder, config=config)
    look = run_snakemake(new_folder, "--dry-run", config=config)
    assert second.returncode != 0
    assert f"process {first.pid} on " in second.stdout
    assert "is in use by" in second.stdout
    assert look.returncode == 0, look.stdout
    assert first.wait() == 0
    assert list(new_folder.glob(FEATURES))
    assert digests(new_folder).items() <= digests(finished).items()


@pytest.mark.thorough
def test_two_runs_started_in_the_same_moment(
    finished, new_folder, run_snakemake, settings_file, config, digests
):
    until = ("--until", "gather_manifest")
    runs = [start(new_folder, config, settings_file, *until) for _ in range(2)]
    assert sorted(run.wait() for run in runs) == [0, 1]
    assert digests(new_folder).items() <= digests(finished).items()
    assert (new_folder / "results/demo/manifest.csv").exists()


@pytest.mark.thorough
def test_a_lock_that_appears_late_is_respected(new_folder, run_snakemake, config, digests):
    """Between two runs that both found the folder free, the lock of the system decides."""
    lock = new_folder / "results" / "demo" / ".lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = run_snakemake(new_folder, config=config)
    assert result.returncode != 0
    assert "results/demo: is in use by another run" in result.stdout
    assert digests(new_folder) == {}


# ---- damaged files -----------------------------------------------------------------------------

CHANGE = {"consistency": {"rule": "any"}}


def rewrite(path: Path, content: bytes) -> None:
    """Write over a file, so that its time and size tell nothing of it."""
    status = path.stat()
    assert len(content) == status.st_size
    assert content != path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(path: Path) -> Path:
    """Let a bit be another, as a failing disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, bytes(content))
    return path


def make_old(path: Path) -> Path:
    """Let a store be one that an earlier implementation wrote."""
    text = (path / "zarr.json").read_text()
    old = re.sub(r'"store_version": \d', '"store_version": 0', text)
    rewrite(path / "zarr.json", old.encode())
    return path


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (flip, f"{FEATURES}/key/c/0/0"),
        (make_old, FEATURES),
        (flip, "results/demo/lightcluster/clusters/dataset.npz"),
    ],
    ids=["flipped bit", "old version", "flipped bit of npz"],
)
def test_a_damaged_file_is_named_and_so_is_the_remedy(
    damage, file, copy, run_snakemake, config, digests
):
    made = "results/demo/lightcluster/masks/scores/0001.npz"
    (path,) = copy.glob(file)
    named = damage(path).relative_to(copy)
    before = digests(copy)
    result = run_snakemake(copy, "--until", "merge_levels", config={**config, **CHANGE})
    assert result.returncode != 0
    assert f"Error: {named}: " in result.stdout
    assert "delete it and run snakemake again" in result.stdout
    assert digests(copy).get(made) in (None, before[made])


@pytest.mark.thorough
def test_what_was_swapped_or_cut_is_set_aside_and_made_again(
    finished, copy, run_snakemake, config, digests
):
    run = copy / "results/demo/lightcluster"
    cut, swapped = run / "clusters/image/0001.npz", run / "classes/seed-0.npz"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    shutil.copyfile(run / "clusters/dataset.npz", swapped)
    found = {path: path.read_bytes() for path in (cut, swapped)}
    result = run_snakemake(copy, config=config)
    assert result.returncode == 0, result.stdout
    assert f"{cut.relative_to(copy)}: it was changed since it was made" in result.stdout
    (aside,) = (copy / "results/demo/aside").iterdir()
    assert f"moved to {aside.relative_to(copy)}" in result.stdout
    for path, content in found.items():
        assert (aside / path.relative_to(copy / "results/demo")).read_bytes() == content
    made = {name: sha for name, sha in digests(copy).items() if "/aside/" not in name}
    assert made == digests(finished)


ASIDE = {"logs", "benchmarks", ".lock", ".publishing"}
"""Places of files that are no results, nor records of them."""


def files_of_each_kind(folder: Path) -> list[Path]:
    """Return one result of each kind: of those with the same place but for numbers in it."""
    kinds = {}
    for path in sorted((folder / "results").rglob("*")):
        place = path.relative_to(folder)
        if path.is_file() and not ASIDE & set(place.parts):
            kinds[re.sub(r"\d+", "N", str(place))] = path
    return list(kinds.values())


@pytest.mark.thorough
def test_whatever_file_is_deleted_the_next_run_misses_it(finished, copy, run_snakemake, config):
    outputs = []
    for path in files_of_each_kind(finished):
        place = path.relative_to(finished)
        if RECORDS in place.parts:
            continue
        if record_of(path).exists():
            outputs.append(str(place))
            continue
        folder = next(above for above in path.parents if record_of(above).exists())
        recorded = json.loads(record_of(folder).read_text())
        damaged = copy / folder.relative_to(finished)
        assert lacking(damaged, recorded) is None
        (copy / place).unlink()
        assert damaged / lacking(damaged, recorded) == copy / place
        shutil.copytree(folder, damaged, dirs_exist_ok=True)
    assert len(outputs) > 20
    for place in outputs:
        (copy / place).unlink()
    said = run_snakemake(copy, "--dry-run", config=config).stdout
    missed = re.findall(r"Missing output files: (.*?)(?:;|$)", said, flags=re.M)
    assert set(", ".join(missed).split(", ")) == set(outputs)


@pytest.mark.thorough
def test_one_file_of_each_kind_is_made_again(copy, finished, run_snakemake, config, digests):
    files = files_of_each_kind(copy)
    for path in files:
        path.unlink()
    result = run_snakemake(copy, config=config)
    assert result.returncode == 0, result.stdout
    assert digests(copy) == digests(finished)
    assert all(path.exists() for path in files)


# ---- where nothing can be written --------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("place", ["results", "results/demo", "results/weights"])
def test_a_file_where_a_folder_is_to_be(new_folder, run_snakemake, config, place):
    (new_folder / place).parent.mkdir(exist_ok=True)
    (new_folder / place).write_text("mine")
    result = run_snakemake(new_folder, "--dry-run", config=config)
    assert result.returncode != 0
    assert f"{place}: is not a folder; move it away" in result.stdout
    assert "Traceback" not in result.stdout
    assert (new_folder / place).read_text() == "mine"


@pytest.mark.thorough
def test_results_that_are_read_only(copy, config, run_snakemake, digests):
    before = digests(copy)
    for path in [copy / "results", *(copy / "results").rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    # Root may write everywhere, unless it gives that up.
    as_a_user = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("setpriv is needed to be no root")
    within = as_a_user if os.geteuid() == 0 else ()
    result = run_snakemake(copy, within=within, config={**config, **CHANGE})
    assert result.returncode != 0
    assert "results/demo: cannot be written to (it is read-only)" in result.stdout
    assert digests(copy) == before


@pytest.fixture
def small_disk(new_folder):
    """``small_disk(size)``: let the results lie on a disk of this size, or give it another one."""
    results = new_folder / "results"
    results.mkdir(exist_ok=True)
    options: list[str] = []

    def resize(size: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"])]
        if subprocess.run([*command, "tmpfs", str(results)], capture_output=True).returncode:
            pytest.skip("no disk can be mounted here (needs root)")
        options[:] = ["remount"]

    yield resize
    subprocess.run(["umount", "--lazy", str(results)], capture_output=True)


@pytest.mark.thorough
def test_a_full_disk(small_disk, finished, new_folder, run_snakemake, config, digests):
    weights = sum(path.stat().st_size for path in (finished / "results/weights").iterdir())
    small_disk(f"{(weights >> 10) + 400}k")
    until = ("--until", "extract_features")
    result = run_snakemake(new_folder, *until, config=config)
    assert result.returncode != 0
    assert re.search(
        r"Error: results/\S+: cannot be written \(No space left on device\): free some disk space, "
        r"then run "
        "snakemake again",
        result.stdout,
    )
    assert not list((new_folder / "results").rglob(".*.tmp"))
    small_disk("1g")
    result = run_snakemake(new_folder, *until, config=config)
    assert result.returncode == 0, result.stdout
    assert digests(new_folder).items() <= digests(finished).items()
    assert list(new_folder.glob(FEATURES))
