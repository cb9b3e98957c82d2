rule find_regions:
    input:
        store=store_of,
        pixel=f"{MASKS}/pixel/{{shard}}.npz",
        dataset=f"{RUN}/clusters/dataset.npz",
    output:
        f"{RUN}/regions/maps/{{shard}}.npz",
    log:
        f"{RUN}/logs/find_regions/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/find_regions/{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=settings("find_regions"),
    shell:
        "python -m lightcluster.step find-regions {params.settings:q} --store {input.store} "
        "--pixel-masks {input.pixel} --dataset-level {input.dataset} --output {output} "
        "> {log} 2>&1"


rule embed_regions:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        maps=f"{RUN}/regions/maps/{{shard}}.npz",
        weights=weights_of,
        record=weights_record_of,
        images=LAYOUT.demo_input,
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
        "python -m lightcluster.step embed-regions {params.settings:q} --manifest {input.manifest} "
        "--region-maps {input.maps} --weights {input.weights} --output {output} "
        "--device {resources.device} --batch-size {resources.batch_size} --threads {threads} "
        "> {log} 2>&1"


rule label_regions:
    input:
        per_shard(f"{RUN}/regions/{{shard}}.npz"),
        classes=CLASSES,
    output:
        labelling=f"{RUN}/classes/seed-{{seed}}.npz",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    log:
        f"{RUN}/logs/label_regions/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/label_regions/seed-{{seed}}.tsv"
    wildcard_constraints:
        run=runs_with("label_regions"),
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
        "python -m lightcluster.step label-regions {params.settings:q} {params.shards} "
        "--seed {wildcards.seed} --regions {params.regions} --output {output.labelling} "
        "--palette {output.palette} {params.classes} --threads {threads} > {log} 2>&1"


rule paint_segmentation:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        maps=f"{RUN}/regions/maps/{{shard}}.npz",
        regions=f"{RUN}/regions/{{shard}}.npz",
        labelling=f"{RUN}/classes/seed-{{seed}}.npz",
    output:
        directory(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
    log:
        f"{RUN}/logs/paint_segmentation/seed-{{seed}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/paint_segmentation/seed-{{seed}}/{{shard}}.tsv"
    wildcard_constraints:
        run=runs_with("paint_segmentation"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("paint_segmentation"),
    shell:
        "python -m lightcluster.step paint-segmentation "
        "--manifest {input.manifest} --region-maps {input.maps} --regions {input.regions} "
        "--labelling {input.labelling} --output {output} > {log} 2>&1"
