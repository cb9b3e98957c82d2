"""What follows for the rule of a step from its declaration."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from snakemake.iocontainers import InputFiles, OutputFiles, Wildcards

from lightcluster.config import parse_config
from lightcluster.layout import Layout
from lightcluster.rules import StepRule, any_of, options
from lightcluster.steps import STEPS

LAYOUT = Layout(
    parse_config(
        {
            "dataset": {"demo": {"scenes": 12}, "shard_size": 8},
            "runs": {"mine": {}, "mine.too": {}, "base": {"method": "kmeans"}},
        }
    )
)


def files(kind, *unnamed: str, **named: str | list[str]):
    """Return files as Snakemake hands them to a function: those with a name, and the others."""
    found = kind(list(unnamed))
    for name, value in named.items():
        start = len(found)
        found.extend([value] if isinstance(value, str) else value)
        found._set_name(name, start, None if isinstance(value, str) else len(found))
    return found


def words_of(step: str, input, output, threads: int = 1, **known) -> list[str]:
    """Return the command of a job as a program sees it, without its settings."""
    resources = {name: known.pop(name) for name in ("device", "batch_size") if name in known}
    wildcards = Wildcards(fromdict={"run": "mine", **known})
    rule = StepRule(step, LAYOUT)
    command = shlex.split(rule.command(wildcards, input, output, threads, resources))
    if command[1:2] == [rule.settings(wildcards)]:
        assert json.loads(command.pop(1))["version"] == STEPS[step].version
    return command


@pytest.mark.parametrize(
    ("step", "log"),
    [
        ("generate_demo", "results/demo/logs/generate_demo.log"),
        ("index_dataset", "results/demo/logs/index_dataset/{shard}.log"),
        ("fetch_weights", "results/weights/logs/{weights}.log"),
        ("extract_features", "results/demo/logs/extract_features/{features}/{shard}.log"),
        ("train_head", "results/demo/logs/train_head/{head}/seed-{seed}.log"),
        ("cluster_dataset", "results/demo/{run}/logs/cluster_dataset.log"),
        (
            "paint_segmentation",
            "results/demo/{run}/logs/paint_segmentation/seed-{seed}/{shard}.log",
        ),
        ("compare", "results/demo/logs/compare.log"),
    ],
)
def test_each_job_has_a_log_and_a_timing_of_its_own(step, log):
    rule = StepRule(step, LAYOUT)
    assert rule.log == log
    assert rule.benchmark == log.replace("/logs/", "/benchmarks/").replace(".log", ".tsv")


def test_the_name_of_a_log_has_the_wildcards_of_the_jobs():
    for step, jobs in LAYOUT.jobs().items():
        assert set(re.findall(r"{(\w+)}", StepRule(step, LAYOUT).log)) == set(jobs[0])


def test_a_step_is_of_the_runs_of_its_kind():
    assert re.fullmatch(StepRule("fit_clusters", LAYOUT).runs, "base")
    ours = StepRule("merge_levels", LAYOUT).runs
    assert [bool(re.fullmatch(ours, run)) for run in ("mine", "mine.too", "mine-too", "base")] == [
        True, True, False, False
    ]  # fmt: skip
    assert not re.search(any_of([]), "")


def test_steps_that_know_devices_run_where_cuda_is():
    cuda = {step for step in STEPS if StepRule(step, LAYOUT).environment == "gpu.yaml"}
    assert cuda >= {"extract_features", "embed_regions", "train_head"}
    assert not cuda & {"refine_masks", "report", "fetch_weights"}


def test_a_parameter_is_the_input_or_the_output_of_its_name():
    command = words_of(
        "score_patches",
        files(InputFiles, store="a.zarr", merged="b.npz", trees="c.npz"),
        files(OutputFiles, "d.npz"),
        shard="0001",
    )
    assert command == [
        "score-patches", "--store", "a.zarr", "--merged", "b.npz", "--trees", "c.npz",
        "--output", "d.npz",
    ]  # fmt: skip


def test_wildcards_threads_resources_and_the_number_of_shards_are_handed_over():
    command = words_of(
        "fit_clusterbook",
        files(InputFiles, "manifest.csv", crops=["crops/x/0000.zarr", "crops/x/0001.zarr"]),
        files(OutputFiles, "codes.safetensors", losses="codes.csv"),
        threads=3, seed="7", clusterbook="x", device="cuda", batch_size=5,
    )  # fmt: skip
    assert command == [
        "fit-clusterbook", "--shards", "2", "--seed", "7", "--crops", "crops/x",
        "--output", "codes.safetensors", "--losses", "codes.csv", "--device", "cuda",
        "--threads", "3",
    ]  # fmt: skip


def test_several_files_are_named_one_by_one_and_may_be_none():
    outputs = files(OutputFiles, "report")
    some = words_of("report", files(InputFiles, figures=["a.png", "b.png"]), outputs)
    assert some[-6:] == ["--output", "report", "--figures", "a.png", "--figures", "b.png"]
    assert "--figures" not in words_of("report", files(InputFiles, figures=[]), outputs)


def test_of_one_shard_the_folder_is_named_too_and_what_is_not_there_is_left_out():
    command = words_of(
        "label_regions",
        files(InputFiles, regions=["regions/0000.npz"], classes=[]),
        files(OutputFiles, "seed-0.npz", palette="classes.csv"),
        seed="0",
    )
    assert command[command.index("--regions") + 1] == "regions"
    assert "--classes" not in command


def test_only_a_step_that_takes_several_outputs_is_given_all():
    outputs = ("dataset.npz", "category.npz")
    several = words_of("adopt_fit", files(InputFiles, weights="w"), files(OutputFiles, *outputs))
    assert several == [
        "adopt-fit", "--weights", "w", "--output", "dataset.npz", "--output", "category.npz"
    ]  # fmt: skip
    one = words_of("fetch_weights", files(InputFiles), files(OutputFiles, *outputs), weights="w")
    assert one == ["fetch-weights", "--output", "dataset.npz"]


@pytest.mark.parametrize("kind", [InputFiles, OutputFiles])
def test_a_file_whose_name_the_step_does_not_know_is_a_mistake(kind):
    given = {InputFiles: files(InputFiles), OutputFiles: files(OutputFiles, "a")}
    given[kind] = files(kind, stores="b.zarr")
    with pytest.raises(ValueError, match="the rule merge_levels names stores"):
        words_of("merge_levels", given[InputFiles], given[OutputFiles], shard="0000")


def test_options_are_quoted_for_a_shell():
    given = {
        "fitted_on": "it's; rm -rf *", "run": ["a", "b"], "source": None, "size": 3, "table": [],
    }  # fmt: skip
    assert shlex.split(options(given)) == [
        "--fitted-on", "it's; rm -rf *", "--run", "a", "--run", "b", "--size", "3"
    ]  # fmt: skip


def test_the_number_of_shards_reruns_those_steps_alone_whose_result_depends_on_it():
    assert StepRule("sample_features", LAYOUT).shards == 2
    assert StepRule("score_patches", LAYOUT).shards is None
