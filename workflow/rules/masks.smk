MASKS = f"{RUN}/masks"


use rule decide_foreground from step with:
    input:
        sample=per_shard(f"{RUN}/sample/{{shard}}.npz"),
        image_level=per_shard(f"{RUN}/clusters/image/{{shard}}.npz"),
        dataset_level=f"{RUN}/clusters/dataset.npz",
        superclasses=f"{RUN}/clusters/superclasses.npz",
        category_level=f"{RUN}/clusters/category.npz",
    output:
        f"{MASKS}/foreground.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,


use rule merge_levels from step with:
    input:
        store=store_of,
        image_level=f"{RUN}/clusters/image/{{shard}}.npz",
        dataset_level=f"{RUN}/clusters/dataset.npz",
        superclasses=f"{RUN}/clusters/superclasses.npz",
        category_level=f"{RUN}/clusters/category.npz",
        decision=f"{MASKS}/foreground.npz",
    output:
        f"{MASKS}/merged/{{shard}}.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,


use rule fit_trees from step with:
    input:
        features=stores_of,
        merged=per_shard(f"{MASKS}/merged/{{shard}}.npz"),
        sample=per_shard(f"{RUN}/sample/{{shard}}.npz"),
    output:
        f"{MASKS}/trees.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,


use rule score_patches from step with:
    input:
        store=store_of,
        merged=f"{MASKS}/merged/{{shard}}.npz",
        trees=f"{MASKS}/trees.npz",
    output:
        f"{MASKS}/patch/{{shard}}.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,


use rule refine_masks from step with:
    input:
        LAYOUT.demo_input,
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        patch_masks=f"{MASKS}/patch/{{shard}}.npz",
    output:
        f"{MASKS}/pixel/{{shard}}.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,


use rule paint_masks from step with:
    input:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        pixel_masks=f"{MASKS}/pixel/{{shard}}.npz",
    output:
        directory(f"{MASKS}/png/{{shard}}"),
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
