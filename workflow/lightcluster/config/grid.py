"""The key `grid`, which makes a run for every combination of values."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from lightcluster.config.configuration import Config, lookup, nest, walk_keys
from lightcluster.sections import (
    find_mistakes,
    show,
    show_yaml,
    suggest,
)

SHARED_SECTIONS = ("dataset", "comparison")
"""Sections that must be equal for all runs."""


ALL_SHARE = "must be the same for all runs of a configuration; set it outside of runs and grid"


def sound_grid(grid: object, problems: list[str]) -> dict[str, list[Any]]:
    """Return a valid grid; if `grid` is invalid, return {} and add its mistakes to `problems`."""
    if grid is None:
        return {}
    if not isinstance(grid, Mapping):
        problems.append(
            f"grid = {show(grid)}: must map keys to lists of values, such as "
            "`grid: {features.layer: [-1, -3]}`"
        )
        return {}
    mistakes = [mistake for key, values in grid.items() for mistake in _grid_mistakes(key, values)]
    if not mistakes and (runs := math.prod(len(values) for values in grid.values())) > _MOST_RUNS:
        mistakes = [f"grid: makes {runs:,} runs; at most {_MOST_RUNS:,} are allowed"]
    problems += mistakes
    return {} if mistakes else {str(key): list(values) for key, values in grid.items()}


_MOST_RUNS = 10_000


def _grid_mistakes(key: object, values: object) -> Iterator[str]:
    """Yield the mistakes of one key of ``grid``."""
    known = {name for name, _ in walk_keys()}
    if not isinstance(key, str) or key not in known:
        name = key if isinstance(key, str) else show(key)
        inner = values if isinstance(values, Mapping) else {}
        dotted = next((f"{key}.{last}" for last in inner if f"{key}.{last}" in known), None)
        meant = f"; write `{dotted}: [...]`" if dotted else suggest(name, values, Config)
        yield f"grid.{name}: unknown key{meant}"
    elif key.partition(".")[0] in SHARED_SECTIONS:
        yield f"grid.{key}: {ALL_SHARE}"
    elif not isinstance(values, list) or not values:
        plain = values is not None and not isinstance(values, list | Mapping)
        example = f", such as [{show_yaml(values)}]" if plain else ""
        yield f"grid.{key} = {show(values)}: must be a list of at least one value{example}"
    else:
        choices = [nest({key: value}) for value in values]
        mistakes = [line for raw in choices for line in find_mistakes(raw, Config, "grid.")]
        yield from mistakes
        if not mistakes:
            taken = [lookup(Config.model_validate(raw), key) for raw in choices]
            if len({json.dumps(value) for value in taken}) < len(taken):
                yield f"grid.{key} = {show(values)}: must not contain the same value twice"


def expand_grid(grid: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Return a run for every combination of values; the last key varies fastest.

    A run is named after its values, such as ``layer--1_k_image-2``. If that is too long or not
    unique, it is shortened and a digest is appended.

    Parameters
    ----------
    grid : mapping of str to list
        Values by dotted key; may be empty.

    Returns
    -------
    dict of str to dict
        The differing settings of each run, by its name.
    """
    if not grid:
        return {}
    choices = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    names = [_describe_choice(choice) for choice in choices]
    count = Counter(names)
    runs: dict[str, dict[str, Any]] = {}
    for name, choice in zip(names, choices, strict=True):
        if len(name) > _LONGEST_NAME or count[name] > 1:
            text = json.dumps(choice, default=str).encode()
            digest = hashlib.blake2b(text, digest_size=4).hexdigest()
            name = f"{name[: _LONGEST_NAME - len(digest) - 1]}-{digest}"
        runs[name] = nest(choice)
    return runs


_LONGEST_NAME = 80
"""Longest name of a run, as in `Name`."""


def _describe_choice(choice: Mapping[str, Any]) -> str:
    """Return a name made of keys and values; sections are omitted unless keys are ambiguous."""
    short = Counter(key.rpartition(".")[2] for key in choice)
    parts = []
    for key, value in choice.items():
        last = key.rpartition(".")[2]
        text = ".".join(map(str, value)) if isinstance(value, list) else str(value)
        part = f"{last if short[last] == 1 else key}-{text}"
        parts.append(re.sub(r"[^A-Za-z0-9_.-]+", "-", part))
    return "_".join(parts)
