"""What a method is to the rest of the program.

A method is declared below the configuration, which is made of the sections of all methods, and
below the steps. What it does with finished configurations is therefore in modules that it names:
its steps, and its `config.fit.Adoption`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from lightcluster.methods.sections import CommonSections

if TYPE_CHECKING:
    from lightcluster.datasets.labels import Classes

Clusters: TypeAlias = (
    "Callable[[int | Literal['auto', 'silhouette'], Classes | None, int | None], int]"
)

Settings = TypeVar("Settings", bound=CommonSections, contravariant=True)
"""The sections that a method reads: the common ones, and one of its own if it has one."""

WITHOUT_LABELS = "without labels"
WITH_LABELS = "WITH THEIR LABELS"
"""Said of results behind the images that they are fitted on; more may follow, in parentheses."""


def seen_labels(fitted_on: str) -> str:
    """Return what is said of labels where results owe something to them; empty if they do not."""
    return fitted_on[place:] if (place := fitted_on.find(WITH_LABELS)) >= 0 else ""


@dataclass(frozen=True, kw_only=True)
class Shared(Generic[Settings]):
    """Files that runs have together where their settings lead to the same ones.

    Attributes
    ----------
    wildcard : str
        Stands for their name in the rules and in the names of logs.
    folder : str
        In the folder of the dataset; in it, a folder of each name.
    ids : callable
        Returns the names that a run has, the one that it segments by first. Whatever changes the
        files changes their name.
    seeded : bool
        Whether there is a file of each seed, ``seed-N``, rather than of each shard.
    fitted_only : bool
        Whether runs that apply what another one has fitted have none.
    """

    wildcard: str
    folder: str
    ids: Callable[[Settings], list[str]]
    seeded: bool = False
    fitted_only: bool = False

    @property
    def unit(self) -> str:
        """What its step has one job for; see `step.declaration.JOBS_OF`."""
        return f"{self.wildcard} {'and seed' if self.seeded else 'shard'}"


@dataclass(frozen=True)
class Figure:
    """A figure that a step of a method draws of a run, for its report.

    Attributes
    ----------
    step : str
    file : str
        A PNG in the folder of the run.
    title, caption : str
    """

    step: str
    file: str
    title: str
    caption: str

    @property
    def name(self) -> str:
        """By which the report knows it."""
        return Path(self.file).stem


def _nothing(*_: Any) -> Iterator[Any]:
    return iter(())


@dataclass(frozen=True, kw_only=True)
class Method(Generic[Settings]):
    """A way to segment a dataset.

    Attributes
    ----------
    name : str
        Value of the key `method`, and the kind of its runs; see `Step.kinds`.
    summary : str
        What it is, for the table of that key.
    drawings : mapping of str to (str, str)
        Kinds of runs whose steps the documents draw, each with a heading and a text.
    steps : tuple of str
        Modules in which its steps are declared.
    segments : str
        The step that writes its segmentations.
    masks : bool
        Whether it makes masks of a foreground and regions, whose classes are the segmentation, and
        leaves a model. If not, each of its clusters is one of pixels.
    clusters : callable, optional
        Without masks: returns the number of values in a segmentation, from `labelling.classes`, the
        classes of the dataset and `dataset.background`.
    shared : tuple of Shared
        What its runs may share; the first one whose name is that of a run's features is shown.
    shown : tuple of str
        Sections that the report shows.
    reported : tuple of str
        Steps whose files the report is made of, besides the segmentations and the figures.
    figures : tuple of Figure
        What is in the report of its runs alone.
    conditions : tuple of str
        Keys that change what results are said to be of: `refined_by` and `labels`.
    refined_by : callable
        Returns what refines the segmentations of a run; ``none``: nothing does.
    labels : callable
        Returns `WITHOUT_LABELS`, or what begins with `WITH_LABELS`, of a run that is fitted.
    defaults : callable
        Returns defaults that depend on other keys: of the configuration as it is given, and of
        whether the backbone is the embedded one.
    problems : callable
        Yields what a run of it cannot have together, each a line.
    notes : mapping of str to callable
        Lines that follow the table of a section in the documents.
    progress : mapping of str to (str or Shared, str)
        What is made of each shard, from first to last: its name, the folder below that of the run,
        and the ending of its files.
    results : callable
        Yields lines that end a run: from its folder, and whether it has been fitted.
    views : callable
        Returns how often the backbone sees an image, and how many patches of it are kept: from its
        height and width, the settings, and the side of a patch.
    peak_bytes : callable
        Returns about how much memory its largest job takes: from the number of views, the number of
        their patches, the number of features of a patch, and the settings.
    fit : str
        What `fit.model` is to it; empty: it is always fitted on the images that it segments.
    adopted : str
        Kind of the runs with `fit.model`.
    adoption : str
        Module with its `ADOPTION`: what is done with `fit.model`.
    preloaded : mapping of server to tuple of str
        Modules that steps need, for `forkserver.PRELOADED`.
    """

    name: str
    summary: str
    drawings: Mapping[str, tuple[str, str]]
    steps: tuple[str, ...]
    segments: str
    shared: tuple[Shared[Settings], ...]
    progress: Mapping[str, tuple[str | Shared[Settings], str]]
    views: Callable[[int, int, Settings, int], tuple[int, int]]
    peak_bytes: Callable[[int, int, int, Settings], int]
    shown: tuple[str, ...]
    masks: bool = False
    clusters: Clusters | None = None
    reported: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    conditions: tuple[str, ...] = ()
    refined_by: Callable[[Settings], str] = lambda _: "none"
    labels: Callable[[Settings], str] = lambda _: WITHOUT_LABELS
    defaults: Callable[[Mapping[str, Any], bool], Mapping[str, Any]] = lambda *_: {}
    problems: Callable[[Settings], Iterator[str]] = _nothing
    notes: Mapping[str, Callable[[], Iterator[str]]] = field(default_factory=dict)
    results: Callable[[Path, bool], Iterator[str]] = _nothing
    fit: str = ""
    adopted: str = ""
    adoption: str = ""
    preloaded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its runs may be: fitted, or, if it can, applying what another run has fitted."""
        return (self.name, *filter(None, [self.adopted]))
