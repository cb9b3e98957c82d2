"""What one sees of a run: lines for the steps at work, and the cause of what failed."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from lightcluster.cli.run import OWN, snakemake_command
from lightcluster.steps import STEPS
from snakemake_logger_plugin_lightcluster.watching import (
    WIDTH,
    Bar,
    Job,
    LogHandler,
    Run,
    find_bar,
    find_cause,
    lines_of,
    title_of,
)

BARS = (
    "12 images, vit on cpu in torch.bfloat16\n"
    "0000.zarr:   0%|          | 0/100 [00:00<?, ?image/s]\r"
    "0000.zarr:  45%|####5     | 45/100 [00:12<00:15,  3.51image/s]"
)


@pytest.mark.parametrize(
    ("text", "bar"),
    [
        (BARS, Bar(45, 100, 3.51)),
        ("index:  10%|#  | 1/10 [00:02<00:18,  2.00s/image]", Bar(1, 10, 0.5)),
        ("index:   0%|   | 0/10 [00:00<?, ?image/s]", Bar(0, 10, None)),
        ("rounds:  33%|###  | 1/3 [00:01<00:02,  1.1round/s]", Bar(1, 3, None)),
        ("nothing of the kind 3/4", None),
        ("", None),
    ],
)
def test_the_bar_of_a_job_is_read_from_its_log(text, bar):
    assert find_bar(text) == bar


def test_the_cause_is_the_last_line_that_is_no_bar():
    assert find_cause(f"{BARS}\na.jpg: damaged image\n\n") == "a.jpg: damaged image"
    bars = BARS.partition("\n")[2]
    assert find_cause(f"a.jpg: damaged image\n{bars}") == "a.jpg: damaged image"
    assert find_cause("") == "nothing is in its log"


def shown(run: Run, now: float) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(lines_of(run, now))
    return console.export_text()


def test_a_line_says_how_far_a_step_is(tmp_path: Path):
    log = tmp_path / "extract.log"
    log.write_text(BARS)
    run = Run(jobs={"extract_features": 2, "index_dataset": 1})
    run.start(1, Job("extract_features", {"shard": "0000"}, log), 0.0)
    line = shown(run, 9.0)
    assert "features of images" in line
    assert "0/2" in line
    assert "3.5 img/s" in line
    assert "cpu" in line
    assert "00:31 left" in line  # 9 s for 0.225 of the work
    assert all(len(row) <= 80 for row in line.splitlines())
    assert run.end(1) is None
    run.start(2, Job("extract_features", {"shard": "0001"}, tmp_path / "none.log"), 10.0)
    assert "1/2" in shown(run, 11.0)
    assert run.end(2) is run.steps["extract_features"]
    assert shown(run, 12.0).strip() == ""


def test_steps_are_called_in_words_that_fit_the_line():
    for name, step in STEPS.items():
        assert title_of(name) == step.title != ""
        assert len(step.title) <= WIDTH
        assert "_" not in step.title
    assert title_of("renamed_by_a_module") == "renamed_by_a_module"


def test_rejected_images_are_counted(tmp_path: Path):
    table = tmp_path / "0000.rejected.csv"
    table.write_text("image_id,what,reason\na.jpg,image,damaged\nb.jpg,image,empty\n")
    run = Run(jobs={"index_dataset": 1})
    run.start(1, Job("index_dataset", {}, None, (table, tmp_path / "none.csv")), 0.0)
    run.end(1)
    assert run.rejected == 2


def record(event: LogEvent | None, message: str = "", level: int = logging.INFO, **told):
    made = logging.LogRecord("snakemake", level, "", 0, message, (), None)
    made.__dict__.update(told, event=event) if event else None
    return made


def test_snakemake_finds_it_and_it_follows_a_run(tmp_path: Path, capfd):
    assert LoggerPluginRegistry().get_plugin("lightcluster").log_handler is LogHandler
    handler = LogHandler(SimpleNamespace(), None)
    log = tmp_path / "merge_levels.log"
    log.write_text("Traceback\nValueError: of no use\n")
    job = {"rule_name": "merge_levels", "output": [], "log": [str(log)],
           "wildcards": {"run": "mine", "shard": "0000"}}  # fmt: skip
    for one in (
        record(None, "Building DAG of jobs..."),
        record(LogEvent.RUN_INFO, stats={"merge_levels": 1, "report": 1, "total": 2}),
        record(LogEvent.JOB_INFO, jobid=1, **{**job, "rule_name": "report", "log": []}),
        record(LogEvent.JOB_FINISHED, job_id=1),
        record(LogEvent.PROGRESS, done=1, total=2),
        record(None, "a warning of one's own", logging.WARNING),
        record(LogEvent.JOB_INFO, jobid=2, **job),
        record(LogEvent.JOB_ERROR, jobid=2, **job),
    ):
        handler.emit(one)
    handler.close()
    said = capfd.readouterr().err
    assert "report" in said.splitlines()[0]
    assert "a warning of one's own" in said
    assert "Building DAG" not in said
    assert "merge_levels (run mine, shard 0000): ValueError: of no use" in said
    assert f"log: {log}" in said
    assert (handler.run.done, handler.run.total) == (1, 2)


def followed(tmp_path: Path, capfd, *events) -> str:
    """What is said of a run of a step that is at work, and then of some events."""
    handler = LogHandler(SimpleNamespace(), None)
    handler.emit(record(LogEvent.RUN_INFO, stats={"fit_trees": 1, "index_dataset": 1, "total": 2}))
    log = tmp_path / "fit_trees.log"
    log.write_text("ValueError: of its own\n")
    for number, step in enumerate(("fit_trees", "index_dataset")):
        told = {"rule_name": step, "output": [], "log": [str(log)], "wildcards": {}}
        handler.emit(record(LogEvent.JOB_INFO, jobid=number, **told))
    for event in events:
        handler.emit(event)
    handler.close()
    return capfd.readouterr().err


def test_ctrl_c_reads_like_a_stop(tmp_path, capfd):
    """Jobs that it ends are no errors."""
    said = followed(
        tmp_path, capfd,
        record(None, "Terminating processes on user request, this might take some time."),
        record(LogEvent.JOB_ERROR, jobid=0),
        record(LogEvent.JOB_ERROR, jobid=1),
        record(LogEvent.ERROR, "RuleException:\n… died with <Signals.SIGINT: 2>.", logging.ERROR),
        record(None, "Cancelling snakemake on user request.", logging.ERROR),
    )  # fmt: skip
    assert said == "Stopped, as you asked. Steps at work are ended.\n"


def test_what_has_failed_is_said_while_other_steps_are_at_work(tmp_path, capfd):
    said = followed(tmp_path, capfd, record(LogEvent.JOB_ERROR, jobid=0))
    first, second, *_ = said.splitlines()
    assert first == "fit_trees has failed; the run ends after the steps at work"
    assert second.strip() == "fit_trees: ValueError: of its own"


def test_of_mistakes_in_the_input_the_message_is_shown_alone(tmp_path, capfd):
    message = "config/config.yaml is not there"
    place = '  File "/work/Snakefile", line 9, in <module>\n'
    for text in (
        f'WorkflowError in file "/work/Snakefile", line 9:\n{message}\n{place}',
        f"WorkflowError:\n{message}",
        message,
    ):
        said = followed(tmp_path, capfd, record(LogEvent.ERROR, text, logging.ERROR))
        assert said == f"{message}\n"


def test_another_run_at_work_is_named_once(tmp_path, capfd):
    ours = "results/a: process 7 on vm is at work there; let it finish"
    locked = "LockException:\nError: Directory cannot be locked."
    warned = record(None, ours, logging.WARNING)
    refused = record(None, locked, logging.ERROR)
    assert "LockException" not in followed(tmp_path, capfd, warned, refused)
    assert "LockException" in followed(tmp_path, capfd, refused)


def test_options_of_snakemake_are_passed_on(tmp_path: Path, monkeypatch):
    (tmp_path / "Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    start = OWN.parent / "snakemake_logger_plugin_lightcluster" / "starting.py"
    snakemake = [sys.executable, "-P", str(start)]
    watched = ["--logger", "lightcluster"]
    assert snakemake_command(["a.yaml", "b.yaml", "--cores", "3"], verbose=False) == [
        *snakemake, *watched, "--cores", "3", "--configfile", "a.yaml", "b.yaml"
    ]  # fmt: skip
    assert snakemake_command(["-j4", "-R", "report"], verbose=True) == [
        *snakemake, "-j4", "-R", "report"
    ]  # fmt: skip
    planned = snakemake_command(["-n"], verbose=False)
    assert "--logger" not in planned
    assert "--cores" in planned
    assert "--cores" not in snakemake_command(["--profile=profiles/slurm"], verbose=False)
    (tmp_path / "Snakefile").unlink()
    assert snakemake_command([], verbose=True)[-2:] == ["--snakefile", str(OWN)]
    assert OWN.is_file()


def test_snakemake_imports_it_without_the_package():
    """Another checkout, or a module, brings its own."""
    program = (
        "import sys, snakemake_logger_plugin_lightcluster; print('lightcluster' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
