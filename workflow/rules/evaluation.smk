TABLES = ["metrics", "per_class", "matching"] if LABELLED else []


if LABELLED:

    use rule count_masks from step with:
        input:
            LAYOUT.labels_input,
            manifest=f"{DATASET}/manifest/{{shard}}.csv",
            classes=CLASSES,
            merged=f"{MASKS}/merged/{{shard}}.npz",
            scores=f"{MASKS}/scores/{{shard}}.npz",
            pixel_masks=f"{MASKS}/pixel/{{shard}}.npz",
        output:
            f"{RUN}/counts/masks/{{shard}}.npz",
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=30,

    use rule count_regions from step with:
        input:
            LAYOUT.labels_input,
            manifest=f"{DATASET}/manifest/{{shard}}.csv",
            classes=CLASSES,
            region_maps=f"{RUN}/regions/maps/{{shard}}.npz",
        output:
            f"{RUN}/counts/regions/{{shard}}.npz",
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=30,

    use rule count_labels from step with:
        input:
            region_counts=f"{RUN}/counts/regions/{{shard}}.npz",
            regions=f"{RUN}/regions/{{shard}}.npz",
            labelling=each_seed(f"{RUN}/classes/seed-{{seed}}.npz"),
        output:
            directory(f"{RUN}/counts/classes/{{shard}}"),
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=30,

    use rule vote_neighbors from step with:
        input:
            region_counts=per_shard(f"{RUN}/counts/regions/{{shard}}.npz"),
            regions=per_shard(f"{RUN}/regions/{{shard}}.npz"),
            labelling=first_seed(f"{RUN}/classes/seed-{{seed}}.npz"),
        output:
            f"{RUN}/counts/neighbors.npz",
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=30,

    use rule count_confusion from step with:
        input:
            LAYOUT.labels_input,
            manifest=f"{DATASET}/manifest/{{shard}}.csv",
            classes=CLASSES,
            segmentation=each_seed(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
        output:
            directory(f"{RUN}/counts/classes/{{shard}}"),
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=30,

    use rule evaluate from step with:
        input:
            if_masks(f"{RUN}/counts/masks/{{shard}}.npz"),
            if_masks(f"{RUN}/counts/neighbors.npz"),
            per_shard(f"{RUN}/counts/classes/{{shard}}"),
            classes=CLASSES,
        output:
            report(
                f"{RUN}/tables/metrics.csv",
                caption="../report/metrics.rst",
                category="Scores",
                subcategory="{run}",
                labels={"table": "metrics"},
            ),
            report(
                f"{RUN}/tables/per_class.csv",
                caption="../report/per_class.rst",
                category="Scores",
                subcategory="{run}",
                labels={"table": "per class"},
            ),
            report(
                f"{RUN}/tables/matching.csv",
                caption="../report/matching.rst",
                category="Scores",
                subcategory="{run}",
                labels={"table": "matching"},
            ),
        localrule: True
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            options=options(
                counts=f"{RUN}/counts",
                tables=f"{RUN}/tables",
                dataset=LAYOUT.dataset.name,
                fitted_on=lambda wildcards: LAYOUT.fitted_on(wildcards.run),
            ),

    use rule score_images from step with:
        input:
            per_shard(f"{RUN}/counts/classes/{{shard}}"),
        output:
            f"{RUN}/tables/per_image.csv",
            summary=report(
                f"{RUN}/tables/per_image_summary.csv",
                caption="../report/per_image.rst",
                category="Scores",
                subcategory="{run}",
                labels={"table": "per image (diagnostic)"},
            ),
        localrule: True
        resources:
            mem_mb=1000,
            runtime=30,
        params:
            options=options(
                counts=f"{RUN}/counts",
                dataset=LAYOUT.dataset.name,
                fitted_on=lambda wildcards: LAYOUT.fitted_on(wildcards.run),
            ),

    use rule compare from step with:
        input:
            expand(f"{RUN}/tables/metrics.csv", run=CONFIGS),
            counts_of_all_runs(),
        output:
            table=report(
                f"{DATASET}/comparison/comparison.csv",
                caption="../report/comparison.rst",
                category="Comparison",
                labels={"comparison": "table"},
            ),
            figure=report(
                f"{DATASET}/comparison/comparison.png",
                caption="../report/comparison.rst",
                category="Comparison",
                labels={"comparison": "figure"},
            ),
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=60,
        params:
            options=options(folder=DATASET, run=list(CONFIGS)),


use rule report from step with:
    input:
        first_seed(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
        per_shard(f"{RUN}/counts/classes/{{shard}}") if LABELLED else [],
        [f"{RUN}/tables/{name}.csv" for name in TABLES],
        LAYOUT.demo_input,
        LAYOUT.labels_input,
        manifest=f"{DATASET}/manifest.csv",
        rejected=expand(f"{DATASET}/manifest/{{shard}}.rejected.csv", shard=SHARDS),
        palette=of_first_seed(f"{RUN}/segmentation/seed-{{seed}}/classes.csv"),
        regions=first_seed(
            f"{RUN}/segmentation/seed-{{seed}}/{{shard}}.csv", masks=True
        ),
        merged=if_masks(f"{MASKS}/merged/{{shard}}.npz"),
        scores=if_masks(f"{MASKS}/scores/{{shard}}.npz"),
        pixel_masks=if_masks(f"{MASKS}/pixel/{{shard}}.npz"),
        classes=CLASSES,
        analysis=if_masks(f"{RUN}/analysis"),
        figures=lambda wildcards: [
            f"{DATASET}/{wildcards.run}/{figure}"
            for figure in LAYOUT.figures(wildcards.run)
        ],
        per_image=per_image_of,
    output:
        report(
            directory(f"{RUN}/report"),
            patterns=["{name}.png"],
            caption="../report/figures.rst",
            category="Figures and contact sheets",
            subcategory="{run}",
            labels={"figure": "{name}"},
        ),
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        names=lambda wildcards: LAYOUT.names_stamp(wildcards.run),
        options=options(
            dataset=LAYOUT.dataset.name,
            segmentation=lambda wildcards: first_segmentation(wildcards.run),
            tables=f"{RUN}/tables" if LABELLED else None,
            counts=f"{RUN}/counts" if LABELLED else None,
            benchmarks=f"{RUN}/benchmarks",
            features=lambda wildcards: LAYOUT.shared_names(wildcards.run),
        ),


use rule draw_gallery from step with:
    input:
        LAYOUT.demo_input,
        LAYOUT.labels_input,
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        segmentation=of_first_seed(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
        table=of_first_seed(
            f"{RUN}/segmentation/seed-{{seed}}/{{shard}}.csv", masks=True
        ),
        region_maps=of_first_seed(f"{RUN}/regions/maps/{{shard}}.npz", masks=True),
        merged=of_first_seed(f"{MASKS}/merged/{{shard}}.npz", masks=True),
        scores=of_first_seed(f"{MASKS}/scores/{{shard}}.npz", masks=True),
        pixel_masks=of_first_seed(f"{MASKS}/pixel/{{shard}}.npz", masks=True),
        classes=CLASSES,
    output:
        directory(f"{RUN}/gallery/{{shard}}"),
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        options=options(
            images=lambda wildcards: LAYOUT.gallery_share(
                wildcards.run, wildcards.shard
            ),
        ),


use rule write_gallery from step with:
    input:
        per_shard(f"{RUN}/counts/classes/{{shard}}") if LABELLED else [],
        if_masks(f"{RUN}/counts/masks/{{shard}}.npz") if LABELLED else [],
        first_seed(f"{RUN}/segmentation/seed-{{seed}}/{{shard}}"),
        f"{DATASET}/manifest.csv",
        drawn=per_shard(f"{RUN}/gallery/{{shard}}"),
        rejected=expand(f"{DATASET}/manifest/{{shard}}.rejected.csv", shard=SHARDS),
        palette=of_first_seed(f"{RUN}/segmentation/seed-{{seed}}/classes.csv"),
        classes=CLASSES,
        matching=[f"{RUN}/tables/matching.csv"] if LABELLED else [],
    output:
        f"{RUN}/gallery/index.html",
        data=directory(f"{RUN}/gallery/data"),
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        names=lambda wildcards: LAYOUT.names_stamp(wildcards.run),
        options=options(
            dataset=LAYOUT.dataset.name,
            counts=f"{RUN}/counts" if LABELLED else None,
        ),


use rule write_dataset_page from step with:
    input:
        expand(f"{RUN}/report", run=CONFIGS),
        [f"{first_segmentation(run)}/{shard}" for run in CONFIGS for shard in SHARDS],
        expand(f"{RUN}/tables/{{table}}.csv", run=CONFIGS, table=TABLES),
        f"{DATASET}/manifest.csv",
        LAYOUT.demo_input,
        LAYOUT.labels_input,
        [f"{DATASET}/comparison/comparison.png"] * LAYOUT.compared,
        classes=CLASSES,
        comparison=[f"{DATASET}/comparison/comparison.csv"] * LAYOUT.compared,
    output:
        f"{DATASET}/comparison/index.html",
        pictures=directory(f"{DATASET}/comparison/pictures"),
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        options=options(
            folder=DATASET,
            segmentation=[first_segmentation(run) for run in CONFIGS],
        ),
