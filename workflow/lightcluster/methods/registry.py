"""The list of all methods, and what configuration and steps derive from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lightcluster import places
from lightcluster.methods.cause.method import CAUSE
from lightcluster.methods.cause.settings import CauseSections
from lightcluster.methods.kmeans.method import KMEANS
from lightcluster.methods.lightcluster.method import LIGHTCLUSTER
from lightcluster.methods.protocol import Method
from lightcluster.methods.sections import CommonSections, Fit


# Pydantic lists the keys of the last base class first.
class _Sections(CauseSections):
    """The sections of all methods."""


_LISTED: tuple[Method[_Sections], ...] = (LIGHTCLUSTER, KMEANS, CAUSE)

METHODS = {method.name: method for method in _LISTED}
"""Methods by the value of the key `method`; the first is the default."""

if TYPE_CHECKING:
    Name = str
else:
    Name = Literal[tuple(METHODS)]


class FitSettings(Fit):
    """The images on which a run is fitted."""

    model: Path | None = Field(
        None,
        description=" With ".join(
            f"`method: {method.name}`: {method.fit}" if number else method.fit
            for number, method in enumerate(method for method in _LISTED if method.fit)
        )
        + " None: the run is fitted on the images it segments.",
    )


class MethodSections(_Sections):
    """The configuration sections that methods read."""

    method: Name = Field(
        _LISTED[0].name,
        description="; ".join(f"`{method.name}`: {method.summary}" for method in _LISTED) + ".",
    )
    fit: FitSettings = FitSettings()


def method_of(config: CommonSections) -> Method[_Sections]:
    """Return the method of a run."""
    return METHODS[config.method]


def kind_of(config: CommonSections) -> str:
    """Return the kind of a run: the name of its method or, with `fit.model`, `Method.adopted`."""
    method = method_of(config)
    return method.name if config.fit.model is None else method.adopted


KINDS = tuple(kind for method in _LISTED for kind in method.kinds)
"""All kinds of runs; see `kind_of`."""

WITH_MASKS = tuple(kind for method in _LISTED if method.masks for kind in method.kinds)
WITHOUT_MASKS = tuple(kind for kind in KINDS if kind not in WITH_MASKS)

SHARED = {shared.wildcard: shared for method in _LISTED for shared in method.shared}
"""Everything that runs share, by its wildcard."""

SHARED_FOLDERS = (*places.OF_SEVERAL_RUNS, *(shared.folder for shared in SHARED.values()))
"""Folders below that of the dataset whose files several runs share."""

OF_DATASET = (*places.OF_ALL_RUNS, *SHARED_FOLDERS, places.ASIDE)
"""Names in the folder of a dataset that cannot be names of runs."""


def kinds_sharing(wildcard: str) -> tuple[str, ...]:
    """Return the kinds of runs that use the shared files of this wildcard."""
    return tuple(
        kind
        for method in _LISTED
        for kind in ((method.name,) if SHARED[wildcard].fitted_only else method.kinds)
        if SHARED[wildcard] in method.shared
    )


FIGURES = tuple(figure for method in _LISTED for figure in method.figures)

CONDITIONS = tuple(key for method in _LISTED for key in method.conditions)
"""Keys that change the refinement or the use of labels; see `Method.conditions`."""

SHOWN = tuple(dict.fromkeys(section for method in _LISTED for section in method.shown))
"""Configuration sections that are shown in any report."""

SEGMENTING = tuple(method.segments for method in _LISTED)
"""Steps that write segmentations."""

COUNTED = tuple(method.segments for method in _LISTED if not method.masks)
"""Segmenting steps of methods without masks, evaluated by counting pixels instead of regions."""

REPORTED = tuple(step for method in _LISTED for step in method.reported)

PRELOADED = {
    server: tuple(name for method in _LISTED for name in method.preloaded.get(server, ()))
    for server in ("plain", "torch")
}
"""Modules that the steps of methods need; see `forkserver`."""
