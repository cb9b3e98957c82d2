"""Where everything is: the folders of a configuration, its shards, and what its steps are given."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from lightcluster.config import Config
from lightcluster.datasets.entries import Entry
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.datasets.listing import (
    count_shards,
    fingerprint,
    list_dataset,
    split_shards,
)
from lightcluster.datasets.others import count_others
from lightcluster.digests import Digests, combine
from lightcluster.evaluation.settings import PER_IMAGE
from lightcluster.identity import (
    as_shared,
    clusterbook_crops_id,
    clusterbook_id,
    crops_id,
    features_id,
    head_id,
    local_weights,
    training_size,
    views_id,
    weights_id,
    weights_source,
    with_split,
)
from lightcluster.kinds import CAUSE, KINDS, OURS, TRAINED, WITHOUT_TRAINING, Kind
from lightcluster.places import OF_ALL_RUNS, SHARED, record_of
from lightcluster.shards import Shards, number_of
from lightcluster.step.declaration import Step, Unit
from lightcluster.steps import STEPS, settings_of

RESULTS = "results"

DIGESTS = ".snakemake/lightcluster"
"""Where the digests of a dataset's files are remembered; there, because they are no result."""


def prepare_environment(workflow: Path) -> None:
    """Let jobs find the package and, unless conda gives them another, this very python."""
    for variable, folder in (("PYTHONPATH", workflow), ("PATH", Path(sys.executable).parent)):
        rest = os.environ.get(variable)
        os.environ[variable] = os.pathsep.join(filter(None, [str(folder), rest]))


class Layout:
    """The places of one configuration, which may hold several runs on one dataset.

    Parameters
    ----------
    configs : dict of str to Config
        As `config.parse_config` returns them.
    planning : bool
        Whether all jobs are planned here, rather than one of them done: what files hold is then
        looked up for all shards at once, and remembered.

    Raises
    ------
    DatasetError
        If a part of the dataset's layout is missing, or no image is there.
    """

    def __init__(self, configs: Mapping[str, Config], *, planning: bool = False) -> None:
        self.configs = dict(configs)
        self._settings: dict[tuple[str, str, str], str] = {}
        self.dataset = next(iter(configs.values())).dataset
        self.dataset_folder = f"{RESULTS}/{self.dataset.name}"
        self.weights_folder = f"{RESULTS}/weights"
        self.scenes = f"{self.dataset_folder}/scenes"
        self.format = FORMATS[self.dataset.format]
        self.drawn = self.format.step == "generate_demo"
        self.demo_input = [self.scenes] if self.drawn else []
        self.painted = self.format.step == "paint_labels"
        self.painted_labels = f"{self.dataset_folder}/labels"
        self.painted_input = [self.painted_labels] if self.painted else []
        self.labels_input = self.demo_input + self.painted_input
        self.generated = self.painted_labels if self.painted else self.scenes
        others: list[str] = []
        self._entries = list_dataset(self.dataset, Path(self.generated), others)
        self.others = count_others(others)
        self.n_images = len(self._entries)
        self.shards = Shards(count_shards(self.n_images, self.dataset.shard_size))
        self._split = split_shards(self._entries, len(self.shards))
        self._planning = planning
        self._digests = Digests(Path(DIGESTS, f"{self.dataset.name}.digests"), keep=planning)
        self._files_stamps: dict[str, str] = {}

    @property
    def labelled(self) -> bool:
        """Whether there are labels to evaluate against."""
        return self.format.labelled(self.dataset)

    @property
    def has_classes(self) -> bool:
        """Whether the classes of the dataset are known."""
        return bool(self.format.classes) or self.classes_source is not None

    @property
    def classes_source(self) -> Path | None:
        """The user's, or the demo's, classes.csv; None where the classes are built in."""
        return self.format.classes_file(self.dataset, Path(self.generated))

    @property
    def classes_stamp(self) -> str:
        """Digest of the user's classes.csv: changes with its content, not with its time."""
        if self.drawn or self.classes_source is None:
            return "generated"
        return self._digest(self.classes_source)

    @property
    def annotations_stamp(self) -> str:
        """Digest of the instance annotations that label maps are painted from."""
        return self._digest(*self.format.step_reads(self.dataset))

    @property
    def images_stamp(self) -> str:
        """Digest of all images, whose sizes painted label maps have."""
        return combine(map(self.files_stamp, self.shards))

    def files_stamp(self, shard: str) -> str:
        """Return a digest of the images and labels of a shard, of their names and contents."""
        if shard not in self._files_stamps:
            shards = self.shards if self._planning else [shard]
            files = [file for shard in shards for file in self._sources(self.entries(shard))]
            contents = iter(self._digests.of(files))
            for name in shards:
                entries = self.entries(name)
                own = islice(contents, len(self._sources(entries)))
                self._files_stamps[name] = fingerprint(entries, own)
        return self._files_stamps[shard]

    def _sources(self, entries: list[Entry]) -> list[str]:
        """Return the files of images that the workflow does not make itself."""
        return [place for entry in entries for place in self.format.sources(entry)]

    def _digest(self, *files: Path) -> str:
        """Return a digest of the contents of files."""
        return combine(self._digests.of(files))

    def all_entries(self) -> list[Entry]:
        """Return all images of the dataset, in the order of their ids."""
        return self._entries

    def entries(self, shard: str) -> list[Entry]:
        """Return the images of a shard."""
        return self._split[number_of(shard)]

    def features_folder(self, run: str) -> str:
        """Return the folder of the feature stores of a run."""
        return f"{self.dataset_folder}/features/{features_id(self.configs[run])}"

    def crops_folder(self, run: str) -> str:
        """Return the folder of the tokens that a run is trained on."""
        return f"{self.dataset_folder}/crops/{crops_id(self.configs[run])}"

    def clusterbook_crops_folder(self, run: str) -> str:
        """Return the folder of the tokens that the clusterbook of a run is trained on."""
        return f"{self.dataset_folder}/crops/{clusterbook_crops_id(self.configs[run])}"

    def crop_size(self, crops: str) -> int:
        """Return the side, in pixels, at which the training crops of this name are seen."""
        config = self.configs[self._runs["crops"][crops]]
        of_head = crops == crops_id(config)
        return training_size(config.cause.head, config.cause.size) if of_head else config.cause.size

    def views_folder(self, run: str) -> str:
        """Return the folder of the tokens that a trained run segments by."""
        return f"{self.dataset_folder}/views/{views_id(self.configs[run])}"

    def clusterbooks_folder(self, run: str) -> str:
        """Return the folder of the clusterbooks of a trained run, one of each seed."""
        return f"{self.dataset_folder}/clusterbooks/{clusterbook_id(self.configs[run])}"

    def heads_folder(self, run: str) -> str:
        """Return the folder of the heads of a trained run, one of each seed."""
        return f"{self.dataset_folder}/heads/{head_id(self.configs[run])}"

    def features_names(self, run: str) -> list[str]:
        """Return the names of what a run computes with its backbone, and may share with others."""
        config = self.configs[run]
        if self.kind(run) in CAUSE:
            crops = _crops_ids(config) if self.kind(run) in TRAINED else []
            return [*crops, views_id(config)]
        return [features_id(config)]

    def shared_names(self, run: str) -> list[str]:
        """Return the names of all that a run may share with others, weights excepted."""
        config, trained = self.configs[run], self.kind(run) in TRAINED
        trainings = [clusterbook_id(config), head_id(config)] if trained else []
        return self.features_names(run) + trainings

    def weights_file(self, run: str) -> str:
        """Return the verified weights of a run."""
        return f"{self.weights_folder}/{weights_id(self.configs[run].backbone)}.safetensors"

    @property
    def all_weights(self) -> list[Path]:
        """Return the weights of all runs, and their records: other datasets may share them."""
        files = sorted({Path(self.weights_file(run)) for run in self.configs})
        return [path for file in files for path in (file, file.with_suffix(".json"))]

    @cached_property
    def _runs(self) -> dict[str, dict[str, str]]:
        """For each wildcard that names files, what it may be, and a run to which they belong."""
        names: dict[str, tuple[Callable[[Config], list[str]], tuple[Kind, ...]]] = {
            "features": (lambda config: [features_id(config)], WITHOUT_TRAINING),
            "crops": (_crops_ids, TRAINED),
            "views": (lambda config: [views_id(config)], CAUSE),
            "clusterbook": (lambda config: [clusterbook_id(config)], TRAINED),
            "head": (lambda config: [head_id(config)], TRAINED),
            "weights": (lambda config: [weights_id(config.backbone)], KINDS),
        }
        shared = {
            wildcard: {
                name: run for run in self.runs_of(*kinds) for name in names_of(self.configs[run])
            }
            for wildcard, (names_of, kinds) in names.items()
        }
        return {"run": {run: run for run in self.configs}, **shared}

    def is_chosen(self, features: str) -> bool:
        """Tell whether the facet or the layer of these features is chosen by a step."""
        return self.configs[self._runs["features"][features]].features.automatic

    def scores_images(self, run: str) -> bool:
        """Tell whether a run is also scored image by image."""
        return self.labelled and PER_IMAGE in self.configs[run].evaluation.protocols

    def shows_parts(self, run: str) -> bool:
        """Tell whether the parts of objects are to be found in a run."""
        return self.kind(run) in OURS and self.configs[run].report.parts > 0

    @property
    def compared(self) -> bool:
        """Whether there is something to compare: several runs, or one and published figures."""
        published = next(iter(self.configs.values())).comparison.published != "none"
        return self.labelled and (len(self.configs) > 1 or published)

    @property
    def paged(self) -> bool:
        """Whether there is a page of the dataset: where more is to be seen than one run."""
        return self.compared or len(self.configs) > 1

    def weights_stamp(self, weights: str) -> str:
        """Return a digest of a local weights file; the source's name for other weights."""
        backbone = self.configs[self._runs["weights"][weights]].backbone
        file = local_weights(backbone)
        return self._digest(file) if file else weights_source(backbone)

    def kind(self, run: str) -> Kind:
        """Return what a run does."""
        config = self.configs[run]
        if config.fit.model is None:
            return config.method
        return "applied" if config.method == "lightcluster" else "cause-applied"

    def model_stamp(self, run: str) -> str:
        """Return a digest of all files of the model that a run applies."""
        folder = self.configs[run].fit.model
        if folder is None:
            return "none"
        from lightcluster.model.folder import files_of  # numpy with it, where it is needed

        return self._digest(*files_of(folder))

    def probe_stamp(self, run: str, seed: str) -> str:
        """Return a digest of the probe of a seed that a run applies, and of its clusters' names."""
        folder = self.configs[run].fit.model
        if folder is None:
            return "none"
        from lightcluster.cause.adoption import PALETTE, probe_of

        probe = probe_of(folder, int(seed))
        return self._digest(probe, probe.with_name(PALETTE))

    def fitted_on(self, run: str) -> str:
        """Return in words on which images a run is fitted."""
        from lightcluster.cause.adoption import (
            WITH_LABELS,
            WITHOUT_LABELS,
            probe_of,
            read_trained,
        )

        config = self.configs[run]
        if config.fit.model is not None and config.method == "cause":
            return read_trained(probe_of(config.fit.model, config.labelling.seeds[0])).fitted_on
        if config.fit.model is not None:
            from lightcluster.model.folder import read_model

            return f"{read_model(config.fit.model).images}, {WITHOUT_LABELS}"
        labels = WITH_LABELS if self.learns_from_labels(run) else WITHOUT_LABELS
        return f"{with_split('the evaluated images', self.dataset.split)}, {labels}"

    @property
    def images_in_words(self) -> str:
        """The images of this dataset, as another run that applies what it fitted names them."""
        return with_split(self.dataset.name, self.dataset.split)

    def learns_from_labels(self, run: str) -> bool:
        """Tell whether labels change what a run is evaluated by; see `cause.linear_probe`."""
        config = self.configs[run]
        return self.kind(run) in TRAINED and config.cause.linear_probe == "as_released"

    def runs_of(self, *kinds: Kind) -> list[str]:
        """Return the runs of some kinds."""
        return [run for run in self.configs if self.kind(run) in kinds]

    def run_of(self, wildcards: Any) -> str:
        """Return a run to which the files of a job belong, which it may share with others.

        Parameters
        ----------
        wildcards : object
            With the attribute ``run``, ``features``, ``crops``, ``views``, ``clusterbook``,
            ``head`` or ``weights``, or none of them: the files of the dataset, which belong to all.
        """
        return self._run_and_wildcard(wildcards)[0]

    def _run_and_wildcard(self, wildcards: Any) -> tuple[str, str]:
        for wildcard, runs in self._runs.items():
            if hasattr(wildcards, wildcard):
                return runs[getattr(wildcards, wildcard)], wildcard
        return next(iter(self.configs)), ""

    def settings(self, step: str, wildcards: Any) -> str:
        """Return what a job of `step` reads of the configuration, as JSON; see `run_of`.

        Whichever of the runs that share a file it is made for, it is the same.
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
            Steps without a job are left out. The list depends on what runs there are, and not on
            their order, but for the order of the jobs.
        """
        return {
            name: jobs
            for name, step in STEPS.items()
            if self._takes_part(name) and (jobs := self._jobs_of(name, step))
        }

    def places(self) -> list[Path]:
        """Return the files and folders in which results of this configuration are."""
        folder = Path(self.dataset_folder)
        return [folder / name for name in (*OF_ALL_RUNS, *SHARED, *self.configs)]

    def is_result(self, path: Path, match: Mapping[str, str] | None) -> bool:
        """Tell whether the workflow has made a file, and for this configuration or its runs.

        Parameters
        ----------
        path : Path
            Below one of `places`.
        match : mapping of str to str, optional
            The wildcards with which a rule would make it, if there is such a rule.
        """
        if path.relative_to(self.dataset_folder).parts[0] not in SHARED:
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
            "generate_demo": self.drawn,
            "paint_labels": self.painted,
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
        """Return the wildcards of the jobs of a step that the dataset has."""
        asked = {"discover_parts": self.shows_parts, "score_images": self.scores_images}
        runs = [run for run in self.runs_of(*step.kinds) if name not in asked or asked[name](run)]
        of_runs = [{"run": run} for run in runs]
        seeds = [
            {"run": run, "seed": str(seed)}
            for run in runs
            for seed in self.configs[run].labelling.seeds
        ]

        def shared(wildcard: str) -> list[dict[str, str]]:
            return [{wildcard: name} for name in self._runs[wildcard]]

        def trained(wildcard: str, id_of: Callable[[Config], str]) -> list[dict[str, str]]:
            pairs = dict.fromkeys((id_of(self.configs[of["run"]]), of["seed"]) for of in seeds)
            return [{wildcard: name, "seed": seed} for name, seed in pairs]

        jobs: dict[Unit, list[dict[str, str]]] = {
            "dataset": [{}],
            "dataset shard": [{}],
            "weights": shared("weights"),
            "features": [of for of in shared("features") if self.is_chosen(of["features"])],
            "features shard": shared("features"),
            "crops shard": shared("crops"),
            "views shard": shared("views"),
            "clusterbook and seed": trained("clusterbook", clusterbook_id),
            "head and seed": trained("head", head_id),
            "run": of_runs,
            "shard": of_runs,
            "seed": seeds,
            "shard and seed": seeds,
            "all runs": [{}],
        }
        if "shard" not in step.unit:
            return jobs[step.unit]
        return [{**of, "shard": shard} for of in jobs[step.unit] for shard in self.shards]


def _crops_ids(config: Config) -> list[str]:
    """Return the names of the training crops of a run: of one size, or of two."""
    return list(dict.fromkeys([crops_id(config), clusterbook_crops_id(config)]))


def read_choice(path: Path) -> tuple[str, int]:
    """Return the facet and the layer that the step `choose_features` chose."""
    with path.open(newline="", encoding="utf-8") as file:
        best = next(csv.DictReader(file))
    return best["facet"], int(best["layer"])
