"""The steps that write a model, or take one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightcluster.step.arguments import OptionalPath, Settings, Shards, app, chosen
from lightcluster.threads import use_threads


@app.command()
def adopt_fit(
    settings: Settings,
    weights: Annotated[Path, typer.Option()],
    output: Annotated[list[Path], typer.Option()],
) -> None:
    """Take levels and foreground of a model."""
    from lightcluster.model.adoption import adopt_fit as step

    step(Path(settings["fit"]["model"]), weights, output)


@app.command()
def adopt_superclasses(
    settings: Settings, shards: Shards,
    features: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Assign the images to the superclasses of a model."""
    use_threads(1)
    from lightcluster.model.adoption import adopt_superclasses as step

    stores = [features / f"{shard:04d}.zarr" for shard in range(shards)]
    step(Path(settings["fit"]["model"]), stores, output)


@app.command()
def adopt_labelling(
    settings: Settings,
    seed: Annotated[int, typer.Option(min=0)], output: Annotated[Path, typer.Option()],
    palette: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Take the classes of a model."""
    from lightcluster.model.adoption import adopt_labelling as step

    step(Path(settings["fit"]["model"]), seed, output, palette)


@app.command()
def export_model(
    settings: Settings,
    weights: Annotated[Path, typer.Option()], clusters: Annotated[Path, typer.Option()],
    masks: Annotated[Path, typer.Option()], labelling: Annotated[Path, typer.Option()],
    palettes: Annotated[Path, typer.Option()], dataset: Annotated[str, typer.Option()],
    run: Annotated[str, typer.Option()], output: Annotated[Path, typer.Option()],
    choice: OptionalPath = None,
) -> None:  # fmt: skip
    """Write the folder with which `segment` segments new images."""
    from lightcluster.model.folder import export_model as step

    del settings["version"]
    split = settings.pop("dataset.split")
    features = settings["features"]
    facet, layer = chosen(features["facet"], features["layer"], choice)
    arrays = {name: clusters / f"{name}.npz" for name in ("dataset", "superclasses", "category")}
    arrays |= {name: masks / f"{name}.npz" for name in ("foreground", "trees")}
    step(
        arrays, weights, labelling, palettes, output,
        sections=settings, dataset=dataset, run=run, split=split, facet=facet, layer=layer,
    )  # fmt: skip
