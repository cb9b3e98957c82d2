# CAUSE: crops and windows to tokens, once; then three stages of training, each with each seed. Runs
# that differ in the probe alone share clusterbook and head.


include: "cause_files.smk"


TRAINING = f"{RUN}/cause/seed-{{seed}}"


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
