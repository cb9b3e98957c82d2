"""The paths, shards and jobs of a configuration, and the settings of its steps."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from lightcluster.config import Config
from lightcluster.config.fit import adoption_of
from lightcluster.datasets.entries import Entry
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.datasets.listing import fingerprint
from lightcluster.datasets.lists import Listing, add_stamps, list_shards, plan_lists, read_lists
from lightcluster.digests import Digests, combine, combine_states
from lightcluster.evaluation.settings import PER_IMAGE
from lightcluster.identity import (
    as_shared,
    features_id,
    weights_id,
    with_split,
)
from lightcluster.methods.registry import (
    SHARED,
    SHARED_FOLDERS,
    WITH_MASKS,
    kind_of,
    kinds_sharing,
    method_of,
)
from lightcluster.places import CACHE, NAMES, OF_ALL_RUNS, POINTS, record_of
from lightcluster.shards import Shards, number_of
from lightcluster.step.declaration import Step
from lightcluster.steps import STEPS, settings_of

RESULTS = "results"


def prepare_environment(workflow: Path) -> None:
    """Let jobs find the package and, unless they run in a conda environment, this Python."""
    for variable, folder in (("PYTHONPATH", workflow), ("PATH", Path(sys.executable).parent)):
        rest = os.environ.get(variable)
        os.environ[variable] = os.pathsep.join(filter(None, [str(folder), rest]))


class Layout:
    """The paths and jobs of one configuration, which may have several runs on one dataset.

    Parameters
    ----------
    configs : dict of str to Config
        As `config.parse_config` returns them.
    planning : bool
        Whether this process plans all jobs instead of running one. The digests of files are then
        computed for all shards at once, and cached, and the images of each shard are written for
        the jobs.
    working : bool
        Whether this process runs a job that was planned; it then only reads the images of its
        shard.

    Raises
    ------
    DatasetError
        If a part of the dataset's layout is missing, or there is no image.
    """

    def __init__(
        self, configs: Mapping[str, Config], *, planning: bool = False, working: bool = False
    ) -> None:
        self.configs = dict(configs)
        self._settings: dict[tuple[str, str, str], str] = {}
        self.dataset = next(iter(configs.values())).dataset
        self.dataset_folder = f"{RESULTS}/{self.dataset.name}"
        self.weights_folder = f"{RESULTS}/weights"
        self.scenes = f"{self.dataset_folder}/scenes"
        self.format = FORMATS[self.dataset.format]
        self.drawn = self.format.draws
        self.demo_input = [self.scenes] if self.drawn else []
        self.painted = bool(self.format.step) and not self.drawn
        self.painted_labels = f"{self.dataset_folder}/labels"
        self.painted_input = [self.painted_labels] if self.painted else []
        self.labels_input = self.demo_input + self.painted_input
        self.generated = self.painted_labels if self.painted else self.scenes
        self.lists = CACHE / f"{self.dataset.name}.lists"
        self._listing = self._list(planning=planning, working=working)
        self.others = self._listing.others
        self.n_images = sum(self._listing.sizes)
        self.shards = Shards(len(self._listing.sizes))
        self._planning = planning
        self._digests = Digests(CACHE / f"{self.dataset.name}.digests", keep=planning)
        self._few = Digests(CACHE / f"{self.dataset.name}.few", keep=planning)  # not of images
        self._files_stamps = dict(self._listing.stamps)

    def _list(self, *, planning: bool, working: bool) -> Listing:
        """List the dataset; see `datasets.lists`."""
        if working:
            return read_lists(self.lists, self.dataset, Path(self.generated))
        if planning:
            return plan_lists(self.lists, self.dataset, Path(self.generated))
        return list_shards(self.dataset, Path(self.generated))

    @property
    def labelled(self) -> bool:
        """Whether the dataset has labels for the evaluation."""
        return self.format.labelled(self.dataset)

    @property
    def has_classes(self) -> bool:
        """Whether the classes of the dataset are known."""
        return bool(self.format.classes) or self.classes_source is not None

    @property
    def classes_source(self) -> Path | None:
        """The classes.csv of the user or the demo; None if the classes are built in."""
        return self.format.classes_file(self.dataset, Path(self.generated))

    @property
    def classes_stamp(self) -> str:
        """Digest of the content of the user's classes.csv."""
        if self.drawn or self.classes_source is None:
            return "generated"
        return self.digest(self.classes_source)

    @property
    def annotations_stamp(self) -> str:
        """Digest of the instance annotations that label maps are painted from."""
        return self.digest(*self.format.step_reads(self.dataset))

    @property
    def images_stamp(self) -> str:
        """Digest of all images, because label maps are painted in their sizes."""
        return combine(map(self.files_stamp, self.shards))

    def files_stamp(self, shard: str) -> str:
        """Return a digest of the names and contents of the images and labels of a shard."""
        if shard not in self._files_stamps:
            seen = self._look_at(list(self.shards) if self._planning else [shard])
            self._files_stamps |= {name: stamp for name, (_, stamp) in seen.items()}
            if self._planning:
                add_stamps(self.lists, seen)
        return self._files_stamps[shard]

    def _look_at(self, shards: list[str]) -> dict[str, tuple[str, str]]:
        """Return `datasets.lists.Listing.seen` of shards as it is now.

        The contents of files are looked up only for shards with a file whose state has changed.
        """
        seen = {}
        for name in shards:
            states = combine_states(self._listing.sources(number_of(name)))
            before, stamp = self._listing.seen.get(name, ("", ""))
            seen[name] = states, stamp if states and states == before else ""
        changed = [name for name in shards if not seen[name][1]]
        sources = {name: self._listing.sources(number_of(name)) for name in changed}
        contents = iter(self._digests.of([file for own in sources.values() for file in own]))
        for name, own in sources.items():
            stamp = fingerprint(self.entries(name), islice(contents, len(own)))
            seen[name] = seen[name][0], stamp
        return seen

    def digest(self, *files: Path) -> str:
        """Return a digest of the contents of files."""
        return combine(self._few.of(files))

    def all_entries(self) -> list[Entry]:
        """Return all images of the dataset, in the order of their ids."""
        every = chain.from_iterable(map(self.entries, self.shards))
        return sorted(every, key=lambda entry: entry.image_id)

    def entries(self, shard: str) -> list[Entry]:
        """Return the images of a shard."""
        return self._listing.entries(number_of(shard))

    def features_folder(self, run: str) -> str:
        """Return the folder of the feature stores of a run."""
        return f"{self.dataset_folder}/features/{features_id(self.configs[run])}"

    def shared_folder(self, run: str, wildcard: str) -> str:
        """Return the folder of files that a run may share with others, by their wildcard.

        If a run has several, this is the first one; see `methods.protocol.Shared`.
        """
        shared = SHARED[wildcard]
        return f"{self.dataset_folder}/{shared.folder}/{shared.ids(self.configs[run])[0]}"

    def _shared_ids(self, run: str, *, seeded: bool) -> list[str]:
        """Return the names of what a run shares, for either each shard or each seed."""
        config = self.configs[run]
        return [
            name
            for shared in method_of(config).shared
            if shared.seeded == seeded and self.kind(run) in kinds_sharing(shared.wildcard)
            for name in shared.ids(config)
        ]

    def features_names(self, run: str) -> list[str]:
        """Return the names of what a run computes with its backbone and may share with others."""
        return self._shared_ids(run, seeded=False)

    def shared_names(self, run: str) -> list[str]:
        """Return the names of all that a run may share with others, except weights."""
        return self.features_names(run) + self._shared_ids(run, seeded=True)

    def weights_file(self, run: str) -> str:
        """Return the verified weights of a run."""
        return f"{self.weights_folder}/{weights_id(self.configs[run].backbone)}.safetensors"

    @property
    def all_weights(self) -> list[Path]:
        """Return the weights of all runs and their records, which other datasets may share."""
        files = sorted({Path(self.weights_file(run)) for run in self.configs})
        return [path for file in files for path in (file, file.with_suffix(".json"))]

    @cached_property
    def _runs(self) -> dict[str, dict[str, str]]:
        """For each wildcard in paths: its possible values, each with a run that uses it."""
        shared = {
            wildcard: {
                name: run
                for run in self.runs_of(*kinds_sharing(wildcard))
                for name in shared.ids(self.configs[run])
            }
            for wildcard, shared in SHARED.items()
        }
        weights = {weights_id(config.backbone): run for run, config in self.configs.items()}
        return {"run": {run: run for run in self.configs}, **shared, "weights": weights}

    def is_chosen(self, features: str) -> bool:
        """Tell whether a step chooses the facet or the layer of these features."""
        return self.configs[self._runs["features"][features]].features.automatic

    def scores_images(self, run: str) -> bool:
        """Tell whether the images of a run are also scored separately."""
        return self.labelled and PER_IMAGE in self.configs[run].evaluation.protocols

    def _shows_parts(self, run: str) -> bool:
        """Tell whether a run has the figure of object parts."""
        return self.configs[run].report.parts > 0

    def has_gallery(self, run: str) -> bool:
        """Tell whether a run has a gallery."""
        return self.configs[run].report.gallery > 0

    def gallery_share(self, run: str, shard: str) -> int | None:
        """Return how many images of a shard the gallery shows; None if it shows all images."""
        limit = self.configs[run].report.gallery
        if self.n_images <= limit:
            return None
        before = sum(self._listing.sizes[: number_of(shard)])
        after = before + self._listing.sizes[number_of(shard)]
        return limit * after // self.n_images - limit * before // self.n_images

    def painted_seeds(self, run: str) -> list[int]:
        """Return the labelling seeds of a run whose segmentations are written.

        Without masks these are all seeds, because the pixels of their segmentations are counted.
        """
        seeds = self.configs[run].labelling.seeds
        every = not self.has_masks(run) or self.configs[run].report.segmentations == "all"
        return list(seeds if every else seeds[:1])

    def has_masks(self, run: str) -> bool:
        """Tell whether the method of a run has masks, and therefore regions and a model."""
        return self.kind(run) in WITH_MASKS

    def figures(self, run: str) -> list[str]:
        """Return the figures in the folder of a run that only its method has."""
        return [
            figure.file
            for figure in method_of(self.configs[run]).figures
            if run in self._runs_with(figure.step)
        ]

    @property
    def compared(self) -> bool:
        """Whether there are several runs, or published figures, to compare."""
        published = next(iter(self.configs.values())).comparison.published != "none"
        return self.labelled and (len(self.configs) > 1 or published)

    @property
    def paged(self) -> bool:
        """Whether there is a page that compares runs."""
        return self.compared or len(self.configs) > 1

    def weights_stamp(self, weights: str) -> str:
        """Return a digest of a local weights file; the source's name for other weights."""
        backbone = self.configs[self._runs["weights"][weights]].backbone
        return self.digest(backbone.file) if backbone.file else backbone.source

    def names_files(self, run: str) -> list[str]:
        """Return the files with the names that a user gave to the clusters of a run, if any."""
        files = [f"{self.dataset_folder}/{run}/{name}" for name in (NAMES, POINTS)]
        return files if all(os.path.isfile(file) for file in files) else []

    def names_stamp(self, run: str) -> str:
        """Return a digest of these names."""
        return self.digest(*map(Path, self.names_files(run)))

    def kind(self, run: str) -> str:
        """Return the kind of a run; see `methods.registry.kind_of`."""
        return kind_of(self.configs[run])

    def fit_stamp(self, run: str, seed: str | None = None) -> str:
        """Return a digest of the files that a run applies instead of fitting.

        Parameters
        ----------
        run : str
        seed : str, optional
            For methods with a fit for each seed.
        """
        config = self.configs[run]
        if config.fit.model is None:
            return "none"
        number = None if seed is None else int(seed)
        return self.digest(*adoption_of(config).files(config.fit.model, number))

    def fitted_on(self, run: str) -> str:
        """Return in words which images a run is fitted on, and whether it uses labels."""
        config = self.configs[run]
        if config.fit.model is not None:
            return adoption_of(config).fitted_on(config.fit.model, config)
        images = with_split("the evaluated images", self.dataset.split)
        return f"{images}, {method_of(config).labels(config)}"

    @property
    def images_in_words(self) -> str:
        """The images of this dataset in words, for runs that apply a model fitted on them."""
        return with_split(self.dataset.name, self.dataset.split)

    def runs_of(self, *kinds: str) -> list[str]:
        """Return the runs of the given kinds."""
        return [run for run in self.configs if self.kind(run) in kinds]

    def run_of(self, wildcards: Any) -> str:
        """Return a run to which the files of a job belong; others may share them.

        Parameters
        ----------
        wildcards : object
            With the attribute ``run``, ``weights`` or a wildcard of `methods.registry.SHARED`. With
            none of them the files are those of the dataset, which belong to all runs.
        """
        return self._run_and_wildcard(wildcards)[0]

    def _run_and_wildcard(self, wildcards: Any) -> tuple[str, str]:
        for wildcard, runs in self._runs.items():
            if hasattr(wildcards, wildcard):
                return runs[getattr(wildcards, wildcard)], wildcard
        return next(iter(self.configs)), ""

    def settings(self, step: str, wildcards: Any) -> str:
        """Return the settings that a job of `step` reads, as JSON; see `run_of`.

        They are the same for all runs that share its files.
        """
        key = (step, *self._run_and_wildcard(wildcards))
        if key not in self._settings:
            _, run, wildcard = key
            self._settings[key] = json.dumps(
                settings_of(step, as_shared(self.configs[run], wildcard))
            )
        return self._settings[key]

    def jobs(self) -> dict[str, list[dict[str, str]]]:
        """Return the wildcards of every job of each step when nothing is finished yet.

        Returns
        -------
        dict of str to list of dict
            Steps without a job are left out. The order of the runs changes only the order of the
            jobs.
        """
        return {
            name: jobs
            for name, step in STEPS.items()
            if self._takes_part(name) and (jobs := self._jobs_of(name, step))
        }

    def places(self) -> list[Path]:
        """Return the files and folders that contain the results of this configuration."""
        folder = Path(self.dataset_folder)
        return [folder / name for name in (*OF_ALL_RUNS, *SHARED_FOLDERS, *self.configs)]

    def is_result(self, path: Path, match: Mapping[str, str] | None) -> bool:
        """Tell whether the workflow wrote a file, and for this configuration.

        Parameters
        ----------
        path : Path
            Below one of `places`.
        match : mapping of str to str, optional
            The wildcards with which a rule would write it, if there is such a rule.
        """
        if path.relative_to(self.dataset_folder).parts[0] not in SHARED_FOLDERS:
            return match is not None or record_of(path).exists()
        return match is not None and all(
            match[wildcard] in known for wildcard, known in self._runs.items() if wildcard in match
        )

    def count_jobs(self) -> dict[str, int]:
        """Return the number of jobs of each step when nothing is finished yet."""
        return {name: len(jobs) for name, jobs in self.jobs().items()}

    def _takes_part(self, name: str) -> bool:
        """Tell whether the dataset has a step."""
        asked = {
            **{format.step: format.step == self.format.step for format in FORMATS.values()},
            "read_classes": self.has_classes,
            "count_masks": self.labelled,
            "count_regions": self.labelled,
            "count_labels": self.labelled,
            "vote_neighbors": self.labelled,
            "count_confusion": self.labelled,
            "evaluate": self.labelled,
            "compare": self.compared,
            "write_dataset_page": self.paged,
        }
        return asked.get(name, True)

    def _jobs_of(self, name: str, step: Step) -> list[dict[str, str]]:
        """Return the wildcards of the jobs of a step."""
        of_runs = [{"run": run} for run in self._runs_with(name)]
        seeds = [
            {"run": run, "seed": str(seed)}
            for run in self._runs_with(name)
            for seed in (
                self.painted_seeds(run)
                if name == method_of(self.configs[run]).segments
                else self.configs[run].labelling.seeds
            )
        ]

        def shared(wildcard: str) -> list[dict[str, str]]:
            if wildcard not in SHARED or not SHARED[wildcard].seeded:
                return [{wildcard: name} for name in self._runs[wildcard]]
            pairs = dict.fromkeys(
                (name, of["seed"])
                for of in seeds
                for name in SHARED[wildcard].ids(self.configs[of["run"]])
            )
            return [{wildcard: name, "seed": seed} for name, seed in pairs]

        jobs: list[dict[str, str]]
        match step.unit:
            case "run" | "shard":
                jobs = of_runs
            case "seed" | "shard and seed":
                jobs = seeds
            case "dataset" | "dataset shard" | "all runs":
                jobs = [{}]
            case "features":
                jobs = [of for of in shared("features") if self.is_chosen(of["features"])]
            case "weights":
                jobs = shared("weights")
            case unit:
                jobs = shared(next(name for name, one in SHARED.items() if one.unit == unit))
        if "shard" not in step.unit:
            return jobs
        return [{**of, "shard": shard} for of in jobs for shard in self.shards]

    def _runs_with(self, name: str) -> list[str]:
        """Return the runs that have a step."""
        asked = {
            "discover_parts": self._shows_parts,
            "score_images": self.scores_images,
            "draw_gallery": self.has_gallery,
            "write_gallery": self.has_gallery,
        }
        runs = self.runs_of(*STEPS[name].kinds)
        return [run for run in runs if name not in asked or asked[name](run)]


def read_choice(path: Path) -> tuple[str, int]:
    """Return the facet and the layer that the step `choose_features` chose."""
    with path.open(newline="", encoding="utf-8") as file:
        best = next(csv.DictReader(file))
    return best["facet"], int(best["layer"])
