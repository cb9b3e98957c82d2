"""A run as one watches it: a line for each step at work, instead of Snakemake's messages.

Snakemake tells its logger what starts, ends and fails. How far a job is stands in its log, where
the bars of `progress` are.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

_BAR = re.compile(r"(\d+)/(\d+) \[[^\]]*?(?:([\d.]+)image/s|([\d.]+)s/image|\])")
_DEVICE = re.compile(r" on (cpu|cuda(?::\d+)?|mps)\b")
_TAIL = 4096
"""Bytes at the end of a log that are looked at."""

_SAID_BETTER = (
    "returned non-zero exit status",
    "Exiting because a job execution failed",
    "At least one job did not complete successfully",
    "died with <Signals.SIGINT",
)
"""Of messages of Snakemake that say no more than that a job has failed, or that Ctrl-C ended it."""

_PLACE = re.compile(r"\AWorkflowError(?: in .*)?:\n|^ +File \".*\", line \d+, in .*$\n?", re.M)
"""Of a message of Snakemake on the input: where in the rules it was raised."""

_STOPPED = "on user request"
"""Of the message with which Snakemake ends its jobs at Ctrl-C."""

_AT_WORK, _LOCKED = "is at work there", "LockException"
"""Of LightCluster's message that another run is at work, and of Snakemake's, which knows less."""

_TOGETHER = 2.0
"""Seconds between the end of jobs that Ctrl-C ends and that message."""

WIDTH = 23
"""Characters of the title of a step."""

_STEPS = "lightcluster.steps"
"""The module of the steps. Whatever rules are run have imported theirs when a job starts."""

REFRESHES = 2
"""A second, of the lines."""


class Bar(NamedTuple):
    """How far a job is.

    Attributes
    ----------
    done, total : int
        Images, or what else it goes through.
    rate : float or None
        Images per second.
    """

    done: int
    total: int
    rate: float | None


def find_bar(text: str) -> Bar | None:
    """Return the last bar in the end of a log; None if there is none."""
    found = list(_BAR.finditer(text))
    if not found:
        return None
    done, total, rate, seconds = found[-1].groups()
    if rate is None and seconds is not None and float(seconds) > 0:
        rate = 1 / float(seconds)
    return Bar(int(done), int(total), float(rate) if rate is not None else None)


def find_cause(text: str) -> str:
    """Return the line of a log that says why its job failed: the last one that is no bar."""
    lines = [line.strip() for line in text.splitlines()]  # at carriage returns, too
    lines = [line for line in lines if line and not _BAR.search(line)]
    return lines[-1] if lines else "nothing is in its log"


@dataclass
class Job:
    """A job at work.

    Attributes
    ----------
    step : str
    wildcards : mapping of str to str
    log : Path or None
    rejections : tuple of Path
        Tables of rejected images that it writes.
    """

    step: str
    wildcards: Mapping[str, str]
    log: Path | None
    rejections: tuple[Path, ...] = ()

    def tail(self) -> str:
        """Return the end of its log."""
        try:
            assert self.log is not None
            with self.log.open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - _TAIL))
                return file.read().decode("utf-8", "replace")
        except (OSError, AssertionError):
            return ""

    def cause(self) -> Iterator[str]:
        """Yield the line that says why it has failed, and where its log is."""
        yield f"{self.name}: {find_cause(self.tail())}"
        if self.log is not None:
            yield f"  log: {self.log}"

    @property
    def name(self) -> str:
        """The step, and what of it."""
        where = ", ".join(f"{name} {value}" for name, value in self.wildcards.items())
        return f"{self.step} ({where})" if where else self.step


@dataclass
class Step:
    """A step of which jobs have been started.

    Attributes
    ----------
    jobs : int
        Jobs of it in this run.
    began : float
    done : int
    """

    jobs: int
    began: float
    done: int = 0


@dataclass
class Run:
    """What is known of a run: the state that events change and lines show.

    Attributes
    ----------
    jobs : dict of str to int
        Jobs of each step.
    steps : dict of str to Step
        Those that have begun.
    running : dict of int to Job
        Jobs at work, by their number.
    failed : list of (Job, float)
        And when.
    stopped : float or None
        When Ctrl-C was noticed.
    done, total : int
        Jobs.
    rejected : int
        Images that cannot be used.
    """

    jobs: dict[str, int] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    running: dict[int, Job] = field(default_factory=dict)
    failed: list[tuple[Job, float]] = field(default_factory=list)
    stopped: float | None = None
    done: int = 0
    total: int = 0
    rejected: int = 0

    def start(self, number: int, job: Job, now: float) -> None:
        """Note that a job has started."""
        self.running[number] = job
        self.steps.setdefault(job.step, Step(self.jobs.get(job.step, 1), now))

    def end(self, number: int) -> Step | None:
        """Note that a job has ended well; return its step if that is finished by it."""
        job = self.running.pop(number, None)
        if job is None:
            return None
        self.rejected += sum(map(_count_lines, job.rejections))
        step = self.steps[job.step]
        step.done += 1
        return step if step.done == step.jobs else None

    def fail(self, number: int, now: float) -> Job | None:
        """Note that a job has failed, and return it."""
        job = self.running.pop(number, None)
        if job is not None:
            self.failed.append((job, now))
        return job

    def causes(self) -> Iterator[str]:
        """Yield, of each job that failed by itself, why it did, and where its log is."""
        for job, when in self.failed:
            if self.stopped is None or when < self.stopped - _TOGETHER:
                yield from job.cause()


def _count_lines(table: Path) -> int:
    try:
        with table.open("rb") as file:
            return max(0, sum(1 for _ in file) - 1)
    except OSError:
        return 0


def title_of(rule: str) -> str:
    """Return what the step of a rule makes, as it declares; else, as in a module, the rule."""
    step = getattr(sys.modules.get(_STEPS), "STEPS", {}).get(rule)
    return rule if step is None else str(step.title)


def lines_of(run: Run, now: float) -> Table:
    """Return a line for each step at work: bar, jobs, images per second, time left, device."""
    table = Table.grid(padding=(0, 1))
    for name in dict.fromkeys(job.step for job in run.running.values()):
        step = run.steps[name]
        tails = [job.tail() for job in run.running.values() if job.step == name]
        bars = [bar for bar in map(find_bar, tails) if bar]
        share = (step.done + sum(bar.done / max(1, bar.total) for bar in bars)) / step.jobs
        rates = [bar.rate for bar in bars if bar.rate is not None]
        spent = now - step.began
        left = spent * (1 - share) / share if share > 0.02 and spent > 2 else None
        devices = {found[1] for tail in tails if (found := _DEVICE.search(tail))}
        table.add_row(
            Text(title_of(name)[:WIDTH].ljust(WIDTH)),
            ProgressBar(total=1, completed=share, width=15),
            Text(f"{step.done}/{step.jobs}", "dim"),
            Text(f"{sum(rates):.1f} img/s" if rates else ""),
            Text(f"{_clock(left)} left" if left is not None else _clock(spent)),
            Text(" ".join(sorted(devices)), "dim"),
        )
    return table


def _clock(seconds: float) -> str:
    """Return a duration, such as 0:01:05, without hours that are 0."""
    return str(timedelta(seconds=round(seconds))).removeprefix("0:")


class LogHandler(LogHandlerBase):
    """What Snakemake logs, as `lightcluster run` shows it on stderr."""

    def __post_init__(self) -> None:
        """Begin to watch."""
        self.run = Run()
        self.another = False
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.live: Live | None = None
        if self.console.is_terminal:
            self.live = Live(
                get_renderable=self._render, console=self.console, transient=True,
                refresh_per_second=REFRESHES, redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self.live.start()

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def _render(self) -> Group:
        run = self.run
        head = f"{run.done} of {run.total} jobs" if run.total else "planning"
        if run.rejected:
            head += f", {run.rejected} images rejected"
        return Group(lines_of(run, time.monotonic()), Text(head, "bold"))

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of an event, or print a message."""
        event = getattr(record, "event", None)
        try:
            if event is None or event == LogEvent.ERROR:
                self._print_message(record)
            else:
                self._note(event, record.__dict__)
        except Exception:
            self.handleError(record)

    def _print_message(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if _STOPPED in text and self.run.stopped is None:
            self.run.stopped = time.monotonic()
            self._say("Stopped, as you asked. Steps at work are ended.")
            return
        told = record.levelno >= logging.WARNING or text.startswith("Nothing to be done")
        self.another |= _AT_WORK in text
        known = text.startswith(_LOCKED) and self.another
        if told and not known and not any(words in text for words in (*_SAID_BETTER, _STOPPED)):
            shown = _PLACE.sub("", text) if text.startswith("WorkflowError") else text
            self._say(shown.strip())

    def _note(self, event: str, told: Mapping[str, Any]) -> None:
        run, now = self.run, time.monotonic()
        if event == LogEvent.RUN_INFO:
            run.jobs = {str(name): int(count) for name, count in told["stats"].items()}
            run.total = run.jobs.pop("total", sum(run.jobs.values()))
        elif event == LogEvent.JOB_INFO:
            log, tables = told["log"], [f for f in told["output"] if f.endswith(".rejected.csv")]
            job = Job(
                told["rule_name"], dict(told["wildcards"] or {}), Path(log[0]) if log else None,
                tuple(map(Path, tables)),
            )  # fmt: skip
            run.start(told["jobid"], job, now)
        elif event == LogEvent.JOB_FINISHED:
            ended = run.running.get(told["job_id"])
            step = run.end(told["job_id"])
            if ended is not None and step is not None and ended.step != "all":
                self._say(f"{title_of(ended.step):<{WIDTH}} {_clock(now - step.began):>8}")
        elif event == LogEvent.JOB_ERROR:
            failed = run.fail(told["jobid"], now)
            if failed is not None and run.running and run.stopped is None:
                self._say(f"{failed.step} has failed; the run ends after the steps at work")
                for line in failed.cause():
                    self._say(f"  {line}")
        elif event == LogEvent.PROGRESS:
            run.done, run.total = told["done"], told["total"]

    def _say(self, text: str) -> None:
        """Print a line above those that change."""
        self.console.print(Text(text))

    def close(self) -> None:
        """Stop, and say why jobs have failed."""
        if self.live is not None:
            self.live.stop()
            self.live = None
        for line in self.run.causes():
            print(line, file=sys.stderr)
        self.run.failed.clear()
        super().close()
