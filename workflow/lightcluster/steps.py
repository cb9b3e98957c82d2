"""All steps of the workflow in order, and which of them rerun when a key changes.

Each step is declared with its command (`lightcluster.step`). This table is the single source for
the `params` of the Snakemake rules, for the column "reruns from" of `config/README.md`, and for the
tests of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

import lightcluster.step.commands  # noqa: F401 - declares all steps
from lightcluster.config import Config, lookup
from lightcluster.step.declaration import DECLARED, Step


def in_order(declared: Mapping[str, Step]) -> dict[str, Step]:
    """Sort steps topologically, so that each follows those whose files it reads.

    Apart from that, the order of declaration is kept, because the documentation lists steps by
    subject; `graphlib` would mix the subjects.

    Raises
    ------
    CycleError
        If there is a cycle.
    """
    TopologicalSorter({name: step.after for name, step in declared.items()}).prepare()  # no cycle
    ordered: dict[str, Step] = {}

    def add(name: str) -> None:
        for earlier in declared[name].after:
            add(earlier)
        ordered.setdefault(name, declared[name])

    for name in declared:
        add(name)
    return ordered


STEPS = in_order(DECLARED)


def settings_of(step: str, config: Config) -> dict[str, Any]:
    """Return the configuration values that `step` reads, by dotted key, and its version."""
    settings = {key: lookup(config, key) for key in STEPS[step].reads}
    return {**settings, "version": STEPS[step].version}


def rerun_by(key: str) -> list[str]:
    """Return the steps that rerun when a configuration key changes, in workflow order."""
    readers = {
        name
        for name, step in STEPS.items()
        if any(_covers(read, key) for read in step.reads + step.places)
    }
    rerun: set[str] = set()
    for name, step in STEPS.items():
        if name in readers or rerun & set(step.after):
            rerun.add(name)
    return [name for name in STEPS if name in rerun]


def _covers(read: str, key: str) -> bool:
    return key == read or key.startswith(f"{read}.")
