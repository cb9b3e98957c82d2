"""Derive the parts of a Snakemake rule that follow from the declaration of its step.

A rule states its inputs, outputs and resources. Its log, its runs, its settings and its command
line follow from the step: from its unit, its keys, and the parameters of its function, which have
the same names as the rule's inputs and outputs.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, get_args, get_origin

from lightcluster.layout import Layout
from lightcluster.step.arguments import FilesOfShards, OptionalFilesOfShards
from lightcluster.step.declaration import JOBS_OF, OF_A_RUN
from lightcluster.steps import STEPS


class StepRule:
    """The derived parts of the rule of a step.

    Parameters
    ----------
    name : str
        Name of the step.
    layout : Layout
    """

    def __init__(self, name: str, layout: Layout) -> None:
        self.name, self._layout, self._step = name, layout, STEPS[name]

    @property
    def log(self) -> str:
        """Path of the log of a job."""
        return f"{self._beside('logs')}.log"

    @property
    def benchmark(self) -> str:
        """Path of the file with the time and memory of a job."""
        return f"{self._beside('benchmarks')}.tsv"

    def _beside(self, kind: str) -> str:
        unit, layout = self._step.unit, self._layout
        if unit == "weights":  # which all datasets share; nothing else is in their folder
            return f"{layout.weights_folder}/{kind}{JOBS_OF[unit]}"
        folder = f"{layout.dataset_folder}/{{run}}" if unit in OF_A_RUN else layout.dataset_folder
        return f"{folder}/{kind}/{self.name}{JOBS_OF[unit]}"

    @property
    def runs(self) -> str:
        """A regular expression for the runs that have it."""
        return any_of(self._layout.runs_of(*self._step.kinds))

    @property
    def environment(self) -> str:
        """The file of its conda environment, in ``envs/``: with CUDA, if it knows devices."""
        return "gpu.yaml" if "device" in self._parameters else "cpu.yaml"

    @property
    def shards(self) -> int | None:
        """The number of shards, for a step that depends on it."""
        return len(self._layout.shards) if "shards" in self._parameters else None

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        assert self._step.function is not None  # set when it was declared
        return inspect.signature(self._step.function, eval_str=True).parameters

    def settings(self, wildcards: Any) -> str:
        """Return what a job reads of the configuration, as JSON: if it changes, the job reruns."""
        return self._layout.settings(self.name, wildcards)

    def command(self, wildcards: Any, input: Any, output: Any, threads: int, resources: Any) -> str:
        """Return the command of a job and its options, quoted for a shell.

        Each parameter of the step's function is the input, the output, the wildcard or the resource
        of its name. ``output`` is what has no name of its own, and a file that may be missing is
        left out where there is none.

        Raises
        ------
        ValueError
            If an input or output has the name of no parameter, and so would not be handed over.
        """
        named = {**dict(input.items()), **dict(output.items())}
        if unknown := named.keys() - self._parameters.keys():
            raise ValueError(
                f"the rule {self.name} names {', '.join(sorted(unknown))}, which the function of "
                "the step does not know: files that it is not given go without a name"
            )
        unnamed = [file for file in output if file not in _flat(dict(output.items()).values())]
        known = {
            "output": unnamed,
            "shards": self.shards,
            "threads": threads,
            **{name: resources.get(name) for name in ("device", "batch_size")},
            **dict(wildcards.items()),
            **named,
        }
        words = [self.name.replace("_", "-")]
        if "settings" in self._parameters:
            words.append(self.settings(wildcards))
        for name, parameter in self._parameters.items():
            words += _words(name, _given(parameter, known.get(name)))
        return shlex.join(words)


def any_of(runs: Iterable[str]) -> str:
    """Return a regular expression for the names of runs, which may be none."""
    return "|".join(name.replace(".", r"\.") for name in runs) or "(?!)"


def options(given: Mapping[str, Any]) -> str:
    """Return options of a command, quoted for a shell; see `StepRule.command`.

    Parameters
    ----------
    given : mapping of str to Any
        By the name of the parameter: a value, a list of them, or None for no such option.
    """
    return shlex.join(word for name, value in given.items() for word in _words(name, value))


def _given(parameter: inspect.Parameter, value: Any) -> Any:
    """Return what an option is given: of the files of all shards, their folder."""
    if value is None or isinstance(value, str | int):
        return value
    if parameter.annotation in (FilesOfShards, OptionalFilesOfShards):
        return value[0].rpartition("/")[0] if value else None
    return value if _is_list(parameter) else (value[0] if value else None)


def _is_list(parameter: inspect.Parameter) -> bool:
    annotation = get_args(parameter.annotation)[0]
    return any(get_origin(part) is list for part in (annotation, *get_args(annotation)))


def _words(name: str, value: Any) -> Iterator[str]:
    values = value if isinstance(value, list | tuple) else [value]
    for item in values:
        if item is not None:
            yield from (f"--{name.replace('_', '-')}", str(item))


def _flat(values: Iterable[Any]) -> set[str]:
    return {file for value in values for file in ([value] if isinstance(value, str) else value)}
