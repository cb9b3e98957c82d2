rule embed_regions:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        pixel=f"{MASKS}/pixel/{{shard}}.npz",
        weights=weights_of,
    output:
        f"{RUN}/regions/{{shard}}.npz",
    log:
        f"{RUN}/logs/embed_regions/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/embed_regions/{{shard}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        gpu=1,
        device="auto",
        batch_size=8,
    params:
        settings=settings("embed_regions"),
    shell:
        "python -m lightcluster embed-regions {params.settings:q} --manifest {input.manifest} "
        "--pixel-masks {input.pixel} --weights {input.weights} --output {output} "
        "--device {resources.device} --batch-size {resources.batch_size} --threads {threads} "
        "> {log} 2>&1"


rule label_regions:
    input:
        per_shard(f"{RUN}/regions/{{shard}}.npz"),
        classes=CLASSES,
    output:
        labelling=f"{RUN}/classes/seed-{{seed}}.npz",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    wildcard_constraints:
        run=constrain_to("lightcluster"),
    log:
        f"{RUN}/logs/label_regions/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/label_regions/seed-{{seed}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        settings=settings("label_regions"),
        shards=len(SHARDS),
        regions=f"{RUN}/regions",
        classes=classes_option,
    shell:
        "python -m lightcluster label-regions {params.settings:q} {params.shards} "
        "--seed {wildcards.seed} --regions {params.regions} --output {output.labelling} "
        "--palette {output.palette} {params.classes} --threads {threads} > {log} 2>&1"


rule paint_segmentation:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        pixel=f"{MASKS}/pixel/{{shard}}.npz",
        regions=f"{RUN}/regions/{{shard}}.npz",
        labelling=f"{RUN}/classes/seed-{{seed}}.npz",
    output:
        directory(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
    wildcard_constraints:
        run=constrain_to("lightcluster"),
    log:
        f"{RUN}/logs/paint_segmentation/seed-{{seed}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/paint_segmentation/seed-{{seed}}/{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("paint_segmentation"),
    shell:
        "python -m lightcluster paint-segmentation {params.settings:q} "
        "--manifest {input.manifest} --pixel-masks {input.pixel} --regions {input.regions} "
        "--labelling {input.labelling} --output {output} > {log} 2>&1"


rule export_model:
    input:
        weights=weights_of,
        choice=choice_of_run,
        dataset=f"{RUN}/clusters/dataset.npz",
        superclasses=f"{RUN}/clusters/superclasses.npz",
        category=f"{RUN}/clusters/category.npz",
        foreground=f"{MASKS}/foreground.npz",
        discriminant=f"{MASKS}/discriminant.npz",
        labelling=lambda wildcards: first_seed(
            f"{RUN}/classes/seed-{{seed}}.npz", wildcards
        ),
        palette=lambda wildcards: first_seed(
            f"{RUN}/segmentation/seed-{{seed}}/classes.csv", wildcards
        ),
    output:
        directory(f"{RUN}/model"),
    log:
        f"{RUN}/logs/export_model.log",
    benchmark:
        f"{RUN}/benchmarks/export_model.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings("export_model"),
        clusters=lambda wildcards, input: Path(input.dataset).parent,
        masks=lambda wildcards, input: Path(input.foreground).parent,
        dataset=LAYOUT.dataset.name,
        choice=lambda wildcards, input: "".join(
            f"--choice {path}" for path in input.choice
        ),
    shell:
        "python -m lightcluster export-model {params.settings:q} --weights {input.weights} "
        "--clusters {params.clusters} --masks {params.masks} --labelling {input.labelling} "
        "--palette {input.palette} --dataset {params.dataset} --run {wildcards.run} "
        "--output {output} {params.choice} > {log} 2>&1"
