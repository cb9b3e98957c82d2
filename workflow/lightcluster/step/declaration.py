"""Declaration of steps: their settings, their order, and their jobs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import typer

from lightcluster.methods.registry import KINDS, SHARED
from lightcluster.step.settings import check_keys, view

JOBS_OF = {
    "dataset": "",
    "dataset shard": "/{shard}",
    "weights": "/{weights}",
    "features": "/{features}",
    **{
        shared.unit: f"/{{{wildcard}}}/" + ("seed-{seed}" if shared.seeded else "{shard}")
        for wildcard, shared in SHARED.items()
    },
    "run": "",
    "shard": "/{shard}",
    "seed": "/seed-{seed}",
    "shard and seed": "/seed-{seed}/{shard}",
    "all runs": "",
}
"""Units that a step can have one job for, and the wildcards that tell these jobs apart; they follow
the name of the step in the names of logs."""

OF_A_RUN = ("run", "shard", "seed", "shard and seed")
"""Units of steps whose files are in the folder of a run."""

Command = TypeVar("Command", bound=Callable[..., Any])

app = typer.Typer(
    name="python -m lightcluster.step",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run one job of a step of the workflow. Snakemake calls this.",
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rule of the workflow.

    Attributes
    ----------
    title : str
        What it makes, in a few words: `lightcluster run` shows them while it is at work.
    unit : str
        The unit that each job works on: a key of `JOBS_OF`.
    kinds : tuple of str
        Kinds of runs that include the step: see `methods.registry.kind_of`.
    reads : tuple of str
        Configuration keys, or whole sections, on which the step's result depends.
    places : tuple of str
        Configuration keys that affect only the names or the number of its files: another value adds
        files and leaves existing ones as they are.
    after : tuple of str
        Steps whose outputs it reads.
    version : int
        Version of the implementation, raised whenever its output changes. Raising it makes the step
        and all steps after it run again.
    torch : bool
        Whether the step imports torch; see `forkserver`.
    function : callable
        The function that does the work; set by the decorator.
    """

    title: str
    unit: str = "run"
    kinds: tuple[str, ...] = KINDS
    reads: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    version: int = 1
    torch: bool = False
    function: Callable[..., None] | None = None

    def __call__(self, command: Command) -> Command:
        """Register a function as the step of the same name, and as its command.

        Raises
        ------
        ValueError
            If the step names an unknown configuration key, unit or kind of run.
        """
        name = command.__name__
        if unknown := {self.unit, *self.kinds} - {*JOBS_OF, *KINDS}:
            raise ValueError(
                f"the step {name} declares {', '.join(sorted(unknown))}: there is none"
            )
        check_keys(name, self.reads + self.places)
        DECLARED[name] = replace(self, function=command)

        @functools.wraps(command)
        def with_settings(**arguments: Any) -> None:
            if "settings" in arguments:
                arguments["settings"] = view(name, self.reads, arguments["settings"])
            command(**arguments)

        app.command()(with_settings)
        return command


DECLARED: dict[str, Step] = {}
"""Steps by name, in order of declaration; `steps.STEPS` has them in the order of the workflow."""
