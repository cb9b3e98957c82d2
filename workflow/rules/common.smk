import os

from snakemake.io import apply_wildcards
from snakemake.logging import logger

from lightcluster import forkserver
from lightcluster.commission import VARIABLE
from lightcluster.aside import find_strays, set_aside
from lightcluster.config import parse_config
from lightcluster.configfiles import as_written, check_arguments
from lightcluster.datasets.others import digest_others
from lightcluster.errors import LightClusterError
from lightcluster.ending import summary, unfinished
from lightcluster.layout import RESULTS, Layout, prepare_environment
from lightcluster.measuring import measure_forked_steps
from lightcluster.methods.registry import METHODS, SHARED
from lightcluster.places import WEIGHTS, no_folder
from lightcluster.records import keep_beside_results
from lightcluster.rules import StepRule, any_of
from lightcluster.rules import options as command_options
from lightcluster.runlock import Notes, RunLock
from lightcluster.steps import STEPS

prepare_environment(WORKFLOW)


def stop(message):
    """End Snakemake with this message alone: it would say of an exception where it was raised."""
    logger.error(message)
    raise SystemExit(1)


GIVEN = workflow.overwrite_configfiles  # which are put over the workflow's own
CONFIGFILES = [Path(file) for file in workflow.configfiles if file not in GIVEN]
if workflow.config_settings.replace_workflow_config:
    CONFIGFILES = []

try:
    if workflow.is_main_process:
        check_arguments(sys.argv)
    LAYOUT = Layout(
        parse_config(as_written(config, [*CONFIGFILES, *GIVEN])),
        planning=workflow.is_main_process,
        working=not workflow.is_main_process,
    )
except LightClusterError as error:
    stop(str(error))

CONFIGS = LAYOUT.configs
SHARDS = LAYOUT.shards
DATASET = LAYOUT.dataset_folder
LABELLED = LAYOUT.labelled
CLASSES = [f"{DATASET}/classes.csv"] if LAYOUT.has_classes else []
RUN = f"{DATASET}/{{run}}"
MASKS = f"{RUN}/masks"
LOCK = RunLock(Path(DATASET))
NOTES = Notes(Path(".snakemake"))

if workflow.is_main_process:
    os.environ.pop(VARIABLE, None)
    for folder in (LOCK.folder, Path(RESULTS, WEIGHTS)):
        if in_the_way := no_folder(folder):
            stop(in_the_way)
    if obstacle := LOCK.obstacle():
        logger.warning(obstacle)
    NOTES.begin(Path(RESULTS))
    for made_elsewhere in NOTES.share(LAYOUT.all_weights, Path(RESULTS)):
        logger.warning(made_elsewhere)


# Rules are called like their steps, unless whoever uses this as a module has renamed them.
name_of_rule = workflow.modifier.modify_rulename


# The rules of all steps, of which each is used with inputs, outputs and resources of its own. A module
# sees nothing of this file but its configuration.
module step:
    snakefile:
        workflow.current_basedir.join("step.smk")  # also for rules in folders below
    config:
        {
            "steps": [StepRule(name, LAYOUT) for name in STEPS],
            "runs": any_of(CONFIGS),
            "shared": {wildcard: r"[^/]+" for wildcard in SHARED},
        }


def options(**given):
    """Return a params function: options of a step that are none of its files.

    A text is a pattern with wildcards; a function is called with them.
    """

    def value_of(value, wildcards):
        if callable(value):
            return value(wildcards)
        return apply_wildcards(value, wildcards) if isinstance(value, str) else value

    return lambda wildcards: command_options(
        {name: value_of(value, wildcards) for name, value in given.items()}
    )


def store_of(wildcards):
    """Return the feature store of a shard, shared by all runs of the same features."""
    return f"{LAYOUT.features_folder(wildcards.run)}/{wildcards.shard}.zarr"


def stores_of(wildcards):
    """Return the feature stores of all shards."""
    return expand(
        f"{LAYOUT.features_folder(wildcards.run)}/{{shard}}.zarr", shard=SHARDS
    )


def manifests_if(asked):
    """Return the manifests of all shards, if they are asked for."""
    return expand(f"{DATASET}/manifest/{{shard}}.csv", shard=SHARDS if asked else [])


def choice_of(wildcards):
    """Return the table that names the facet and the layer, where they are chosen."""
    chosen = LAYOUT.is_chosen(wildcards.features)
    return [f"{DATASET}/features/{wildcards.features}/choice.csv"] * chosen


def choice_of_run(wildcards):
    """Return the table that names the facet and the layer of a run, where they are chosen."""
    chosen = CONFIGS[wildcards.run].features.automatic
    return [f"{LAYOUT.features_folder(wildcards.run)}/choice.csv"] * chosen


def weights_of(wildcards):
    """Return the backbone weights of a run, or of features that runs share."""
    return LAYOUT.weights_file(LAYOUT.run_of(wildcards))


def weights_record_of(wildcards):
    """Return the file beside those weights that says what they are."""
    return str(Path(weights_of(wildcards)).with_suffix(".json"))


def first_seed(pattern, *, masks=False):
    """Return an input function: `pattern` of all shards for the first labelling seed of the run.

    With `masks`, for runs that have masks alone.
    """
    return lambda wildcards: expand(
        pattern if LAYOUT.has_masks(wildcards.run) or not masks else [],
        run=wildcards.run,
        seed=CONFIGS[wildcards.run].labelling.seeds[0],
        shard=SHARDS,
    )


def of_first_seed(pattern, *, masks=False):
    """Return an input function: `pattern` of a run, or of a shard, for its first labelling seed.

    With `masks`, for runs that have masks alone.
    """

    def files(wildcards):
        seed = CONFIGS[wildcards.run].labelling.seeds[0]
        wanted = LAYOUT.has_masks(wildcards.run) or not masks
        return [apply_wildcards(pattern, {**wildcards, "seed": seed})] * wanted

    return files


def first_segmentation(run):
    """Return the folder of the segmentation of a run with its first labelling seed."""
    seed = CONFIGS[run].labelling.seeds[0]
    return f"{DATASET}/{run}/segmentation/seed-{seed}"


def each_seed(pattern):
    """Return an input function: `pattern` for each labelling seed, other wildcards kept."""
    return lambda wildcards: expand(
        pattern,
        seed=CONFIGS[wildcards.run].labelling.seeds,
        **wildcards,
    )


def segmentations_if_named(wildcards):
    """Return the segmentations of a run whose clusters have names, which are looked up there."""
    return expand(
        f"{RUN}/segmentation/seed-{{seed}}/{{shard}}",
        run=wildcards.run,
        seed=(
            LAYOUT.painted_seeds(wildcards.run)
            if LAYOUT.names_files(wildcards.run)
            else []
        ),
        shard=SHARDS,
    )


def per_shard(pattern):
    """Return an input function: `pattern` for each shard, other wildcards kept."""
    return lambda wildcards: expand(pattern, shard=SHARDS, **wildcards)


def counts_of_all_runs():
    """Return the counts that the intervals of differences need, if there are several runs."""
    places = [
        f"{DATASET}/{run}/counts/{place}"
        for run in (CONFIGS if len(CONFIGS) > 1 else [])
        for place in [
            *["masks/{shard}.npz"] * LAYOUT.has_masks(run),
            "classes/{shard}",
        ]
    ]
    return expand(places, shard=SHARDS)


def if_masks(pattern):
    """Return an input function: `pattern` of all shards, for runs that have masks."""
    return lambda wildcards: expand(
        pattern if LAYOUT.has_masks(wildcards.run) else [],
        run=wildcards.run,
        shard=SHARDS,
    )


def per_image_of(wildcards):
    """Return the summary of the scores image by image, if the run has them."""
    wanted = LAYOUT.scores_images(wildcards.run)
    return [f"{DATASET}/{wildcards.run}/tables/per_image_summary.csv"] * wanted


def files_of_jobs(patterns_of):
    """Return the files of all jobs, by the patterns that a function finds in their rules."""
    return [
        # `str`, for the flags are those of the rule itself, not of whoever asks for the file.
        str(pattern.apply_wildcards(job))
        for step, jobs in LAYOUT.jobs().items()
        for pattern in patterns_of(workflow.get_rule(name_of_rule(step)))
        for job in jobs
    ]


def every_result(wildcards):
    """Return all files that all jobs leave: what is missing is made again."""
    return files_of_jobs(lambda rule: rule.output)


def all_patterns(rule):
    """Return the patterns of all that the jobs of a rule leave, logs and timings too."""
    return [*rule.output, *rule.log, *filter(None, [rule.benchmark])]


def take_lock():
    """Keep other runs out of the folder of results until this process ends; tell the steps."""
    try:
        os.environ.update(LOCK.acquire())
    except LightClusterError as error:
        raise WorkflowError(str(error)) from None
    NOTES.sign(LOCK)


def begin(records):
    """Take the lock, and set aside what no longer belongs among the results."""
    if not workflow.is_main_process:
        return
    take_lock()
    patterns = [pattern for rule in workflow.rules for pattern in all_patterns(rule)]

    def is_result(path):
        found = (pattern.match(str(path)) for pattern in patterns)
        match = next(filter(None, found), None)
        return LAYOUT.is_result(path, match and match.groupdict())

    expected = {*files_of_jobs(all_patterns), *records.planned()}
    strays = [
        *find_strays(LAYOUT.places(), expected, is_result),
        *(path for path in records.foreign() if path.is_relative_to(DATASET)),
    ]
    if strays:
        place = set_aside(strays, Path(DATASET), expected)
        more = f" and {len(strays) - 1} more" * (len(strays) > 1)
        logger.warning(
            f"{strays[0]}{more}: no longer among the results of this configuration; moved to {place}"
        )


keep_beside_results(begin)
measure_forked_steps()


def start_forkserver():
    """Let the steps that run on this machine be done by processes that have imported all."""
    if not workflow.local_exec:
        os.environ.pop(forkserver.VARIABLE, None)
    elif workflow.is_main_process and forkserver.VARIABLE not in os.environ:
        try:
            os.environ.update(forkserver.start()[0])
        except OSError as error:
            logger.info(f"Steps start Python anew, which takes longer: {error}")


def is_partial():
    """Whether a part of the steps was asked for, after which the scores may be of an earlier run."""
    return bool(workflow.dag_settings.until or workflow.dag_settings.omit_from)


def last_words(lines):
    """Print the lines that end a run, unless this is one of its jobs."""
    if workflow.is_main_process:
        for line in lines(LAYOUT):
            print(line)
