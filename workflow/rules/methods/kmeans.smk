# The baseline: patches of the dataset are clustered, and each cluster is a class.


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
