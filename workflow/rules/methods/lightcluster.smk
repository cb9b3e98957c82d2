# The method of this project: levels, masks, regions and their classes; a fitted run as a folder, and
# runs that apply one in the place of fitting; and what its report shows besides.


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
        f"{MASKS}/scores/{{shard}}.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,


use rule refine_masks from step with:
    input:
        LAYOUT.demo_input,
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        scores=f"{MASKS}/scores/{{shard}}.npz",
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
        table=f"{RUN}/segmentation/seed-{{seed}}/{{shard}}.csv",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,


use rule adopt_fit from step with:
    input:
        weights_record_of,
        weights=weights_of,
    output:
        f"{RUN}/clusters/dataset.npz",
        f"{RUN}/clusters/category.npz",
        f"{MASKS}/foreground.npz",
        f"{MASKS}/trees.npz",
    localrule: True
    resources:
        mem_mb=500,
        runtime=10,
    params:
        content=lambda wildcards: LAYOUT.fit_stamp(wildcards.run),


use rule adopt_superclasses from step with:
    input:
        f"{DATASET}/manifest.csv",  # fails if no image can be used
        features=stores_of,
    output:
        f"{RUN}/clusters/superclasses.npz",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        content=lambda wildcards: LAYOUT.fit_stamp(wildcards.run),


use rule adopt_labelling from step with:
    output:
        f"{RUN}/classes/seed-{{seed}}.npz",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    localrule: True
    resources:
        mem_mb=500,
        runtime=10,
    params:
        content=lambda wildcards: LAYOUT.fit_stamp(wildcards.run),


use rule export_model from step with:
    input:
        weights_record_of,
        each_seed(f"{RUN}/classes/seed-{{seed}}.npz"),
        each_seed(f"{RUN}/segmentation/seed-{{seed}}/classes.csv"),
        segmentations_if_named,
        weights=weights_of,
        choice=choice_of_run,
        dataset_level=f"{RUN}/clusters/dataset.npz",
        superclasses=f"{RUN}/clusters/superclasses.npz",
        category_level=f"{RUN}/clusters/category.npz",
        foreground=f"{MASKS}/foreground.npz",
        trees=f"{MASKS}/trees.npz",
    output:
        directory(f"{RUN}/model"),
    localrule: True
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        names=lambda wildcards: LAYOUT.names_stamp(wildcards.run),
        options=options(
            labelling=f"{RUN}/classes",
            palettes=f"{RUN}/segmentation",
            dataset=LAYOUT.dataset.name,
        ),


use rule analyse from step with:
    input:
        per_shard(f"{RUN}/sample/{{shard}}.npz"),
        per_shard(f"{MASKS}/scores/{{shard}}.npz"),
        per_shard(f"{RUN}/regions/{{shard}}.npz"),
        f"{RUN}/clusters/superclasses.npz",
        LAYOUT.demo_input,
        LAYOUT.labels_input,
        features=stores_of,
        manifests=per_shard(f"{DATASET}/manifest/{{shard}}.csv"),
        labelling=first_seed(f"{RUN}/classes/seed-{{seed}}.npz"),
        classes=CLASSES,
    output:
        report(
            directory(f"{RUN}/analysis"),
            patterns=["{name}.png"],
            caption="../report/analysis.rst",
            category="Analysis",
            subcategory="{run}",
            labels={"figure": "{name}"},
        ),
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        options=options(run_folder=RUN),


use rule discover_parts from step with:
    input:
        weights_record_of,
        LAYOUT.demo_input,
        manifests=per_shard(f"{DATASET}/manifest/{{shard}}.csv"),
        scores=per_shard(f"{MASKS}/scores/{{shard}}.npz"),
        weights=weights_of,
        choice=choice_of_run,
    output:
        report(
            f"{RUN}/parts.png",
            caption="../report/analysis.rst",
            category="Analysis",
            subcategory="{run}",
            labels={"figure": "parts"},
        ),
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=1,
        device="auto",
