use rule fit_clusters from step with:
    input:
        f"{DATASET}/manifest.csv",  # fails if no image can be used
        sample=per_shard(f"{RUN}/sample/{{shard}}.npz"),
        classes=CLASSES,
    output:
        f"{RUN}/classes/seed-{{seed}}.npz",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    conda:
        "../../envs/gpu.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,


use rule paint_clusters from step with:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        store=store_of,
        clusters=f"{RUN}/classes/seed-{{seed}}.npz",
    output:
        directory(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,


use rule cluster_dataset from step with:
    input:
        f"{DATASET}/manifest.csv",  # fails if no image can be used
        sample=per_shard(f"{RUN}/sample/{{shard}}.npz"),
    output:
        f"{RUN}/clusters/dataset.npz",
    conda:
        "../../envs/gpu.yaml"
    threads: 1  # seconds, even with a large sample
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,


use rule group_images from step with:
    input:
        f"{DATASET}/manifest.csv",  # fails if no image can be used
        features=stores_of,
    output:
        f"{RUN}/clusters/superclasses.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,


use rule cluster_category from step with:
    input:
        sample=per_shard(f"{RUN}/sample/{{shard}}.npz"),
        superclasses=f"{RUN}/clusters/superclasses.npz",
    output:
        f"{RUN}/clusters/category.npz",
    conda:
        "../../envs/gpu.yaml"
    threads: 1  # seconds, even with a large sample
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,


use rule cluster_image from step with:
    input:
        store=store_of,
    output:
        f"{RUN}/clusters/image/{{shard}}.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
