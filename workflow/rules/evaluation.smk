TABLES = ["metrics", "per_class", "matching"] if LABELLED else []


if LABELLED:

    localrules:
        evaluate,
        score_images,

    rule count_masks:
        input:
            manifest=f"{DATASET}/manifest/{{shard}}.csv",
            labels=LAYOUT.labels_input,
            classes=CLASSES,
            patch=f"{MASKS}/patch/{{shard}}.npz",
            pixel=f"{MASKS}/pixel/{{shard}}.npz",
        output:
            f"{RUN}/counts/masks/{{shard}}.npz",
        log:
            f"{RUN}/logs/count_masks/{{shard}}.log",
        benchmark:
            f"{RUN}/benchmarks/count_masks/{{shard}}.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=30,
        params:
            settings=settings("count_masks"),
        shell:
            "python -m lightcluster.step count-masks {params.settings:q} --manifest {input.manifest} "
            "--classes {input.classes} --patch-masks {input.patch} --pixel-masks {input.pixel} "
            "--output {output} > {log} 2>&1"

    rule count_regions:
        input:
            manifest=f"{DATASET}/manifest/{{shard}}.csv",
            labels=LAYOUT.labels_input,
            classes=CLASSES,
            maps=f"{RUN}/regions/maps/{{shard}}.npz",
        output:
            f"{RUN}/counts/regions/{{shard}}.npz",
        log:
            f"{RUN}/logs/count_regions/{{shard}}.log",
        benchmark:
            f"{RUN}/benchmarks/count_regions/{{shard}}.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=30,
        params:
            settings=settings("count_regions"),
        shell:
            "python -m lightcluster.step count-regions {params.settings:q} "
            "--manifest {input.manifest} --classes {input.classes} --region-maps {input.maps} "
            "--output {output} > {log} 2>&1"

    rule count_labels:
        input:
            counts=f"{RUN}/counts/regions/{{shard}}.npz",
            regions=f"{RUN}/regions/{{shard}}.npz",
            labelling=f"{RUN}/classes/seed-{{seed}}.npz",
        output:
            f"{RUN}/counts/seed-{{seed}}/{{shard}}.npz",
        log:
            f"{RUN}/logs/count_labels/seed-{{seed}}/{{shard}}.log",
        benchmark:
            f"{RUN}/benchmarks/count_labels/seed-{{seed}}/{{shard}}.tsv"
        wildcard_constraints:
            run=runs_with("count_labels"),
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=30,
        params:
            settings=settings("count_labels"),
        shell:
            "python -m lightcluster.step count-labels --seed {wildcards.seed} "
            "--region-counts {input.counts} --regions {input.regions} "
            "--labelling {input.labelling} --output {output} > {log} 2>&1"

    rule vote_neighbors:
        input:
            per_shard(f"{RUN}/counts/regions/{{shard}}.npz"),
            per_shard(f"{RUN}/regions/{{shard}}.npz"),
            labelling=lambda wildcards: first_seed(
                f"{RUN}/classes/seed-{{seed}}.npz", wildcards
            ),
        output:
            f"{RUN}/counts/neighbors.npz",
        log:
            f"{RUN}/logs/vote_neighbors.log",
        benchmark:
            f"{RUN}/benchmarks/vote_neighbors.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=30,
        params:
            settings=settings("vote_neighbors"),
            shards=len(SHARDS),
            counts=f"{RUN}/counts/regions",
            regions=f"{RUN}/regions",
        shell:
            "python -m lightcluster.step vote-neighbors {params.settings:q} {params.shards} "
            "--region-counts {params.counts} --regions {params.regions} "
            "--labelling {input.labelling} --output {output} > {log} 2>&1"

    rule count_confusion:
        input:
            manifest=f"{DATASET}/manifest/{{shard}}.csv",
            labels=LAYOUT.labels_input,
            classes=CLASSES,
            segmentation=f"{RUN}/segmentation/seed-{{seed}}/{{shard}}",
        output:
            f"{RUN}/counts/seed-{{seed}}/{{shard}}.npz",
        log:
            f"{RUN}/logs/count_confusion/seed-{{seed}}/{{shard}}.log",
        benchmark:
            f"{RUN}/benchmarks/count_confusion/seed-{{seed}}/{{shard}}.tsv"
        wildcard_constraints:
            run=runs_with("count_confusion"),
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=30,
        params:
            settings=settings("count_confusion"),
        shell:
            "python -m lightcluster.step count-confusion {params.settings:q} --seed {wildcards.seed} "
            "--manifest {input.manifest} --classes {input.classes} "
            "--segmentation {input.segmentation} --output {output} > {log} 2>&1"

    rule evaluate:
        input:
            if_masks(f"{RUN}/counts/masks/{{shard}}.npz"),
            lambda wildcards: [f"{DATASET}/{wildcards.run}/counts/neighbors.npz"]
            * has_masks(wildcards.run),
            class_counts_of,
            classes=CLASSES,
        output:
            metrics=report(
                f"{RUN}/tables/metrics.csv",
                caption="../report/metrics.rst",
                category="Scores",
                subcategory="{run}",
                labels={"table": "metrics"},
            ),
            per_class=report(
                f"{RUN}/tables/per_class.csv",
                caption="../report/per_class.rst",
                category="Scores",
                subcategory="{run}",
                labels={"table": "per class"},
            ),
            matching=report(
                f"{RUN}/tables/matching.csv",
                caption="../report/matching.rst",
                category="Scores",
                subcategory="{run}",
                labels={"table": "matching"},
            ),
        log:
            f"{RUN}/logs/evaluate.log",
        benchmark:
            f"{RUN}/benchmarks/evaluate.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            settings=settings("evaluate"),
            shards=len(SHARDS),
            counts=f"{RUN}/counts",
            tables=f"{RUN}/tables",
            dataset=LAYOUT.dataset.name,
            fitted_on=lambda wildcards: LAYOUT.fitted_on(wildcards.run),
        shell:
            "python -m lightcluster.step evaluate {params.settings:q} {params.shards} "
            "--counts {params.counts} --classes {input.classes} --dataset {params.dataset} "
            "--run {wildcards.run} --fitted-on {params.fitted_on:q} --output {params.tables} "
            "> {log} 2>&1"

    rule score_images:
        input:
            class_counts_of,
        output:
            images=f"{RUN}/tables/per_image.csv",
            summary=report(
                f"{RUN}/tables/per_image_summary.csv",
                caption="../report/per_image.rst",
                category="Scores",
                subcategory="{run}",
                labels={"table": "per image (diagnostic)"},
            ),
        log:
            f"{RUN}/logs/score_images.log",
        benchmark:
            f"{RUN}/benchmarks/score_images.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=30,
        params:
            settings=settings("score_images"),
            shards=len(SHARDS),
            counts=f"{RUN}/counts",
            dataset=LAYOUT.dataset.name,
            fitted_on=lambda wildcards: LAYOUT.fitted_on(wildcards.run),
        shell:
            "python -m lightcluster.step score-images {params.settings:q} {params.shards} "
            "--counts {params.counts} --dataset {params.dataset} --run {wildcards.run} "
            "--fitted-on {params.fitted_on:q} --output {output.images} "
            "--summary {output.summary} > {log} 2>&1"

    rule compare:
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
        log:
            f"{DATASET}/logs/compare.log",
        benchmark:
            f"{DATASET}/benchmarks/compare.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=60,
        params:
            settings=settings("compare"),
            shards=len(SHARDS),
            folder=lambda wildcards, output: Path(output.table).parents[1],
            runs=" ".join(f"--run {run}" for run in CONFIGS),
        shell:
            "python -m lightcluster.step compare {params.settings:q} {params.shards} "
            "--folder {params.folder} {params.runs} --table {output.table} "
            "--figure {output.figure} > {log} 2>&1"


rule analyse:
    input:
        stores_of,
        per_shard(f"{DATASET}/manifest/{{shard}}.csv"),
        per_shard(f"{RUN}/sample/{{shard}}.npz"),
        per_shard(f"{MASKS}/patch/{{shard}}.npz"),
        per_shard(f"{RUN}/regions/{{shard}}.npz"),
        superclasses=f"{RUN}/clusters/superclasses.npz",
        labelling=lambda wildcards: first_seed(
            f"{RUN}/classes/seed-{{seed}}.npz", wildcards
        ),
        images=LAYOUT.demo_input,
        labels=LAYOUT.labels_input,
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
    log:
        f"{RUN}/logs/analyse.log",
    benchmark:
        f"{RUN}/benchmarks/analyse.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("analyse"),
        shards=len(SHARDS),
        manifests=f"{DATASET}/manifest",
        features=lambda wildcards: LAYOUT.features_folder(wildcards.run),
        run=lambda wildcards, input: Path(input.superclasses).parents[1],
        classes=classes_option,
    shell:
        "python -m lightcluster.step analyse {params.settings:q} {params.shards} "
        "--manifests {params.manifests} --features {params.features} --run {params.run} "
        "--labelling {input.labelling} --output {output} {params.classes} > {log} 2>&1"


rule discover_parts:
    input:
        per_shard(f"{DATASET}/manifest/{{shard}}.csv"),
        per_shard(f"{MASKS}/patch/{{shard}}.npz"),
        weights=weights_of,
        record=weights_record_of,
        choice=choice_of_run,
        images=LAYOUT.demo_input,
    output:
        report(
            f"{RUN}/parts.png",
            caption="../report/analysis.rst",
            category="Analysis",
            subcategory="{run}",
            labels={"figure": "parts"},
        ),
    log:
        f"{RUN}/logs/discover_parts.log",
    benchmark:
        f"{RUN}/benchmarks/discover_parts.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=1,
        device="auto",
    params:
        settings=settings("discover_parts"),
        shards=len(SHARDS),
        manifests=f"{DATASET}/manifest",
        masks=f"{MASKS}/patch",
        choice=option("choice"),
    shell:
        "python -m lightcluster.step discover-parts {params.settings:q} {params.shards} "
        "--manifests {params.manifests} --patch-masks {params.masks} --weights {input.weights} "
        "--output {output} {params.choice} --device {resources.device} --threads {threads} "
        "> {log} 2>&1"


rule report:
    input:
        if_masks(f"{MASKS}/patch/{{shard}}.npz", f"{MASKS}/pixel/{{shard}}.npz"),
        lambda wildcards: expand(
            [
                f"{RUN}/segmentation/seed-{{seed}}/{{shard}}",
                *[f"{RUN}/counts/seed-{{seed}}/{{shard}}.npz"] * LABELLED,
            ],
            run=wildcards.run,
            seed=CONFIGS[wildcards.run].labelling.seeds[0],
            shard=SHARDS,
        ),
        manifest=f"{DATASET}/manifest.csv",
        images=LAYOUT.demo_input,
        labels=LAYOUT.labels_input,
        classes=CLASSES,
        tables=[f"{RUN}/tables/{name}.csv" for name in TABLES],
        analysis=lambda wildcards: [f"{DATASET}/{wildcards.run}/analysis"]
        * has_masks(wildcards.run),
        parts=parts_of,
        training=training_of,
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
    log:
        f"{RUN}/logs/report.log",
    benchmark:
        f"{RUN}/benchmarks/report.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("report"),
        masks=lambda wildcards: (
            f"--patch-masks {MASKS}/patch --pixel-masks {MASKS}/pixel".format(
                run=wildcards.run
            )
            if has_masks(wildcards.run)
            else ""
        ),
        analysis=option("analysis"),
        parts=option("parts"),
        training=option("training"),
        segmentation=lambda wildcards: (
            f"{DATASET}/{wildcards.run}/segmentation/"
            f"seed-{CONFIGS[wildcards.run].labelling.seeds[0]}"
        ),
        tables=f"--tables {RUN}/tables --counts {RUN}/counts" if LABELLED else "",
        per_image=option("per-image", of="per_image"),
        classes=classes_option,
        benchmarks=f"{RUN}/benchmarks",
        features=lambda wildcards: " ".join(
            f"--features {name}" for name in LAYOUT.shared_names(wildcards.run)
        ),
    shell:
        "python -m lightcluster.step report {params.settings:q} --manifest {input.manifest} "
        "{params.masks} --segmentation {params.segmentation} --benchmarks {params.benchmarks} "
        "{params.features} {params.analysis} {params.parts} {params.training} "
        "--output {output} {params.tables} {params.per_image} {params.classes} > {log} 2>&1"


rule write_dataset_page:
    input:
        expand(f"{RUN}/report", run=CONFIGS),
        [
            f"{DATASET}/{run}/segmentation/seed-{config.labelling.seeds[0]}/{shard}"
            for run, config in CONFIGS.items()
            for shard in SHARDS
        ],
        expand(f"{RUN}/tables/{{table}}.csv", run=CONFIGS, table=TABLES),
        manifest=f"{DATASET}/manifest.csv",
        images=LAYOUT.demo_input,
        labels=LAYOUT.labels_input,
        classes=CLASSES,
        figure=[f"{DATASET}/comparison/comparison.png"] * LAYOUT.compared,
        comparison=[f"{DATASET}/comparison/comparison.csv"] * LAYOUT.compared,
    output:
        f"{DATASET}/comparison/index.html",
    log:
        f"{DATASET}/logs/write_dataset_page.log",
    benchmark:
        f"{DATASET}/benchmarks/write_dataset_page.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("write_dataset_page"),
        folder=lambda wildcards, input: Path(input.manifest).parent,
        segmentations=" ".join(
            f"--segmentation {DATASET}/{run}/segmentation/seed-{config.labelling.seeds[0]}"
            for run, config in CONFIGS.items()
        ),
        comparison=option("comparison"),
        classes=classes_option,
    shell:
        "python -m lightcluster.step write-dataset-page {params.settings:q} --folder {params.folder} "
        "{params.segmentations} --output {output} {params.comparison} {params.classes} "
        "> {log} 2>&1"
