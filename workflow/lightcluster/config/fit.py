"""Runs that are fitted elsewhere: what a method does with `fit.model`."""

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
    """What a method does with the folder that `fit.model` names.

    Attributes
    ----------
    adopt : callable
        Of the folder, a run, its settings as they are given, and what stands before its keys in
        messages: returns the run with the settings of what it applies, and what contradicts them.
    fitted_on : callable
        Of the folder and the run: returns in words which images and labels that was fitted on.
    files : callable
        Of the folder and a seed, or None: returns the files that are applied.
    check : callable
        Of the folder and the run: raises LightClusterError if they cannot be used.
    """

    adopt: Callable[[Path, Config, Mapping[str, Any], str], tuple[Config, list[str]]]
    fitted_on: Callable[[Path, Config], str]
    files: Callable[[Path, int | None], list[Path]]
    check: Callable[[Path, Config], None]


def adoption_of(config: Config) -> Adoption:
    """Return what the method of a run does with `fit.model`.

    It knows models, which hold configurations themselves: so it is imported where there is one.
    """
    adoption = import_module(method_of(config).adoption).ADOPTION
    assert isinstance(adoption, Adoption)
    return adoption


def adopt_fit(config: Config, raw: Mapping[str, Any], prefix: str) -> tuple[Config, list[str]]:
    """Return a run with the settings of what it applies, and what contradicts them."""
    folder = config.fit.model
    assert folder is not None
    if not method_of(config).adoption:
        return config, [
            f"{prefix}fit.model = {str(folder)!r}: `method: {config.method}` is always fitted on "
            "its images"
        ]
    return adoption_of(config).adopt(folder, config, raw, prefix)
