"""Two looks at a run before it starts: whether its input is sound, and how large it is."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lightcluster import places
from lightcluster.config import Config, parse_config
from lightcluster.config.fit import adoption_of
from lightcluster.configfiles import merge_files
from lightcluster.datasets.census import Census, findings
from lightcluster.datasets.entries import Entry
from lightcluster.datasets.formats.protocol import Painter
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.datasets.labels import Classes, built_in_classes, check_classes, read_classes
from lightcluster.datasets.listing import count_shards
from lightcluster.datasets.manifest import Truth, index_entries, read_truth
from lightcluster.datasets.others import NO_IMAGE, PASSED_OVER, describe_others, printable
from lightcluster.datasets.remarks import remarks
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.errors import ConfigError, ImageError, LightClusterError
from lightcluster.extraction.backbones.registry import find_family
from lightcluster.extraction.images import COLORS_PER_SIDE, image_size
from lightcluster.extraction.opening import outline
from lightcluster.extraction.weights import fetch_weights
from lightcluster.layout import RESULTS, Layout
from lightcluster.locations import source_of
from lightcluster.masks import crf
from lightcluster.methods.features import FEATURES
from lightcluster.methods.registry import method_of
from lightcluster.progress import progress

DEFAULT_CONFIG = Path("config/config.yaml")
SHOWN = 10
"""Rejected, missing or unlisted images and labels that `check` prints."""

FOR_THE_DEMO = (
    "the embedded backbone has seen drawings only and is for the demo; for your own images choose "
    "DINO, such as `model: vit_small_patch8_224.dino` with `weights: hub` or a file's path"
)


def read_configs(configfiles: Sequence[Path]) -> dict[str, Config]:
    """Read the configuration as snakemake does: `configfiles` over ``config/config.yaml``.

    Raises
    ------
    ConfigError
        If a file cannot be read, gives a key twice, or holds mistakes.
    """
    return parse_config(_merged(configfiles))


def _merged(configfiles: Sequence[Path]) -> dict[Any, Any]:
    default = [DEFAULT_CONFIG] if DEFAULT_CONFIG.exists() or not configfiles else []
    return merge_files([*default, *configfiles])


def check_all(configfiles: Sequence[Path]) -> int:
    """Check configuration, dataset and weights, and print what there is.

    A mistake in one of them does not keep the others from being checked, so that all mistakes are
    found at once.

    Returns
    -------
    int
        0 if a run would end well, also where it would leave out some images; else 1.

    Raises
    ------
    ConfigError
        If the configuration cannot be read at all.
    """
    console = Console()
    raw = _merged(configfiles)
    problems = warnings = 0
    try:
        configs, sections = parse_config(raw), {"dataset", "backbone"}
        console.print(f"configuration: sound, {len(configs)} run(s): {', '.join(configs)}")
    except ConfigError as error:
        console.print(f"configuration: {error}", style="red", markup=False, soft_wrap=True)
        problems += len(str(error).splitlines()) - 1  # its first line has their number
        configs, sections = _sound_part(raw)
    sound = not problems
    if "dataset" in sections:
        found, warned = _check_input(configs, console)
        problems, warnings = problems + found, warnings + warned
    if "backbone" in sections:
        found, warned = _check_backbones(configs, console)
        problems, warnings = problems + found, warnings + warned
    left = {"dataset", "backbone"} - sections
    if left:
        what = " and ".join(sorted(left))
        console.print(f"{what}: not checked, because of mistakes in the configuration")
    if sound:
        for problem in _check_layers(configs):
            console.print(problem, style="red", markup=False, soft_wrap=True)
            problems += 1
        for problem in _check_models(configs):
            console.print(f"fit.model: {problem}", style="red", markup=False, soft_wrap=True)
            problems += 1
        if not crf.INSTALLED and "crf" in _refinements(configs):
            console.print(crf.NEEDS_PYDENSECRF, style="red", markup=False, soft_wrap=True)
            problems += 1
    console.print(_verdict(problems, warnings), style="bold")
    return int(problems > 0)


def _refinements(configs: Mapping[str, Config]) -> set[str]:
    return {method_of(config).refined_by(config) for config in configs.values()}


def _sound_part(raw: Mapping[Any, Any]) -> tuple[dict[str, Config], set[str]]:
    """Return a configuration of dataset and backbones alone, and which of them have no mistake."""
    kept: dict[str, Any] = {}
    sections = set[str]()
    for section in ("dataset", "backbone"):
        own = {section: raw[section]} if section in raw else {}
        if _is_sound(own):
            kept |= own
            sections.add(section)
    given = raw.get("runs")
    backbones = {
        name: {"backbone": own["backbone"]}
        for name, own in (given.items() if isinstance(given, Mapping) else ())
        if isinstance(own, Mapping) and "backbone" in own
    }
    sound = {
        name: own for name, own in backbones.items() if _is_sound(kept | {"runs": {name: own}})
    }
    return parse_config(kept | ({"runs": sound} if sound else {})), sections


def _is_sound(raw: Mapping[Any, Any]) -> bool:
    try:
        parse_config(raw)
    except ConfigError:
        return False
    return True


def _check_input(configs: Mapping[str, Config], console: Console) -> tuple[int, int]:
    """Print what there is of a dataset and what is wrong, also where results are to be.

    Returns
    -------
    problems, warnings : int
    """
    dataset = next(iter(configs.values())).dataset
    problems = warnings = 0
    try:
        problems, warnings = _check_dataset(Layout(configs), console)
    except LightClusterError as error:
        _explain_layout(error, dataset, console)
        problems += 1
    for place in (".snakemake", f"{RESULTS}/{dataset.name}", f"{RESULTS}/{places.WEIGHTS}"):
        if problem := places.unwritable(Path(place)):
            console.print(problem, style="red", markup=False, soft_wrap=True)
            problems += 1
    return problems, warnings


def _check_backbones(configs: Mapping[str, Config], console: Console) -> tuple[int, int]:
    """Print what the weights are, and what is wrong with them.

    Returns
    -------
    problems, warnings : int
    """
    problems = warnings = 0
    for backbone in dict.fromkeys(config.backbone for config in configs.values()):
        try:
            found = _check_weights(Config(backbone=backbone))
            console.print(f"weights: {found}", markup=False, soft_wrap=True)
        except LightClusterError as error:
            console.print(f"weights: {error}", style="red", markup=False, soft_wrap=True)
            problems += 1
        drawn = FORMATS[next(iter(configs.values())).dataset.format].draws
        if backbone.source == "embedded" and not drawn:
            console.print(f"weights: {FOR_THE_DEMO}", style="yellow", soft_wrap=True)
            warnings += 1
    return problems, warnings


def _verdict(problems: int, warnings: int) -> str:
    """Return the last line of `check`: all is sound only where nothing is to be looked at."""
    if problems or not warnings:
        return f"{problems} problem(s)" if problems else "all sound"
    return f"usable, but look at {warnings} warning(s) above"


def _explain_layout(error: LightClusterError, dataset: DatasetSettings, console: Console) -> None:
    """Print what a dataset lacks and, of a dataset of the field, the commands that get it."""
    console.print(f"dataset: {error}", style="red", markup=False, soft_wrap=True)
    if commands := FORMATS[dataset.format].how_to_get(dataset):
        console.print("How to get and place it:", style="bold")
        console.print(commands, markup=False, highlight=False, soft_wrap=True)


def _check_dataset(layout: Layout, console: Console) -> tuple[int, int]:
    """Print the counts of a dataset and what is wrong with it.

    Returns
    -------
    problems, warnings : int
    """
    dataset = layout.dataset
    if layout.drawn:
        console.print(f"dataset: {layout.n_images} scenes will be generated")
        return 0, 0
    classes: Classes | None = None
    unclear = 0
    if layout.has_classes:
        source = layout.classes_source
        try:
            classes = read_classes(source) if source else built_in_classes(dataset.format)
            check_classes(classes, dataset.background, dataset.ignore)
        except LightClusterError as error:
            console.print(f"dataset: {error}", style="red", markup=False, soft_wrap=True)
            unclear = 1
    entries = layout.all_entries()
    maps = sum(entry.label is not None for entry in entries)
    of_truth = f"{maps} label maps, {len(classes.ids) if classes else 'no'} classes, "
    console.print(
        f"dataset: {len(entries)} images, {of_truth * layout.labelled}{len(layout.shards)} shard(s)"
    )
    painter = layout.format.painter(dataset)
    missing = [] if painter is None else painter.remarks
    _list(missing, console, "yellow")
    census = Census()
    rows, rejections = index_entries(
        entries,
        classes,
        ignore=dataset.ignore,
        max_pixels=dataset.max_pixels,
        depth=dataset.depth,
        truth=read_truth if painter is None else _painting(painter),
        census=census,
    )
    labelled = sum(row.label is not None for row in rows)
    of_them = f", {labelled} of them with labels" + ", to be painted" * layout.painted
    console.print(f"dataset: {len(rows)} images can be used{of_them * layout.labelled}")
    stops = dataset.on_bad_image == "stop" or not rows
    rejected = [f"{item.what} {item.image_id!r}: {item.reason}" for item in rejections]
    _list(rejected, console, "red" if stops else "yellow")
    warnings = [] if painter is None else _not_there(layout, painter)
    for item in findings(
        census, classes, background=dataset.background, ignore=dataset.ignore,
        own=layout.format.own, labelled=layout.labelled and not unclear,
    ):  # fmt: skip
        if item.is_warning:
            warnings.append(item.text)
        else:
            console.print(f"  {item.text}", markup=False, soft_wrap=True)
    unusual = list(remarks(rows))
    warnings += [remark.text for remark in unusual if remark.warning] + _passed_over(layout)
    warnings += _two_levels_alike(layout, len(rows))
    _list(warnings, console, "yellow")
    no_images = describe_others(one for one in layout.others if one.what == NO_IMAGE)
    _list([*(remark.text for remark in unusual if not remark.warning), *no_images], console, "")
    problems, passable = (len(rejections), 0) if stops else (0, len(rejections))
    if layout.labelled and not labelled and not unclear:
        console.print("  no label fits an image: nothing can be evaluated", style="red")
        problems += 1
    return problems + unclear, len(warnings) + len(missing) + passable


def _passed_over(layout: Layout) -> list[str]:
    """Return a line for each suffix of pictures that are not read."""
    return [
        f"{printable(one.pattern)}: {one.reason}"
        for one in layout.others
        if one.what == PASSED_OVER
    ]


def _two_levels_alike(layout: Layout, images: int) -> list[str]:
    """Return a line for each run of whose merged levels two are the same, for want of images."""
    from lightcluster.clustering.superclasses import number_of_superclasses

    return [
        f"run {run!r}: {images} images make one superclass, so that the category level repeats "
        "the dataset level; set superclasses.count, or leave reestimation.rounds and "
        "reestimation.start as they are by default"
        for run, config in layout.configs.items()
        if layout.has_masks(run)
        and config.fit.model is None
        and config.superclasses.count == "auto"
        and number_of_superclasses("auto", images) == 1
        and config.clustering.k_category == config.clustering.k_dataset
        and (config.reestimation.rounds == 0 or config.reestimation.start == "merged")
    ]


def _not_there(layout: Layout, painter: Painter) -> list[str]:
    """Return a line that names images that annotations list and that are not there, if any are."""
    if layout.dataset.image_list is not None:
        return []  # they are left out on purpose
    there = {PurePosixPath(entry.image_id).name for entry in layout.all_entries()}
    if not (gone := [name for name in painter.names() if name not in there]):
        return []
    return [
        f"{len(gone)} of {len(painter.names())} images that the annotations list are not there, "
        f"such as {gone[0]!r}"
    ]


def _list(lines: Sequence[str], console: Console, style: str = "red") -> None:
    """Print the first of some lines, and how many more there are."""
    for line in lines[:SHOWN]:
        console.print(f"  {line}", style=style, markup=False, soft_wrap=True)
    if len(lines) > SHOWN:
        console.print(f"  and {len(lines) - SHOWN} more")


def _painting(painter: Painter) -> Truth:
    """Return what paints the label map of an image, as the workflow will."""
    return lambda entry, label, size: painter.paint(
        PurePosixPath(entry.image_id).name, size
    ).astype(np.uint16)


def _check_models(configs: Mapping[str, Config]) -> Iterator[str]:
    """Yield what is wrong with what runs apply in the place of fitting."""
    for config in configs.values():
        folder = config.fit.model
        if folder is None:
            continue
        try:
            adoption_of(config).check(folder, config)
        except LightClusterError as error:
            yield str(error)


def _check_layers(configs: Mapping[str, Config]) -> Iterator[str]:
    """Yield the mistake of each layer that its backbone does not have, once."""
    asked = dict.fromkeys(
        (config.backbone.model, config.features.layer)
        for config in configs.values()
        if FEATURES in method_of(config).shared
    )
    for model, layer in asked:
        if layer == "auto":
            continue
        try:
            outline(model).resolve_layer(layer)
        except ConfigError as error:
            yield f"{error} (backbone.model: {model})"
        except LightClusterError:  # which is said of its weights
            continue


def _check_weights(config: Config) -> str:
    """Return what the weights are, after reading them as the workflow does.

    Raises
    ------
    WeightsError
        If they cannot be read or do not fit the model.
    """
    backbone, source = config.backbone, config.backbone.source
    if source == "hub":
        family, _ = find_family(backbone.model)
        return f"{backbone.model}: {family.locate(backbone.model, backbone.revision)}"
    with tempfile.TemporaryDirectory() as folder:
        record = fetch_weights(
            backbone.model, source, backbone.file, backbone.seed,
            Path(folder, "weights.safetensors"),
        )  # fmt: skip
    if source == "none":
        return f"{backbone.model}: no network, patch {record.patch_size}, {record.dim} features"
    return (
        f"{backbone.model}: {record.parameters / 1e6:.1f} M parameters from "
        f"{backbone.weights}, patch {record.patch_size}, {record.dim} features"
        + (f"; of several networks in it, {record.taken}" if record.taken else "")
    )


_COLOR_BYTES = 3 * COLORS_PER_SIDE**2
"""Bytes per patch in the feature store."""


@dataclass(frozen=True)
class Size:
    """Size of one set of features.

    Attributes
    ----------
    images, tokens : int
        Images that can be read, or the parts of them that a method looks at; and their patches.
    dim : int
        Features of a patch.
    pixels : int
        Of the images as they are stored.
    """

    images: int
    tokens: int
    dim: int
    pixels: int = 0

    @property
    def cache_bytes(self) -> int:
        """The feature store on disk."""
        return self.tokens * (2 * (self.dim + 1) + _COLOR_BYTES) + self.images * (4 * self.dim + 40)


def measure(entries: Sequence[Entry], config: Config) -> Size:
    """Return the size of the features of a run, from the headers of its images alone."""
    backbone = outline(config.backbone.model)
    images = tokens = pixels = 0
    for entry in progress(entries, "headers"):
        try:
            height, width = image_size(source_of(entry.path), config.dataset.max_pixels)
        except ImageError:
            continue
        seen, of_image = method_of(config).views(height, width, config, backbone.patch_size)
        images += seen
        tokens += of_image
        pixels += height * width
    return Size(images, tokens, backbone.dim, pixels)


def peak_bytes(size: Size, config: Config) -> int:
    """Return about how much memory the largest job that gathers all shards takes."""
    return method_of(config).peak_bytes(size.images, size.tokens, size.dim, config)


_PYTHON_BYTES, _TOKEN_BYTES, _PIXEL_BYTES = 150e6, 40, 1 / 4
"""Memory of a job that holds the masks of a shard: of Python and its packages, of each patch (the
scores), and of each pixel (a bit in the mask, and a copy). See `benchmarks/README.md`."""

_REQUESTED = 2e9
"""Memory that these jobs request at first, see `mem_mb` in `rules/methods/lightcluster.smk`."""


def shard_bytes(size: Size, shards: int) -> float:
    """Return about how much memory a job takes that holds the masks of a shard."""
    return _PYTHON_BYTES + (_TOKEN_BYTES * size.tokens + _PIXEL_BYTES * size.pixels) / shards


def _describe_shards(layout: Layout, sizes: Mapping[str, Size]) -> Iterator[str]:
    """Yield how large a shard is and, if that is too large, a better `dataset.shard_size`."""
    count = len(layout.shards)
    each = layout.n_images / count
    with_masks = [run for run in layout.configs if layout.has_masks(run)]
    of_runs = [sizes[" and ".join(layout.features_names(run))] for run in with_masks]
    largest = max((shard_bytes(size, count) for size in of_runs), default=0)
    yield f"a shard has about {each:,.0f} images" + (
        f"; its jobs need about {_readable(largest)} of memory" if largest else ""
    )
    if largest > _REQUESTED:
        fitting = each * (_REQUESTED - _PYTHON_BYTES) / (largest - _PYTHON_BYTES)
        better = 2 ** int(math.log2(max(1, fitting)))
        yield (
            f"  more than the {_readable(_REQUESTED)} that they request: set "
            f"`dataset: {{shard_size: {better}}}`, which gives "
            f"{count_shards(layout.n_images, better):,} shards, or raise their mem_mb"
        )


def print_plan(configfiles: Sequence[Path]) -> None:
    """Print images, patches, bytes of features, peak memory and jobs of a configuration."""
    console = Console()
    layout = Layout(read_configs(configfiles))
    table = Table("run", "seen", "patches", "features", "gather jobs", "features shared as")
    sizes: dict[str, Size] = {}
    for run, config in layout.configs.items():
        name = " and ".join(layout.features_names(run))
        if layout.drawn and not Path(layout.scenes).is_dir():
            console.print("the demo's scenes are not generated yet: 240 x 320 pixels are assumed")
            entries = []
        else:
            entries = layout.all_entries()
        if name not in sizes:
            sizes[name] = measure(entries, config) if entries else _assumed(layout, config)
        size = sizes[name]
        table.add_row(
            run, f"{size.images:,}", f"{size.tokens:,}", _readable(size.cache_bytes),
            f"~{_readable(peak_bytes(size, config))}", name,
        )  # fmt: skip
    console.print(table)
    total = sum(size.cache_bytes for size in sizes.values())
    free = shutil.disk_usage(Path()).free
    console.print(f"features of all runs: {_readable(total)}; free on this disk: {_readable(free)}")
    if total > free:
        console.print("the disk is too small for the features", style="bold red")
    jobs = layout.count_jobs()
    console.print(f"{sum(jobs.values()):,} jobs in {len(layout.shards)} shard(s), if none is done:")
    console.print(", ".join(f"{name} {count:,}" for name, count in jobs.items()))
    for line in _describe_shards(layout, sizes):
        console.print(line, soft_wrap=True)
    for line in _describe_time(layout, sizes):
        console.print(line, soft_wrap=True)


def _describe_time(layout: Layout, sizes: Mapping[str, Size]) -> Iterator[str]:
    """Yield how long the runs will take on this machine, after a measurement of some seconds."""
    from lightcluster.estimate import Speed, measure_speed  # faiss and more with it

    cores, seconds = len(os.sched_getaffinity(0)), 0.0
    speeds: dict[str, Speed] = {}
    for run, config in layout.configs.items():
        name = " and ".join(layout.features_names(run))
        size = sizes[name]
        if name not in speeds:
            speeds[name] = measure_speed(config, size.tokens // max(1, size.images), cores)
            seconds += speeds[name].of_features(size.tokens)
        patch = outline(config.backbone.model).patch_size
        seconds += speeds[name].of_run(
            layout.n_images, (config.regions.crop_size // patch) ** 2,
            shards=len(layout.shards), masks=layout.has_masks(run),
        )  # fmt: skip
    devices = {f"one {speed.device}" for speed in speeds.values() if speed.device != "cpu"}
    machine = " and ".join([f"the {cores} cores", *devices])
    yield f"time: about {_duration(seconds)} on {machine} of this machine"
    yield (
        "  an estimate, from passes of the backbone with random weights and the refinement of one "
        "mask, timed just now: it may be off by a half, and by more on a busy machine"
    )
    trained = [
        run
        for run, config in layout.configs.items()
        if config.fit.model is None and any(one.seeded for one in method_of(config).shared)
    ]
    if trained:
        yield f"  not included: the training of {', '.join(map(repr, trained))}"


def _duration(seconds: float) -> str:
    """Return a time in the unit that fits it."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _assumed(layout: Layout, config: Config) -> Size:
    """Return the size of the features of demo scenes that are not drawn yet."""
    backbone = outline(config.backbone.model)
    seen, tokens = method_of(config).views(240, 320, config, backbone.patch_size)
    return Size(layout.n_images * seen, layout.n_images * tokens, backbone.dim)


def _readable(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
