MASKS = f"{RUN}/masks"


rule decide_foreground:
    input:
        per_shard(f"{RUN}/sample/{{shard}}.npz"),
        per_shard(f"{RUN}/clusters/image/{{shard}}.npz"),
        dataset=f"{RUN}/clusters/dataset.npz",
        superclasses=f"{RUN}/clusters/superclasses.npz",
        category=f"{RUN}/clusters/category.npz",
    output:
        f"{MASKS}/foreground.npz",
    log:
        f"{RUN}/logs/decide_foreground.log",
    benchmark:
        f"{RUN}/benchmarks/decide_foreground.tsv"
    wildcard_constraints:
        run=runs_with("decide_foreground"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        settings=settings("decide_foreground"),
        shards=len(SHARDS),
        sample=f"{RUN}/sample",
        image_level=f"{RUN}/clusters/image",
    shell:
        "python -m lightcluster.step decide-foreground {params.settings:q} {params.shards} "
        "--sample {params.sample} --image-level {params.image_level} "
        "--dataset-level {input.dataset} --superclasses {input.superclasses} "
        "--category-level {input.category} --output {output} > {log} 2>&1"


rule merge_levels:
    input:
        store=store_of,
        image=f"{RUN}/clusters/image/{{shard}}.npz",
        dataset=f"{RUN}/clusters/dataset.npz",
        superclasses=f"{RUN}/clusters/superclasses.npz",
        category=f"{RUN}/clusters/category.npz",
        decision=f"{MASKS}/foreground.npz",
    output:
        f"{MASKS}/merged/{{shard}}.npz",
    log:
        f"{RUN}/logs/merge_levels/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/merge_levels/{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("merge_levels"),
    shell:
        "python -m lightcluster.step merge-levels {params.settings:q} {wildcards.shard} "
        "--store {input.store} --image-level {input.image} --superclasses {input.superclasses} "
        "--dataset-level {input.dataset} --category-level {input.category} "
        "--decision {input.decision} --output {output} > {log} 2>&1"


rule fit_trees:
    input:
        stores_of,
        per_shard(f"{MASKS}/merged/{{shard}}.npz"),
        per_shard(f"{RUN}/sample/{{shard}}.npz"),
    output:
        f"{MASKS}/trees.npz",
    log:
        f"{RUN}/logs/fit_trees.log",
    benchmark:
        f"{RUN}/benchmarks/fit_trees.tsv"
    wildcard_constraints:
        run=runs_with("fit_trees"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=settings("fit_trees"),
        shards=len(SHARDS),
        features=lambda wildcards: LAYOUT.features_folder(wildcards.run),
        merged=f"{MASKS}/merged",
        sample=f"{RUN}/sample",
    shell:
        "python -m lightcluster.step fit-trees {params.settings:q} {params.shards} "
        "--features {params.features} --merged {params.merged} --sample {params.sample} "
        "--output {output} --threads {threads} > {log} 2>&1"


rule score_patches:
    input:
        store=store_of,
        merged=f"{MASKS}/merged/{{shard}}.npz",
        trees=f"{MASKS}/trees.npz",
    output:
        f"{MASKS}/patch/{{shard}}.npz",
    log:
        f"{RUN}/logs/score_patches/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/score_patches/{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("score_patches"),
    shell:
        "python -m lightcluster.step score-patches {params.settings:q} --store {input.store} "
        "--merged {input.merged} --trees {input.trees} --output {output} "
        "> {log} 2>&1"


rule refine_masks:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        patch=f"{MASKS}/patch/{{shard}}.npz",
        images=LAYOUT.demo_input,
    output:
        f"{MASKS}/pixel/{{shard}}.npz",
    log:
        f"{RUN}/logs/refine_masks/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/refine_masks/{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        settings=settings("refine_masks"),
    shell:
        "python -m lightcluster.step refine-masks {params.settings:q} --manifest {input.manifest} "
        "--patch-masks {input.patch} --output {output} > {log} 2>&1"


rule paint_masks:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        pixel=f"{MASKS}/pixel/{{shard}}.npz",
    output:
        directory(f"{MASKS}/png/{{shard}}"),
    log:
        f"{RUN}/logs/paint_masks/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/paint_masks/{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("paint_masks"),
    shell:
        "python -m lightcluster.step paint-masks --manifest {input.manifest} "
        "--pixel-masks {input.pixel} --output {output} > {log} 2>&1"
