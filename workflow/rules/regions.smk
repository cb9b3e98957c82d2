use rule find_regions from step with:
    input:
        store=store_of,
        pixel_masks=f"{MASKS}/pixel/{{shard}}.npz",
        dataset_level=f"{RUN}/clusters/dataset.npz",
    output:
        f"{RUN}/regions/maps/{{shard}}.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,


use rule embed_regions from step with:
    input:
        weights_record_of,
        LAYOUT.demo_input,
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        region_maps=f"{RUN}/regions/maps/{{shard}}.npz",
        weights=weights_of,
    output:
        f"{RUN}/regions/{{shard}}.npz",
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        gpu=1,
        device="auto",
        batch_size=8,


use rule label_regions from step with:
    input:
        regions=per_shard(f"{RUN}/regions/{{shard}}.npz"),
        classes=CLASSES,
    output:
        f"{RUN}/classes/seed-{{seed}}.npz",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,


use rule paint_segmentation from step with:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        region_maps=f"{RUN}/regions/maps/{{shard}}.npz",
        regions=f"{RUN}/regions/{{shard}}.npz",
        labelling=f"{RUN}/classes/seed-{{seed}}.npz",
    output:
        directory(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
