"""What a step reads of the configuration, as a typed object that holds nothing else.

A job is given the values of the keys that its step declares, as JSON: what changes there is what
makes it run again. Were a step to read a key that it does not declare, a change of that key would
leave old results in their place; so reading one is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any, cast

from lightcluster.config import Config, nest, walk_keys
from lightcluster.sections import Section


class UndeclaredKeyError(AttributeError):
    """A step reads a key of the configuration that it does not declare."""


def view(step: str, reads: Collection[str], values: Mapping[str, Any]) -> Config:
    """Return the settings of a step, by attributes and with the types of `Config`.

    Parameters
    ----------
    step : str
        For the message of the error.
    reads : collection of str
        The keys and sections that it declares.
    values : mapping of str to Any
        The value of each, in JSON types: `steps.settings_of`.

    Returns
    -------
    Config
        To the type checker, and for whoever reads it: ``settings.clustering.metric``. A section
        that is declared as a whole is that section; of another one, only what is declared is
        there.

    Raises
    ------
    UndeclaredKeyError
        When another attribute is read.
    """
    whole = Config.model_validate(nest({key: values[key] for key in reads}))
    return cast("Config", _View(step, frozenset(reads), whole, ""))


class _View:
    """The declared part of a section, or of the whole configuration."""

    def __init__(self, step: str, reads: frozenset[str], section: Section, prefix: str) -> None:
        self._step, self._reads, self._section, self._prefix = step, reads, section, prefix

    def __getattr__(self, name: str) -> Any:
        key = f"{self._prefix}{name}"
        if key in self._reads:
            return getattr(self._section, name)
        if any(read.startswith(f"{key}.") for read in self._reads):
            return _View(self._step, self._reads, getattr(self._section, name), f"{key}.")
        raise UndeclaredKeyError(
            f"the step {self._step} reads {key!r}, which is not among the keys that it declares"
        )


def check_keys(step: str, keys: Collection[str]) -> None:
    """Raise ValueError if a step declares what is neither a key nor a section."""
    if unknown := sorted(set(keys) - _known()):
        raise ValueError(
            f"the step {step} declares {', '.join(unknown)}, which are no keys of the configuration"
        )


@functools.cache
def _known() -> frozenset[str]:
    """Return all keys and sections."""
    keys = [key for key, _ in walk_keys()]
    return frozenset([*keys, *(key.rpartition(".")[0] for key in keys)])
