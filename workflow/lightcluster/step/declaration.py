"""How a step declares itself: what it reads, what it follows, and what there is one job for."""

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
"""What there is one job of a step for, and what distinguishes these jobs: it stands behind the name
of the step in the names of logs."""

OF_A_RUN = ("run", "shard", "seed", "shard and seed")
"""Units of the steps whose files are in the folder of a run."""

Command = TypeVar("Command", bound=Callable[..., Any])

app = typer.Typer(
    name="python -m lightcluster.step",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The steps of the workflow, one job each: what Snakemake calls.",
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rule of the workflow.

    Attributes
    ----------
    unit : str
        What there is one job for: a key of `JOBS_OF`.
    kinds : tuple of str
        Runs that have it: see `methods.registry.kind_of`.
    reads : tuple of str
        Configuration keys, or whole sections, on which the step's result depends.
    places : tuple of str
        Configuration keys on which only the names, or the number, of its files depend: another
        value makes files beside those that there are, which stay as they are.
    after : tuple of str
        Steps whose files it reads.
    version : int
        Version of the implementation, raised whenever what it writes changes; that alone makes the
        step and all that follows run again.
    torch : bool
        Whether its command imports torch; see `forkserver`.
    function : callable
        What does it; set when it is declared.
    """

    unit: str = "run"
    kinds: tuple[str, ...] = KINDS
    reads: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    version: int = 1
    torch: bool = False
    function: Callable[..., None] | None = None

    def __call__(self, command: Command) -> Command:
        """Declare a function to be the step of its name, and its command.

        Raises
        ------
        ValueError
            If the step names what is no key of the configuration, or no unit or kind of run.
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
"""Steps by name, as they are declared; `steps.STEPS` has them in the order of the workflow."""
