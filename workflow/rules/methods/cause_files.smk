# Files that the jobs of CAUSE need, by their wildcards.

from lightcluster.methods.cause.method import learns_from_labels
from lightcluster.methods.cause.sharing import clusterbook_crops_id, crop_size


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
