if LAYOUT.drawn:

    rule generate_demo:
        output:
            directory(f"{DATASET}/scenes"),
        log:
            f"{DATASET}/logs/generate_demo.log",
        benchmark:
            f"{DATASET}/benchmarks/generate_demo.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=30,
        params:
            settings=settings("generate_demo"),
        shell:
            "python -m lightcluster.step generate-demo {params.settings:q} {output} > {log} 2>&1"


if CLASSES:

    localrules:
        read_classes,

    rule read_classes:
        input:
            LAYOUT.demo_input,
        output:
            CLASSES,
        log:
            f"{DATASET}/logs/read_classes.log",
        benchmark:
            f"{DATASET}/benchmarks/read_classes.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=500,
            runtime=5,
        params:
            settings=settings("read_classes"),
            source=classes_source,
            content=lambda wildcards: LAYOUT.classes_stamp,
        shell:
            "python -m lightcluster.step read-classes {params.settings:q} {output} {params.source:q} "
            "> {log} 2>&1"


if LAYOUT.painted:

    rule paint_labels:
        output:
            directory(LAYOUT.painted_labels),
        log:
            f"{DATASET}/logs/paint_labels.log",
        benchmark:
            f"{DATASET}/benchmarks/paint_labels.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 8000 * attempt,
            runtime=lambda wildcards, attempt: 120 * attempt,
        params:
            settings=settings("paint_labels"),
            files=lambda wildcards: LAYOUT.images_stamp,
            annotations=lambda wildcards: LAYOUT.annotations_stamp,
        shell:
            "python -m lightcluster.step paint-labels {params.settings:q} {output} > {log} 2>&1"


rule index_dataset:
    input:
        LAYOUT.demo_input,
        LAYOUT.painted_input,
        classes=CLASSES,
    output:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        rejected=f"{DATASET}/manifest/{{shard}}.rejected.csv",
        census=f"{DATASET}/manifest/{{shard}}.census.csv",
    log:
        f"{DATASET}/logs/index_dataset/{{shard}}.log",
    benchmark:
        f"{DATASET}/benchmarks/index_dataset/{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=settings("index_dataset"),
        # Names and contents of the shard's files: it alone runs again when one is replaced.
        files=lambda wildcards: LAYOUT.files_stamp(wildcards.shard),
        classes=classes_option,
        shards=len(SHARDS),
        generated=lambda wildcards: LAYOUT.generated,
    shell:
        "python -m lightcluster.step index-dataset {params.settings:q} {wildcards.shard} "
        "{params.shards} --generated {params.generated} --manifest {output.manifest} "
        "--rejected {output.rejected} --census {output.census} {params.classes} > {log} 2>&1"


rule gather_manifest:
    input:
        expand(f"{DATASET}/manifest/{{shard}}.csv", shard=SHARDS),
        expand(f"{DATASET}/manifest/{{shard}}.census.csv", shard=SHARDS),
    output:
        manifest=f"{DATASET}/manifest.csv",
        census=f"{DATASET}/census.csv",
    log:
        f"{DATASET}/logs/gather_manifest.log",
    benchmark:
        f"{DATASET}/benchmarks/gather_manifest.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=settings("gather_manifest"),
        shards=len(SHARDS),
        folder=lambda wildcards, input: Path(input[0]).parent,
    shell:
        "python -m lightcluster.step gather-manifest {params.folder} {params.shards} "
        "--manifest {output.manifest} --census {output.census} > {log} 2>&1"


# A rule of its own: files that are no images may come and go, and nothing else runs again.
rule gather_rejected:
    input:
        expand(f"{DATASET}/manifest/{{shard}}.rejected.csv", shard=SHARDS),
    output:
        f"{DATASET}/rejected.csv",
    log:
        f"{DATASET}/logs/gather_rejected.log",
    benchmark:
        f"{DATASET}/benchmarks/gather_rejected.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=settings("gather_rejected"),
        shards=len(SHARDS),
        folder=lambda wildcards, input: Path(input[0]).parent,
        generated=lambda wildcards: LAYOUT.generated,
        others=lambda wildcards: digest_others(LAYOUT.others),
    shell:
        "python -m lightcluster.step gather-rejected {params.settings:q} {params.folder} "
        "{params.shards} {output} --generated {params.generated} > {log} 2>&1"
