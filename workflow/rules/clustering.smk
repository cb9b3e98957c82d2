rule fit_clusters:
    input:
        per_shard(f"{RUN}/sample/{{shard}}.npz"),
        f"{DATASET}/manifest.csv",  # fails if no image can be used
        classes=CLASSES,
    output:
        clusters=f"{RUN}/classes/seed-{{seed}}.npz",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    log:
        f"{RUN}/logs/fit_clusters/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/fit_clusters/seed-{{seed}}.tsv"
    wildcard_constraints:
        run=runs_with("fit_clusters"),
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        settings=settings("fit_clusters"),
        shards=len(SHARDS),
        sample=f"{RUN}/sample",
        classes=classes_option,
    shell:
        "python -m lightcluster.step fit-clusters {params.settings:q} {params.shards} "
        "--seed {wildcards.seed} --sample {params.sample} --output {output.clusters} "
        "--palette {output.palette} {params.classes} --threads {threads} > {log} 2>&1"


rule paint_clusters:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        store=store_of,
        clusters=f"{RUN}/classes/seed-{{seed}}.npz",
    output:
        directory(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
    log:
        f"{RUN}/logs/paint_clusters/seed-{{seed}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/paint_clusters/seed-{{seed}}/{{shard}}.tsv"
    wildcard_constraints:
        run=runs_with("paint_clusters"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("paint_clusters"),
    shell:
        "python -m lightcluster.step paint-clusters {params.settings:q} --manifest {input.manifest} "
        "--store {input.store} --clusters {input.clusters} --output {output} > {log} 2>&1"


rule cluster_dataset:
    input:
        per_shard(f"{RUN}/sample/{{shard}}.npz"),
        f"{DATASET}/manifest.csv",  # fails if no image can be used
    output:
        f"{RUN}/clusters/dataset.npz",
    log:
        f"{RUN}/logs/cluster_dataset.log",
    benchmark:
        f"{RUN}/benchmarks/cluster_dataset.tsv"
    wildcard_constraints:
        run=runs_with("cluster_dataset"),
    conda:
        "../../envs/gpu.yaml"
    threads: 1  # seconds, even with a large sample
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        settings=settings("cluster_dataset"),
        shards=len(SHARDS),
        sample=f"{RUN}/sample",
    shell:
        "python -m lightcluster.step cluster-dataset {params.settings:q} {params.shards} "
        "--sample {params.sample} --output {output} --threads {threads} > {log} 2>&1"


rule group_images:
    input:
        stores_of,
        f"{DATASET}/manifest.csv",  # fails if no image can be used
    output:
        f"{RUN}/clusters/superclasses.npz",
    log:
        f"{RUN}/logs/group_images.log",
    benchmark:
        f"{RUN}/benchmarks/group_images.tsv"
    wildcard_constraints:
        run=runs_with("group_images"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        settings=settings("group_images"),
        shards=len(SHARDS),
        features=lambda wildcards: LAYOUT.features_folder(wildcards.run),
    shell:
        "python -m lightcluster.step group-images {params.settings:q} {params.shards} "
        "--features {params.features} --output {output} --threads {threads} > {log} 2>&1"


rule cluster_category:
    input:
        per_shard(f"{RUN}/sample/{{shard}}.npz"),
        superclasses=f"{RUN}/clusters/superclasses.npz",
    output:
        f"{RUN}/clusters/category.npz",
    log:
        f"{RUN}/logs/cluster_category.log",
    benchmark:
        f"{RUN}/benchmarks/cluster_category.tsv"
    wildcard_constraints:
        run=runs_with("cluster_category"),
    conda:
        "../../envs/gpu.yaml"
    threads: 1  # seconds, even with a large sample
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        settings=settings("cluster_category"),
        shards=len(SHARDS),
        sample=f"{RUN}/sample",
    shell:
        "python -m lightcluster.step cluster-category {params.settings:q} {params.shards} "
        "--sample {params.sample} --superclasses {input.superclasses} --output {output} "
        "--threads {threads} > {log} 2>&1"


rule cluster_image:
    input:
        store_of,
    output:
        f"{RUN}/clusters/image/{{shard}}.npz",
    log:
        f"{RUN}/logs/cluster_image/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/cluster_image/{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("cluster_image"),
    shell:
        "python -m lightcluster.step cluster-image {params.settings:q} --store {input} "
        "--output {output} > {log} 2>&1"
