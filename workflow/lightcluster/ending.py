"""The message at the end of a run: the results and where they are, or what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightcluster.datasets.others import describe_others
from lightcluster.layout import Layout, read_choice
from lightcluster.methods.features import FEATURES
from lightcluster.methods.protocol import seen_labels
from lightcluster.methods.registry import method_of


def unfinished(layout: Layout) -> Iterator[str]:
    """Yield the lines that end a failed run: which shards lack what, and how to go on."""
    folder = Path(layout.dataset_folder)
    yield ""
    yield f"LightCluster is not finished with dataset {layout.dataset.name!r}. What is missing:"
    for run, config in layout.configs.items():
        seed = layout.painted_seeds(run)[-1]
        made = {"manifest": (folder / "manifest", ".csv")}  # by a shard, from first to last
        for what, (place, suffix) in method_of(config).progress.items():
            if isinstance(place, str):
                made[what] = (folder / run / place, suffix)
            else:
                made[what] = (Path(layout.shared_folder(run, place.wildcard)), suffix)
        made["segmentations"] = (folder / run / "segmentation" / f"seed-{seed}", "")
        lacking: dict[str, list[str]] = {what: [] for what in made}
        for shard in layout.shards:
            missing = (
                what
                for what, (place, suffix) in made.items()
                if not (place / f"{shard}{suffix}").exists()
            )
            if first := next(missing, None):
                lacking[first].append(shard)
        for what, shards in lacking.items():
            if shards:
                images = sum(len(layout.entries(shard)) for shard in shards)
                shown = ", ".join(shards[:8]) + (", …" if len(shards) > 8 else "")
                yield f"  run {run!r}: no {what} of shard {shown} ({images} images)"
        if not any(lacking.values()) and not (folder / run / "report").is_dir():
            yield f"  run {run!r}: its report or tables"
    yield "What is finished is kept: the same command goes on from there. The logs of the steps are"
    yield f"below {folder}."


def _remarks(layout: Layout) -> Iterator[str]:
    """Yield what images and label maps hold; what looks like a mistake is marked."""
    from lightcluster.datasets.census import findings, read_census  # numpy with it
    from lightcluster.datasets.labels import read_classes

    folder, dataset = Path(layout.dataset_folder), layout.dataset
    found = findings(
        read_census([folder / "census.csv"]),
        read_classes(folder / "classes.csv") if layout.has_classes else None,
        background=dataset.background,
        ignore=dataset.ignore,
        own=layout.format.own,
        labelled=layout.labelled,
    )
    for item in found:
        yield f"  {'WARNING: ' * item.is_warning}{item.text}"


def summary(layout: Layout) -> Iterator[str]:
    """Yield the lines that end a successful run: what came out and where it is."""
    folder = Path(layout.dataset_folder)
    painted = {
        run: folder / run / "segmentation" / f"seed-{config.labelling.seeds[0]}"
        for run, config in layout.configs.items()
    }
    if not all((folder / run / "report").is_dir() and painted[run].is_dir() for run in painted):
        return  # only a part was asked for
    from lightcluster.datasets.manifest import count_rejected, first_rejected, read_manifest
    from lightcluster.datasets.remarks import remarks
    from lightcluster.names.listing import describe_carried
    from lightcluster.names.run import open_named

    rejected = count_rejected(folder / "rejected.csv")
    rows = read_manifest(folder / "manifest.csv")
    every = "" if len(rows) == layout.n_images else f" of {layout.n_images}"
    yield ""
    yield f"LightCluster is done: {len(rows)}{every} images of dataset {layout.dataset.name!r}."
    if rejected:
        noun = "images or labels" if rejected > 1 else "image or label"
        yield f"  {rejected} {noun} could not be used: {folder / 'rejected.csv'}"
        yield from (f"    {line}" for line in first_rejected(folder / "rejected.csv"))
    yield from _remarks(layout)
    yield from (f"  {line}" for line in describe_others(layout.others))
    yield from (f"  {remark.text}" for remark in remarks(rows))
    for run, config in layout.configs.items():
        here = folder / run
        yield f"Run {run!r}:"
        if config.features.automatic and FEATURES in method_of(config).shared:
            choice = Path(layout.features_folder(run)) / "choice.csv"
            facet, layer = read_choice(choice)
            yield f"  {facet} of layer {layer}, chosen without labels: {choice}"
        fitted_on = layout.fitted_on(run)
        if config.fit.model is not None:
            yield f"  fitted on {fitted_on}: {config.fit.model}"
        elif seen_labels(fitted_on):
            yield f"  fitted on {fitted_on}"
        if layout.labelled:
            import pandas as pd

            from lightcluster.reporting.summary import summary_lines

            table = pd.read_csv(here / "tables" / "metrics.csv", dtype={"seed": str})
            yield from (f"  {line}" for line in summary_lines(table))
            yield f"  scores         {here / 'tables' / 'metrics.csv'}"
        yield f"  report         {here / 'report' / 'index.html'}"
        if layout.has_gallery(run):
            yield f"  gallery        {here / 'gallery' / 'index.html'}"
        yield f"  segmentations  {painted[run]}/"
        yield from (f"  {line}" for line in describe_carried(open_named(painted[run])))
        lines = method_of(config).results(here, config.fit.model is None)
        yield from (f"  {line}" for line in lines)
    if layout.compared:
        yield f"Comparison: {folder / 'comparison' / 'comparison.csv'}, and .png"
    if layout.paged:
        yield f"All runs on one page: {folder / 'comparison' / 'index.html'}"
