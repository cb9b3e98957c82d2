# CAUSE: crops and windows to tokens, once; then three stages of training, each with each seed. Runs
# that differ in the probe alone share clusterbook and head.

TRAINING = f"{RUN}/cause/seed-{{seed}}"


rule cache_crops:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        weights=weights_of,
        record=weights_record_of,
        images=LAYOUT.demo_input,
    output:
        directory(f"{DATASET}/crops/{{crops}}/{{shard}}.zarr"),
    log:
        f"{DATASET}/logs/cache_crops/{{crops}}/{{shard}}.log",
    benchmark:
        f"{DATASET}/benchmarks/cache_crops/{{crops}}/{{shard}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 480 * attempt,
        gpu=1,
        device="auto",
        batch_size=8,
    params:
        settings=settings("cache_crops"),
        size=lambda wildcards: LAYOUT.crop_size(wildcards.crops),
    shell:
        "python -m lightcluster.step cache-crops {params.settings:q} --manifest {input.manifest} "
        "--weights {input.weights} --output {output} --size {params.size} "
        "--device {resources.device} --batch-size {resources.batch_size} --threads {threads} "
        "> {log} 2>&1"


rule cache_views:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        weights=weights_of,
        record=weights_record_of,
        images=LAYOUT.demo_input,
    output:
        directory(f"{DATASET}/views/{{views}}/{{shard}}.zarr"),
    log:
        f"{DATASET}/logs/cache_views/{{views}}/{{shard}}.log",
    benchmark:
        f"{DATASET}/benchmarks/cache_views/{{views}}/{{shard}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=1,
        device="auto",
        batch_size=8,
    params:
        settings=settings("cache_views"),
    shell:
        "python -m lightcluster.step cache-views {params.settings:q} --manifest {input.manifest} "
        "--weights {input.weights} --output {output} --device {resources.device} "
        "--batch-size {resources.batch_size} --threads {threads} > {log} 2>&1"


rule fit_clusterbook:
    input:
        clusterbook_crops_of,
        f"{DATASET}/manifest.csv",  # fails if no image can be used
    output:
        codes=f"{DATASET}/clusterbooks/{{clusterbook}}/seed-{{seed}}.safetensors",
        losses=f"{DATASET}/clusterbooks/{{clusterbook}}/seed-{{seed}}.csv",
    log:
        f"{DATASET}/logs/fit_clusterbook/{{clusterbook}}/seed-{{seed}}.log",
    benchmark:
        f"{DATASET}/benchmarks/fit_clusterbook/{{clusterbook}}/seed-{{seed}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
        gpu=1,
        device="auto",
    params:
        settings=settings("fit_clusterbook"),
        shards=len(SHARDS),
        crops=clusterbook_crops_folder,
    shell:
        "python -m lightcluster.step fit-clusterbook {params.settings:q} {params.shards} "
        "--seed {wildcards.seed} --crops {params.crops} --output {output.codes} "
        "--losses {output.losses} --device {resources.device} --threads {threads} > {log} 2>&1"


rule train_head:
    input:
        crops_of,
        labels=labels_of_head,
        codes=clusterbook_of,
    output:
        head=f"{DATASET}/heads/{{head}}/seed-{{seed}}.safetensors",
        losses=f"{DATASET}/heads/{{head}}/seed-{{seed}}.csv",
    log:
        f"{DATASET}/logs/train_head/{{head}}/seed-{{seed}}.log",
    benchmark:
        f"{DATASET}/benchmarks/train_head/{{head}}/seed-{{seed}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 2880 * attempt,
        gpu=1,
        device="auto",
    params:
        settings=settings("train_head"),
        shards=len(SHARDS),
        crops=crops_folder,
        labels=lambda wildcards, input: (
            f"--manifests {DATASET}/manifest {classes_option(wildcards)}"
            if input.labels
            else ""
        ),
    shell:
        "python -m lightcluster.step train-head {params.settings:q} {params.shards} "
        "--seed {wildcards.seed} --crops {params.crops} --clusterbook {input.codes} "
        "{params.labels} --output {output.head} --losses {output.losses} --device {resources.device} "
        "--threads {threads} > {log} 2>&1"


rule fit_probe:
    input:
        crops_of,
        manifests=manifests_of_labels,
        head=head_of,
        classes=CLASSES,
        labels=labels_of_probe,
    output:
        probe=f"{TRAINING}/probe.safetensors",
        losses=f"{TRAINING}/probe.csv",
        beside=f"{TRAINING}/classes.csv",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    log:
        f"{RUN}/logs/fit_probe/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/fit_probe/seed-{{seed}}.tsv"
    wildcard_constraints:
        run=runs_with("fit_probe"),
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
        gpu=1,
        device="auto",
    params:
        settings=settings("fit_probe"),
        shards=len(SHARDS),
        crops=crops_folder,
        manifests=f"{DATASET}/manifest",
        images=LAYOUT.images_in_words,
        classes=classes_option,
    shell:
        "python -m lightcluster.step fit-probe {params.settings:q} {params.shards} "
        "--seed {wildcards.seed} --crops {params.crops} --head {input.head} "
        "--manifests {params.manifests} --output {output.probe} --losses {output.losses} "
        "--palette {output.palette} --images {params.images:q} {params.classes} "
        "--device {resources.device} --threads {threads} > {log} 2>&1"


rule adopt_probe:
    input:
        weights=weights_of,
        record=weights_record_of,
    output:
        probe=f"{TRAINING}/probe.safetensors",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    log:
        f"{RUN}/logs/adopt_probe/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/adopt_probe/seed-{{seed}}.tsv"
    wildcard_constraints:
        run=runs_with("adopt_probe"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=settings("adopt_probe"),
        content=lambda wildcards: LAYOUT.probe_stamp(wildcards.run, wildcards.seed),
    shell:
        "python -m lightcluster.step adopt-probe {params.settings:q} --seed {wildcards.seed} "
        "--weights {input.weights} --output {output.probe} --palette {output.palette} "
        "> {log} 2>&1"


rule paint_probe:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        views=lambda wildcards: f"{LAYOUT.views_folder(wildcards.run)}/{wildcards.shard}.zarr",
        probe=f"{TRAINING}/probe.safetensors",
        images=LAYOUT.demo_input,
    output:
        directory(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
    log:
        f"{RUN}/logs/paint_probe/seed-{{seed}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/paint_probe/seed-{{seed}}/{{shard}}.tsv"
    wildcard_constraints:
        run=runs_with("paint_probe"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        settings=settings("paint_probe"),
    shell:
        "python -m lightcluster.step paint-probe {params.settings:q} --manifest {input.manifest} "
        "--views {input.views} --probe {input.probe} --output {output} > {log} 2>&1"


rule plot_training:
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
    log:
        f"{RUN}/logs/plot_training.log",
    benchmark:
        f"{RUN}/benchmarks/plot_training.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings("plot_training"),
        run=lambda wildcards, output: Path(output[0]).parent,
        clusterbooks=lambda wildcards: LAYOUT.clusterbooks_folder(wildcards.run),
        heads=lambda wildcards: LAYOUT.heads_folder(wildcards.run),
    shell:
        "python -m lightcluster.step plot-training {params.settings:q} --run {params.run} "
        "--clusterbooks {params.clusterbooks} --heads {params.heads} --output {output} "
        "> {log} 2>&1"
