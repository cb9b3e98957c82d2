"""The interface of methods.

Methods are declared in a lower layer than the configuration (which combines the sections of all
methods) and the steps. Code that needs a complete configuration is therefore in modules that the
declaration only names: the steps, and `config.fit.Adoption`.
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
"""The sections that a method reads: the common ones, and its own section if it has one."""

WITHOUT_LABELS = "without labels"
WITH_LABELS = "WITH THEIR LABELS"
"""Follow the description of the images on which results are fitted; may have a remark appended."""


def seen_labels(fitted_on: str) -> str:
    """Return the remark about labels in `fitted_on`; empty if no labels were used."""
    return fitted_on[place:] if (place := fitted_on.find(WITH_LABELS)) >= 0 else ""


@dataclass(frozen=True, kw_only=True)
class Shared(Generic[Settings]):
    """Files that runs share if the relevant settings are equal.

    Attributes
    ----------
    wildcard : str
        Wildcard for their name in rules and log files.
    folder : str
        Folder below that of the dataset; it contains one folder per name.
    ids : callable
        Returns the names that a run uses, with the one for segmentation first. Everything that
        changes the files changes their name.
    seeded : bool
        Whether there is one file per seed, ``seed-N``, instead of one per shard.
    fitted_only : bool
        Whether only fitted runs use them, not runs that apply another run's result.
    """

    wildcard: str
    folder: str
    ids: Callable[[Settings], list[str]]
    seeded: bool = False
    fitted_only: bool = False

    @property
    def unit(self) -> str:
        """Unit of its step, of which there is one job each; see `step.declaration.JOBS_OF`."""
        return f"{self.wildcard} {'and seed' if self.seeded else 'shard'}"


@dataclass(frozen=True)
class Figure:
    """A figure in the report that a step of a method draws.

    Attributes
    ----------
    step : str
        Name of the step.
    file : str
        PNG in the folder of the run.
    title, caption : str
    """

    step: str
    file: str
    title: str
    caption: str

    @property
    def name(self) -> str:
        """Name in the report."""
        return Path(self.file).stem


def _nothing(*_: Any) -> Iterator[Any]:
    return iter(())


@dataclass(frozen=True, kw_only=True)
class Method(Generic[Settings]):
    """A segmentation method.

    Attributes
    ----------
    name : str
        Value of the key `method`, and the kind of its runs; see `Step.kinds`.
    summary : str
        Short description for the table entry of this key.
    drawings : mapping of str to (str, str)
        Kinds of runs whose steps are drawn in the documentation, each with a heading and a text.
    steps : tuple of str
        Modules that declare its steps.
    segments : str
        The step that writes its segmentations.
    masks : bool
        Whether it computes foreground masks and regions, segments by classifying the regions, and
        saves a model. If not, it clusters pixels.
    clusters : callable, optional
        For methods without masks: returns the number of values in a segmentation, given
        `labelling.classes`, the classes of the dataset and `dataset.background`.
    shared : tuple of Shared
        Files that its runs may share; the first one whose name is that of a run's features is
        shown.
    shown : tuple of str
        Configuration sections that the report shows.
    reported : tuple of str
        Steps whose files the report uses, besides the segmentations and figures.
    figures : tuple of Figure
        Figures that only its reports have.
    conditions : tuple of str
        Keys that change `refined_by` or `labels`.
    refined_by : callable
        Returns the refinement of a run's segmentations, or ``none``.
    labels : callable
        Returns `WITHOUT_LABELS`, or a text that starts with `WITH_LABELS`, for a fitted run.
    defaults : callable
        Returns defaults that depend on other keys, given the raw configuration and whether the
        backbone is the embedded one.
    problems : callable
        Yields a message for each combination of settings that the method does not support.
    notes : mapping of str to callable
        Yield the lines that follow the table of a section in the documentation.
    progress : mapping of str to (str or Shared, str)
        Results of each shard, in order: label, folder below that of the run, and file suffix.
    results : callable
        Yields the lines that are printed at the end of a run, given its folder and whether it was
        fitted.
    views : callable
        Returns the number of views of an image and the number of their patches, given its height
        and width, the settings, and the side of a patch.
    peak_bytes : callable
        Returns the approximate memory of its largest job, given the number of views, the number of
        their patches, the feature dimension, and the settings.
    fit : str
        Description of `fit.model`; empty if the method is always fitted on the images that it
        segments.
    adopted : str
        Kind of the runs with `fit.model`.
    adoption : str
        Module with its `ADOPTION`, which handles `fit.model`.
    preloaded : mapping of server to tuple of str
        Modules that its steps need, for `forkserver.PRELOADED`.
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
        """Kinds of its runs: fitted and, if supported, applying the result of another run."""
        return (self.name, *filter(None, [self.adopted]))
