# A fitted run as a folder, and the runs that apply one in the place of fitting.


rule adopt_fit:
    input:
        weights=weights_of,
        record=weights_record_of,
    output:
        f"{RUN}/clusters/dataset.npz",
        f"{RUN}/clusters/category.npz",
        f"{MASKS}/foreground.npz",
        f"{MASKS}/trees.npz",
    log:
        f"{RUN}/logs/adopt_fit.log",
    benchmark:
        f"{RUN}/benchmarks/adopt_fit.tsv"
    wildcard_constraints:
        run=runs_with("adopt_fit"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=settings("adopt_fit"),
        content=lambda wildcards: LAYOUT.model_stamp(wildcards.run),
        outputs=lambda wildcards, output: " ".join(
            f"--output {path}" for path in output
        ),
    shell:
        "python -m lightcluster.step adopt-fit {params.settings:q} --weights {input.weights} "
        "{params.outputs} > {log} 2>&1"


rule adopt_superclasses:
    input:
        stores_of,
        f"{DATASET}/manifest.csv",  # fails if no image can be used
    output:
        f"{RUN}/clusters/superclasses.npz",
    log:
        f"{RUN}/logs/adopt_superclasses.log",
    benchmark:
        f"{RUN}/benchmarks/adopt_superclasses.tsv"
    wildcard_constraints:
        run=runs_with("adopt_superclasses"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        settings=settings("adopt_superclasses"),
        content=lambda wildcards: LAYOUT.model_stamp(wildcards.run),
        shards=len(SHARDS),
        features=lambda wildcards: LAYOUT.features_folder(wildcards.run),
    shell:
        "python -m lightcluster.step adopt-superclasses {params.settings:q} {params.shards} "
        "--features {params.features} --output {output} > {log} 2>&1"


rule adopt_labelling:
    output:
        labelling=f"{RUN}/classes/seed-{{seed}}.npz",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    log:
        f"{RUN}/logs/adopt_labelling/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/adopt_labelling/seed-{{seed}}.tsv"
    wildcard_constraints:
        run=runs_with("adopt_labelling"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=settings("adopt_labelling"),
        content=lambda wildcards: LAYOUT.model_stamp(wildcards.run),
    shell:
        "python -m lightcluster.step adopt-labelling {params.settings:q} --seed {wildcards.seed} "
        "--output {output.labelling} --palette {output.palette} > {log} 2>&1"


rule export_model:
    input:
        weights=weights_of,
        record=weights_record_of,
        choice=choice_of_run,
        dataset=f"{RUN}/clusters/dataset.npz",
        superclasses=f"{RUN}/clusters/superclasses.npz",
        category=f"{RUN}/clusters/category.npz",
        foreground=f"{MASKS}/foreground.npz",
        trees=f"{MASKS}/trees.npz",
        labellings=each_seed(f"{RUN}/classes/seed-{{seed}}.npz"),
        palettes=each_seed(f"{RUN}/segmentation/seed-{{seed}}/classes.csv"),
    output:
        directory(f"{RUN}/model"),
    log:
        f"{RUN}/logs/export_model.log",
    benchmark:
        f"{RUN}/benchmarks/export_model.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings("export_model"),
        clusters=lambda wildcards, input: Path(input.dataset).parent,
        masks=lambda wildcards, input: Path(input.foreground).parent,
        labelling=f"{RUN}/classes",
        palettes=f"{RUN}/segmentation",
        dataset=LAYOUT.dataset.name,
        choice=option("choice"),
    shell:
        "python -m lightcluster.step export-model {params.settings:q} --weights {input.weights} "
        "--clusters {params.clusters} --masks {params.masks} --labelling {params.labelling} "
        "--palettes {params.palettes} --dataset {params.dataset} --run {wildcards.run} "
        "--output {output} {params.choice} > {log} 2>&1"
