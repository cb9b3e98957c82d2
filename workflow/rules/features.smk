use rule fetch_weights from step with:
    output:
        f"{LAYOUT.weights_folder}/{{weights}}.safetensors",
        f"{LAYOUT.weights_folder}/{{weights}}.json",
    priority: 100  # what is wrong with weights is said at the start of a run
    localrule: True
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        content=lambda wildcards: LAYOUT.weights_stamp(wildcards.weights),


use rule choose_features from step with:
    input:
        f"{DATASET}/manifest.csv",  # fails if no image can be used
        weights_record_of,
        LAYOUT.demo_input,
        manifests=per_shard(f"{DATASET}/manifest/{{shard}}.csv"),
        weights=weights_of,
    output:
        f"{DATASET}/features/{{features}}/choice.csv",
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=1,
        device="auto",


use rule extract_features from step with:
    input:
        weights_record_of,
        LAYOUT.demo_input,
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        weights=weights_of,
        choice=choice_of,
    output:
        directory(f"{DATASET}/features/{{features}}/{{shard}}.zarr"),
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=1,
        device="auto",
        batch_size=8,


use rule sample_features from step with:
    input:
        store=store_of,
    output:
        f"{RUN}/sample/{{shard}}.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
