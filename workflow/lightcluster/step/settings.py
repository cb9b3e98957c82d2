"""The settings of a step: a typed view of the configuration keys that the step declares.

A job receives the values of these keys as JSON, and runs again when one of them changes. If a step
could read a key that it does not declare, changing that key would leave stale results, so reading
an undeclared key is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any, cast

from lightcluster.config import Config, nest, walk_keys
from lightcluster.sections import Section


class UndeclaredKeyError(AttributeError):
    """A step read a configuration key that it does not declare."""


def view(step: str, reads: Collection[str], values: Mapping[str, Any]) -> Config:
    """Return the settings of a step as an object with the attributes and types of `Config`.

    Parameters
    ----------
    step : str
        Name of the step, for error messages.
    reads : collection of str
        Keys and sections that the step declares.
    values : mapping of str to Any
        The value of each, in JSON types: `steps.settings_of`.

    Returns
    -------
    Config
        Read as ``settings.clustering.metric``, and typed as the whole configuration. A section
        declared as a whole is complete; of any other section, only declared keys are available.

    Raises
    ------
    UndeclaredKeyError
        When any other attribute is read.
    """
    whole = Config.model_validate(nest({key: values[key] for key in reads}))
    return cast("Config", _View(step, frozenset(reads), whole, ""))


class _View:
    """The declared keys of a section, or of the whole configuration."""

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
    """Raise ValueError if a step declares something that is neither a key nor a section."""
    if unknown := sorted(set(keys) - _known()):
        raise ValueError(
            f"the step {step} declares unknown configuration keys: {', '.join(unknown)}"
        )


@functools.cache
def _known() -> frozenset[str]:
    """Return all keys and sections."""
    keys = [key for key, _ in walk_keys()]
    return frozenset([*keys, *(key.rpartition(".")[0] for key in keys)])
