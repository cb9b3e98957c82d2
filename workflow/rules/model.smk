# A fitted run as a folder, and the runs that apply one in the place of fitting.


use rule adopt_fit from step with:
    input:
        weights_record_of,
        weights=weights_of,
    output:
        f"{RUN}/clusters/dataset.npz",
        f"{RUN}/clusters/category.npz",
        f"{MASKS}/foreground.npz",
        f"{MASKS}/trees.npz",
    resources:
        mem_mb=500,
        runtime=10,
    params:
        content=lambda wildcards: LAYOUT.model_stamp(wildcards.run),


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
        content=lambda wildcards: LAYOUT.model_stamp(wildcards.run),


use rule adopt_labelling from step with:
    output:
        f"{RUN}/classes/seed-{{seed}}.npz",
        palette=f"{RUN}/segmentation/seed-{{seed}}/classes.csv",
    resources:
        mem_mb=500,
        runtime=10,
    params:
        content=lambda wildcards: LAYOUT.model_stamp(wildcards.run),


use rule export_model from step with:
    input:
        weights_record_of,
        each_seed(f"{RUN}/classes/seed-{{seed}}.npz"),
        each_seed(f"{RUN}/segmentation/seed-{{seed}}/classes.csv"),
        weights=weights_of,
        choice=choice_of_run,
        dataset_level=f"{RUN}/clusters/dataset.npz",
        superclasses=f"{RUN}/clusters/superclasses.npz",
        category_level=f"{RUN}/clusters/category.npz",
        foreground=f"{MASKS}/foreground.npz",
        trees=f"{MASKS}/trees.npz",
    output:
        directory(f"{RUN}/model"),
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=options(
            labelling=f"{RUN}/classes",
            palettes=f"{RUN}/segmentation",
            dataset=LAYOUT.dataset.name,
        ),
