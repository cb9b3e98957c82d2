"""Runs with `fit.model`, which apply what another run has fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lightcluster.config.configuration import Config
from lightcluster.methods.registry import method_of


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """How a method handles `fit.model`.

    Attributes
    ----------
    adopt : callable
        ``adopt(folder, config, raw, prefix)``: returns the configuration with the settings of the
        fitted run, and messages about contradictions. `raw` is the configuration without defaults,
        `prefix` precedes keys in messages.
    fitted_on : callable
        ``fitted_on(folder, config)``: returns a description of the images and labels on which it
        was fitted.
    files : callable
        ``files(folder, seed)``: returns the files that are applied; the seed may be None.
    check : callable
        ``check(folder, config)``: raises a LightClusterError if the files cannot be used.
    """

    adopt: Callable[[Path, Config, Mapping[str, Any], str], tuple[Config, list[str]]]
    fitted_on: Callable[[Path, Config], str]
    files: Callable[[Path, int | None], list[Path]]
    check: Callable[[Path, Config], None]


def adoption_of(config: Config) -> Adoption:
    """Return how the method of a run handles `fit.model`.

    Its module imports models, which contain configurations, so it is imported only when needed.
    """
    adoption = import_module(method_of(config).adoption).ADOPTION
    assert isinstance(adoption, Adoption)
    return adoption


def adopt_fit(config: Config, raw: Mapping[str, Any], prefix: str) -> tuple[Config, list[str]]:
    """Return a configuration with the settings of `fit.model`, and messages about contradictions.

    Parameters
    ----------
    config : Config
        A run with `fit.model`.
    raw : mapping
        The configuration without defaults.
    prefix : str
        Text before keys in messages.

    Returns
    -------
    config : Config
    problems : list of str
    """
    folder = config.fit.model
    assert folder is not None
    if not method_of(config).adoption:
        return config, [
            f"{prefix}fit.model = {str(folder)!r}: `method: {config.method}` is always fitted on "
            "its images"
        ]
    return adoption_of(config).adopt(folder, config, raw, prefix)
