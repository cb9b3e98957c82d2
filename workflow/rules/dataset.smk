if LAYOUT.format.step == "generate_demo":

    use rule generate_demo from step with:
        output:
            directory(f"{DATASET}/scenes"),
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=30,


if CLASSES:

    use rule read_classes from step with:
        input:
            LAYOUT.demo_input,
        output:
            CLASSES,
        localrule: True
        resources:
            mem_mb=500,
            runtime=5,
        params:
            options=options(source=lambda wildcards: LAYOUT.classes_source),
            content=lambda wildcards: LAYOUT.classes_stamp,


if LAYOUT.format.step == "paint_labels":

    use rule paint_labels from step with:
        output:
            directory(LAYOUT.painted_labels),
        resources:
            mem_mb=lambda wildcards, attempt: 8000 * attempt,
            runtime=lambda wildcards, attempt: 120 * attempt,
        params:
            files=lambda wildcards: LAYOUT.images_stamp,
            annotations=lambda wildcards: LAYOUT.annotations_stamp,


use rule index_dataset from step with:
    input:
        LAYOUT.demo_input,
        LAYOUT.painted_input,
        classes=CLASSES,
    output:
        manifest=f"{DATASET}/manifest/{{shard}}.csv",
        rejected=f"{DATASET}/manifest/{{shard}}.rejected.csv",
        census=f"{DATASET}/manifest/{{shard}}.census.csv",
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        options=options(generated=LAYOUT.generated, lists=LAYOUT.lists),
        # Names and contents of the shard's files: it alone runs again when one is replaced.
        files=lambda wildcards: LAYOUT.files_stamp(wildcards.shard),


use rule gather_manifest from step with:
    input:
        expand(f"{DATASET}/manifest/{{shard}}.census.csv", shard=SHARDS),
        manifests=expand(f"{DATASET}/manifest/{{shard}}.csv", shard=SHARDS),
    output:
        manifest=f"{DATASET}/manifest.csv",
        census=f"{DATASET}/census.csv",
    localrule: True
    resources:
        mem_mb=500,
        runtime=10,


# A rule of its own: files that are no images may come and go, and nothing else runs again.
use rule gather_rejected from step with:
    input:
        rejections=expand(f"{DATASET}/manifest/{{shard}}.rejected.csv", shard=SHARDS),
    output:
        f"{DATASET}/rejected.csv",
    localrule: True
    resources:
        mem_mb=500,
        runtime=10,
    params:
        options=options(generated=LAYOUT.generated, lists=LAYOUT.lists),
        others=lambda wildcards: digest_others(LAYOUT.others),
