# CAUSE: crops and windows to tokens, once; then three stages of training, each with each seed. Runs
# that differ in the probe alone share clusterbook and head.

from lightcluster.methods.cause.method import learns_from_labels
from lightcluster.methods.cause.sharing import clusterbook_crops_id, crop_size

TRAINING = f"{RUN}/cause/seed-{{seed}}"


def crops_of(wildcards):
    """Return the tokens of the training crops of all shards."""
    folder = LAYOUT.shared_folder(LAYOUT.run_of(wildcards), "crops")
    return expand(f"{folder}/{{shard}}.zarr", shard=SHARDS)


def clusterbook_crops_of(wildcards):
    """Return the tokens that the clusterbook is trained on, of all shards."""
    crops = clusterbook_crops_id(CONFIGS[LAYOUT.run_of(wildcards)])
    folder = f"{DATASET}/crops/{crops}"
    return expand(f"{folder}/{{shard}}.zarr", shard=SHARDS)


def views_of(wildcards):
    """Return the tokens of the windows of a shard."""
    folder = LAYOUT.shared_folder(wildcards.run, "views")
    return f"{folder}/{wildcards.shard}.zarr"


def clusterbook_of(wildcards):
    """Return the clusterbook that a head is trained with."""
    folder = LAYOUT.shared_folder(LAYOUT.run_of(wildcards), "clusterbook")
    return f"{folder}/seed-{wildcards.seed}.safetensors"


def head_of(wildcards):
    """Return the head that a probe is trained on."""
    folder = LAYOUT.shared_folder(wildcards.run, "head")
    return f"{folder}/seed-{wildcards.seed}.safetensors"


def training_files(wildcards):
    """Return the losses of what a run is trained by, and what else is drawn, for each seed."""
    clusterbooks, heads = (
        LAYOUT.shared_folder(wildcards.run, name) for name in ("clusterbook", "head")
    )
    return each_seed(
        [
            f"{clusterbooks}/seed-{{seed}}.csv",
            f"{clusterbooks}/seed-{{seed}}.safetensors",
            f"{heads}/seed-{{seed}}.csv",
            f"{RUN}/cause/seed-{{seed}}/probe.csv",
            f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
        ]
    )(wildcards)


def has_labels_of_head(wildcards):
    """Tell whether labels have a part in the training of a head."""
    return learns_from_labels(CONFIGS[LAYOUT.run_of(wildcards)])


def manifests_of_head(wildcards):
    """Return the manifests of all shards, where a head is trained on their labels, too."""
    return manifests_if(has_labels_of_head(wildcards))


def classes_of_head(wildcards):
    """Return the classes of these labels."""
    return CLASSES if has_labels_of_head(wildcards) else []


def labels_of_head(wildcards):
    """Return the folder of these labels, where a step makes it."""
    return LAYOUT.labels_input if has_labels_of_head(wildcards) else []


def is_supervised(wildcards):
    """Tell whether a probe is trained on labels, too."""
    return CONFIGS[wildcards.run].cause.linear_probe != "none"


def manifests_of_probe(wildcards):
    """Return the manifests of all shards, where a probe is trained on their labels."""
    return manifests_if(is_supervised(wildcards))


def labels_of_probe(wildcards):
    """Return the folder of the labels that a probe is trained on, where a step makes it."""
    return LAYOUT.labels_input if is_supervised(wildcards) else []


use rule cache_crops from step with:
    input:
        weights_record_of,
        LAYOUT.demo_input,
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        weights=weights_of,
    output:
        directory(f"{DATASET}/crops/{{crops}}/{{shard}}.zarr"),
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 480 * attempt,
        gpu=1,
        device="auto",
        batch_size=8,
    params:
        options=options(
            size=lambda wildcards: crop_size(
                CONFIGS[LAYOUT.run_of(wildcards)], wildcards.crops
            )
        ),


use rule cache_views from step with:
    input:
        weights_record_of,
        LAYOUT.demo_input,
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        weights=weights_of,
    output:
        directory(f"{DATASET}/views/{{views}}/{{shard}}.zarr"),
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=1,
        device="auto",
        batch_size=8,


use rule fit_clusterbook from step with:
    input:
        f"{DATASET}/manifest.csv",  # fails if no image can be used
        crops=clusterbook_crops_of,
    output:
        f"{DATASET}/clusterbooks/{{clusterbook}}/seed-{{seed}}.safetensors",
        losses=f"{DATASET}/clusterbooks/{{clusterbook}}/seed-{{seed}}.csv",
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
        gpu=1,
        device="auto",


use rule train_head from step with:
    input:
        labels_of_head,
        crops=crops_of,
        clusterbook=clusterbook_of,
        manifests=manifests_of_head,
        classes=classes_of_head,
    output:
        f"{DATASET}/heads/{{head}}/seed-{{seed}}.safetensors",
        losses=f"{DATASET}/heads/{{head}}/seed-{{seed}}.csv",
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 2880 * attempt,
        gpu=1,
        device="auto",


use rule fit_probe from step with:
    input:
        labels_of_probe,
        crops=crops_of,
        head=head_of,
        manifests=manifests_of_probe,
        classes=CLASSES,
    output:
        f"{TRAINING}/probe.safetensors",
        f"{TRAINING}/classes.csv",
        losses=f"{TRAINING}/probe.csv",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
        gpu=1,
        device="auto",
    params:
        options=options(images=LAYOUT.images_in_words),


use rule adopt_probe from step with:
    input:
        weights_record_of,
        weights=weights_of,
    output:
        f"{TRAINING}/probe.safetensors",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    localrule: True
    resources:
        mem_mb=500,
        runtime=10,
    params:
        content=lambda wildcards: LAYOUT.fit_stamp(wildcards.run, wildcards.seed),


use rule paint_probe from step with:
    input:
        LAYOUT.demo_input,
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        views=views_of,
        probe=f"{TRAINING}/probe.safetensors",
    output:
        directory(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,


use rule plot_training from step with:
    input:
        training_files,
    output:
        report(
            f"{RUN}/training.png",
            caption="../report/analysis.rst",
            category="Analysis",
            subcategory="{run}",
            labels={"figure": "training"},
        ),
    localrule: True
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=options(
            run_folder=RUN,
            clusterbooks=lambda wildcards: LAYOUT.shared_folder(
                wildcards.run, "clusterbook"
            ),
            heads=lambda wildcards: LAYOUT.shared_folder(wildcards.run, "head"),
        ),
