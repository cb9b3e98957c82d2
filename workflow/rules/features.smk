rule fetch_weights:
    output:
        weights=f"{LAYOUT.weights_folder}/{{weights}}.safetensors",
        record=f"{LAYOUT.weights_folder}/{{weights}}.json",
    log:
        f"{LAYOUT.weights_folder}/logs/{{weights}}.log",
    benchmark:
        f"{LAYOUT.weights_folder}/benchmarks/{{weights}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        settings=settings("fetch_weights"),
        content=lambda wildcards: LAYOUT.weights_stamp(wildcards.weights),
    shell:
        "python -m lightcluster.step fetch-weights {params.settings:q} {output.weights} > {log} 2>&1"


rule choose_features:
    input:
        per_shard(f"{DATASET}/manifest/{{shard}}.csv"),
        f"{DATASET}/manifest.csv",  # fails if no image can be used
        weights=weights_of,
        record=weights_record_of,
        images=LAYOUT.demo_input,
    output:
        f"{DATASET}/features/{{features}}/choice.csv",
    log:
        f"{DATASET}/logs/choose_features/{{features}}.log",
    benchmark:
        f"{DATASET}/benchmarks/choose_features/{{features}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=1,
        device="auto",
    params:
        settings=settings("choose_features"),
        shards=len(SHARDS),
        manifests=lambda wildcards, input: Path(input[0]).parent,
    shell:
        "python -m lightcluster.step choose-features {params.settings:q} {params.shards} "
        "--manifests {params.manifests} --weights {input.weights} --output {output} "
        "--device {resources.device} --threads {threads} > {log} 2>&1"


rule extract_features:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        weights=weights_of,
        record=weights_record_of,
        choice=choice_of,
        images=LAYOUT.demo_input,
    output:
        directory(f"{DATASET}/features/{{features}}/{{shard}}.zarr"),
    log:
        f"{DATASET}/logs/extract_features/{{features}}/{{shard}}.log",
    benchmark:
        f"{DATASET}/benchmarks/extract_features/{{features}}/{{shard}}.tsv"
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
        settings=settings("extract_features"),
        choice=option("choice"),
    shell:
        "python -m lightcluster.step extract-features {params.settings:q} "
        "--manifest {input.manifest} --weights {input.weights} --output {output} {params.choice} "
        "--device {resources.device} --batch-size {resources.batch_size} --threads {threads} "
        "> {log} 2>&1"


rule sample_features:
    input:
        store_of,
    output:
        f"{RUN}/sample/{{shard}}.npz",
    log:
        f"{RUN}/logs/sample_features/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/sample_features/{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("sample_features"),
        shards=len(SHARDS),
    shell:
        "python -m lightcluster.step sample-features {params.settings:q} {wildcards.shard} "
        "{params.shards} --store {input} --output {output} > {log} 2>&1"
