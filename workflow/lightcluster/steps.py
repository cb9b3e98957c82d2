"""The steps of the workflow, in its order: what must run again when a key changes.

Each step declares itself beside its command (`lightcluster.step`). This table of them is the single
source for the `params` of the Snakemake rules, for the column "reruns from" of `config/README.md`
and for the tests of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

import lightcluster.step.commands  # noqa: F401 - all steps are declared by it
from lightcluster.config import Config, lookup
from lightcluster.step.declaration import DECLARED, Step


def in_order(declared: Mapping[str, Step]) -> dict[str, Step]:
    """Return steps so that each stands behind those whose files it reads.

    Else they stand as declared, subject by subject, as documents list them; the order of `graphlib`
    would mix the subjects.

    Raises
    ------
    CycleError
        If steps read each other's files in a circle.
    """
    TopologicalSorter({name: step.after for name, step in declared.items()}).prepare()  # no circle
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
    """Return what `step` reads of the configuration, by dotted key, with its version."""
    settings = {key: lookup(config, key) for key in STEPS[step].reads}
    return {**settings, "version": STEPS[step].version}


def rerun_by(key: str) -> list[str]:
    """Return the steps that run when a configuration key changes, in workflow order."""
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
