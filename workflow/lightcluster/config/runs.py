"""Validating a configuration and expanding it to one complete `Config` per run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lightcluster import places
from lightcluster.config.configuration import Config, put_over
from lightcluster.config.contradictions import find_contradictions
from lightcluster.config.fit import adopt_fit
from lightcluster.config.grid import ALL_SHARE, SHARED_SECTIONS, expand_grid, sound_grid
from lightcluster.datasets.settings import contradictions
from lightcluster.errors import ConfigError
from lightcluster.methods.registry import OF_DATASET
from lightcluster.sections import (
    A_NAME,
    QUOTED,
    find_mistakes,
    is_name,
    show,
    tidy,
)

DEFAULT_RUN = "lightcluster"


def parse_config(raw: Mapping[str, Any]) -> dict[str, Config]:
    """Validate a raw configuration and return one complete `Config` for each run.

    Parameters
    ----------
    raw : mapping
        As read from YAML: the sections of `Config` and, optionally, ``runs``, a mapping from run
        names to the settings in which they differ (any key except in `SHARED_SECTIONS`), and
        ``grid``, a mapping from dotted keys to lists of values, which makes a run for every
        combination.

    Returns
    -------
    dict of str to Config
        In the order of ``runs``, then of ``grid``; a single run named ``lightcluster`` if there
        are neither.

    Raises
    ------
    ConfigError
        If there are mistakes; lists all of them with key, value and what is allowed.
    """
    rest = dict(raw)
    problems: list[str] = []
    runs = _named_runs(rest.pop("runs", None), problems)
    grid = sound_grid(rest.pop("grid", None), problems)
    expanded = expand_grid(grid)
    problems += [
        f"runs.{name}: `grid` makes a run with the same name" for name in runs if name in expanded
    ]
    runs = {**runs, **expanded} or {DEFAULT_RUN: {}}
    problems += _name_problems(runs)
    rest = tidy(rest, Config)
    invalid = find_mistakes(rest, Config)
    problems += invalid
    of_dataset = {key: value for key, value in rest.items() if key == "dataset"}
    if not find_mistakes(of_dataset, Config):
        problems += contradictions(Config.model_validate(of_dataset).dataset)
    configs: dict[str, Config] = {}
    for name, overrides in runs.items():
        found = _run_problems(overrides, f"runs.{name}.")
        problems += found
        if not invalid and not found:
            merged = put_over(rest, tidy(overrides, Config))
            config = Config.model_validate(merged)
            if config.fit.model is not None:
                config, found = adopt_fit(config, merged, f"runs.{name}.")
                problems += found
            configs[name] = config
    problems += dict.fromkeys(
        problem for config in configs.values() for problem in find_contradictions(config)
    )
    if problems:
        raise ConfigError(
            f"The configuration has {len(problems)} mistake{'s' * (len(problems) > 1)}:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )
    return configs


def _named_runs(runs: object, problems: list[str]) -> dict[str, Mapping[Any, Any]]:
    """Return the valid entries of ``runs``; add a message to `problems` for each invalid one."""
    if runs is None:
        return {}
    if not isinstance(runs, Mapping):
        problems.append(
            f"runs = {show(runs)}: must map names of runs to their settings, such as "
            "`runs: {mine: {features: {layer: -2}}}`"
        )
        return {}
    sound: dict[str, Mapping[Any, Any]] = {}
    for name, overrides in runs.items():
        if not is_name(name):
            quoted = "" if isinstance(name, str) else QUOTED
            problems.append(f"runs: {show(name)} is not a valid run name; must be {A_NAME}{quoted}")
        elif overrides is not None and not isinstance(overrides, Mapping):
            problems.append(
                f"runs.{name} = {show(overrides)}: must be the settings in which the run differs, "
                "or {} if there are none"
            )
        else:
            sound[name] = overrides or {}
    return sound


def _name_problems(runs: Iterable[str]) -> Iterator[str]:
    """Yield a message for each invalid run name."""
    for name in runs:
        if place := places.taken(name, OF_DATASET):
            yield (
                f"runs.{name}: {place!r} in the folder of a dataset is reserved for the workflow; "
                "choose another name for the run"
            )
    for one, other in places.twins(runs):
        yield (
            f"runs.{other}: differs from {one!r} only in case, which many file systems ignore; "
            "choose another name"
        )


def _run_problems(overrides: Mapping[Any, Any], prefix: str) -> list[str]:
    """Return messages about mistakes in the settings of one entry of ``runs``."""
    shared = [
        f"{prefix}{section}: {ALL_SHARE}" for section in SHARED_SECTIONS if section in overrides
    ]
    own = {key: value for key, value in overrides.items() if key not in SHARED_SECTIONS}
    return shared + find_mistakes(own, Config, prefix)
