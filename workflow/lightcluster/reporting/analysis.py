"""Figures that show what was clustered: patches, superclasses and the regions of each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lightcluster.clustering.kmeans import Metric, assign, fit_kmeans, normalize
from lightcluster.clustering.sample import read_sample
from lightcluster.clustering.superclasses import superclasses_of_shard
from lightcluster.datasets.labels import IGNORED, Classes, open_label, read_classes, to_indices
from lightcluster.datasets.manifest import Row, read_manifest
from lightcluster.errors import ImageError
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import decode_names, read_arrays, replacing
from lightcluster.masks.patches import Patches, read_patch_scores
from lightcluster.regions.labelling import principal_components, read_labelling
from lightcluster.reporting.figures import save_figure
from lightcluster.reporting.lettering import fit_text, font, printable
from lightcluster.reporting.overlays import FAINT, INK, PAPER, resize_nearest
from lightcluster.reporting.tiles import TILE, Nearest, Tile, cut_tile
from lightcluster.shards import Shards

MOST_PATCHES = 4_000
"""Dots in each panel of the figure of patches."""

MOST_IMAGES = 200
"""Images that these patches are of: each one's label is read."""

TYPICAL = 8
"""Images of a superclass, and regions of a class, that are shown."""

MOST_GROUPS = 40
"""Superclasses, and classes, that are shown."""

GAP, HEADING = 6, 20
CLUSTERS = (2, 3, 4)


def typical_images(stores: Mapping[str, Path], superclasses: Path) -> Nearest:
    """Find the images nearest to the centroid of their superclass, by their CLS tokens."""
    centroids = read_arrays(superclasses, "centroids")["centroids"]
    nearest = Nearest(TYPICAL)
    for number, (shard, path) in enumerate(stores.items()):
        store, groups = FeatureStore.open(path), superclasses_of_shard(superclasses, number)
        similarity = (normalize(store.cls, "l2") * centroids[groups]).sum(axis=1)
        for index, image_id in enumerate(store.image_id):
            tile = Tile(float(similarity[index]), shard, image_id, None)
            nearest.add(int(groups[index]), tile, index)
    return nearest


def typical_regions(regions: Mapping[str, Path], labelling: Path) -> Nearest:
    """Find the regions nearest to the centroid of their class."""
    fitted, nearest = read_labelling(labelling), Nearest(TYPICAL)
    for shard, path in regions.items():
        arrays = read_arrays(path, "image_id", "image", "box", *fitted.features)
        image_ids = decode_names(arrays["image_id"])
        points = fitted.project(arrays)
        nearest_centroid = assign(points, fitted.centroids)
        similarity = (points * fitted.centroids[nearest_centroid]).sum(axis=1)
        for index, group in enumerate((nearest_centroid + 1).tolist()):
            top, left, bottom, right = arrays["box"][index].tolist()
            image_id = image_ids[arrays["image"][index]]
            tile = Tile(float(similarity[index]), shard, image_id, (top, left, bottom, right))
            nearest.add(group, tile, index)
    return nearest


def draw_montage(lines: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """Draw lines of pictures, each below its heading.

    Parameters
    ----------
    lines : sequence of (str, sequence of Image)
        At least one; pictures fit into a square of `TILE` pixels.
    """
    pitch = HEADING + TILE + 2 * GAP
    page = Image.new("RGB", (GAP + TYPICAL * (TILE + GAP), GAP + len(lines) * pitch), PAPER)
    draw, face = ImageDraw.Draw(page), font(12)
    for number, (heading, pictures) in enumerate(lines):
        top = GAP + number * pitch
        text = fit_text(printable(heading), page.width - 2 * GAP, face)
        draw.text((GAP, top), text, fill=INK if pictures else FAINT, font=face)
        for column, picture in enumerate(pictures):
            page.paste(picture, (GAP + column * (TILE + GAP), top + HEADING))
    return page


def patch_classes(
    patches: Patches, number: int, row: Row, classes: Classes, ignore: int
) -> NDArray[np.int64]:
    """Return the class at the centre of each patch of an image, -1 where there is none.

    Returns
    -------
    int64 array, shape (patches,)
        Positions of classes.
    """
    grid = (int(patches.grid[number, 0]), int(patches.grid[number, 1]))
    if row.label is None:
        return np.full(grid[0] * grid[1], -1)
    truth = to_indices(open_label(row.label, (row.height, row.width)), classes, ignore)
    small = resize_nearest(truth, grid).astype(np.int64).ravel()
    return np.where(small == IGNORED, -1, small)


def plot_patches(
    features: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    truth: NDArray[np.int64] | None,
    names: Sequence[str],
    *,
    metric: Metric,
    seed: int,
) -> Figure:
    """Plot patches on the first two principal components of their features.

    Parameters
    ----------
    features : float32 array, shape (n, dim)
    foreground : bool array, shape (n,)
        The score of the patch is above one half.
    truth : int64 array, shape (n,), or None
        Positions of classes in `names`, -1 where there is none.
    names : sequence of str
    metric, seed
        Of the k-means that are shown.
    """
    centred = features - features.mean(axis=0)
    components = principal_components(centred, 2)[:, :2]
    place, variance = centred @ components, float((centred**2).sum())
    shares = (place**2).sum(axis=0) / max(variance, np.finfo(np.float32).tiny)
    panels: list[tuple[str, NDArray[np.int64], Sequence[str]]] = []
    if truth is not None:
        panels.append(("ground truth", truth, names))
    panels.append(("mask of the patches", foreground.astype(np.int64), ("background", "object")))
    for k in CLUSTERS:
        labels = fit_kmeans(features, k, metric=metric, restarts=4, iterations=25, seed=seed).labels
        panels.append((f"k-means, k = {k}", labels.astype(np.int64), [str(c) for c in range(k)]))
    figure = Figure(figsize=(3.2 * len(panels), 3.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for panel, (title, labels, legend) in zip(axes, panels, strict=True):
        for label in np.unique(labels).tolist():
            members, color = labels == label, f"C{label % 10}" if label >= 0 else "#C8C8C8"
            name = printable(legend[label])[:18] if label >= 0 else "no truth"
            panel.scatter(*place[members].T, s=3, color=color, label=name, linewidths=0)
        panel.set_title(title, fontsize=10)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.legend(fontsize=6, markerscale=3, frameon=False, ncols=2, loc="upper center",
                     bbox_to_anchor=(0.5, -0.02))  # fmt: skip
    figure.suptitle(
        f"{len(features):,} patches on the first two principal components of their features "
        f"({100 * shares[0]:.0f} and {100 * shares[1]:.0f} % of the variance)",
        fontsize=11,
    )
    return figure


def analyse(
    shards: Shards,
    folders: Mapping[str, Path],
    superclasses: Path,
    labelling: Path,
    classes_file: Path | None,
    output: Path,
    *,
    metric: Metric,
    seed: int,
    ignore: int,
    margin: float,
    max_pixels: int,
) -> None:
    """Write ``patches.png``, ``superclasses.png`` and ``classes.png`` into the folder `output`.

    Parameters
    ----------
    shards : Shards
    folders : mapping of str to Path
        Of the files of each shard: ``manifest``, ``features``, ``sample``, ``patch``, ``regions``.
    superclasses, labelling : Path
    classes_file : Path or None
        Without it, nothing is coloured by the truth.
    output : Path
    metric, seed, ignore, margin, max_pixels
        See the configuration.
    """
    stores = {shard: folders["features"] / f"{shard}.zarr" for shard in shards}
    regions = {shard: folders["regions"] / f"{shard}.npz" for shard in shards}
    with replacing(output) as folder:
        folder.mkdir()
        classes = read_classes(classes_file) if classes_file is not None else None
        figure = _patches_of(shards, folders, classes, metric=metric, seed=seed, ignore=ignore)
        save_figure(figure, folder / "patches.png")
        for name, nearest, what, members in (
            ("superclasses", typical_images(stores, superclasses), "superclass", "images"),
            ("classes", typical_regions(regions, labelling), "cluster", "regions"),
        ):
            lines = _montage_lines(
                nearest, what, members, folders["manifest"], max_pixels=max_pixels, margin=margin
            )
            draw_montage(list(lines)).save(folder / f"{name}.png", optimize=True)


def _patches_of(
    shards: Shards,
    folders: Mapping[str, Path],
    classes: Classes | None,
    *,
    metric: Metric,
    seed: int,
    ignore: int,
) -> Figure:
    """Draw patches of the sample, of some images of every shard."""
    sample = read_sample(shards.paths(folders["sample"], ".npz"))
    generator = np.random.default_rng(seed)
    images = np.unique(np.stack([sample.shard, sample.image], axis=1), axis=0)
    drawn = generator.permutation(len(images))[:MOST_IMAGES]
    wanted = {tuple(image) for image in images[np.sort(drawn)].tolist()}
    places = zip(sample.shard.tolist(), sample.image.tolist(), strict=True)
    candidates = np.flatnonzero([place in wanted for place in places])
    chosen = np.sort(generator.permutation(candidates)[:MOST_PATCHES])
    foreground = np.empty(len(chosen), bool)
    truth = np.full(len(chosen), -1)
    for number, shard in enumerate(shards):
        inside = np.flatnonzero(sample.shard[chosen] == number)
        if not len(inside):
            continue
        scores = read_patch_scores(folders["scores"] / f"{shard}.npz")
        rows = {row.image_id: row for row in read_manifest(folders["manifest"] / f"{shard}.csv")}
        patches = sample.row[chosen[inside]]
        foreground[inside] = scores.score[patches] > 0.5
        of_image = sample.image[chosen[inside]]
        for image in np.unique(of_image).tolist() if classes is not None else ():
            assert classes is not None
            try:
                known = patch_classes(scores, image, rows[scores.image_id[image]], classes, ignore)
            except ImageError:  # a label that was there when the dataset was indexed
                continue
            members = of_image == image
            truth[inside[members]] = known[patches[members] - scores.offset[image]]
    known_truth = truth if (truth >= 0).any() else None
    names = classes.names if classes is not None else ()
    features = sample.features[chosen]
    return plot_patches(features, foreground, known_truth, names, metric=metric, seed=seed)


def _montage_lines(
    nearest: Nearest, what: str, members: str, manifest: Path, *, max_pixels: int, margin: float
) -> Iterator[tuple[str, list[Image.Image]]]:
    """Yield the heading and the pictures of each group, the largest group first."""
    groups = sorted(nearest.sizes, key=lambda group: (-nearest.sizes[group], group))
    rows: dict[str, dict[str, Row]] = {}
    for group in groups[:MOST_GROUPS]:
        pictures = []
        for tile in nearest.of(group):
            if tile.shard not in rows:
                listed = read_manifest(manifest / f"{tile.shard}.csv")
                rows[tile.shard] = {row.image_id: row for row in listed}
            row = rows[tile.shard][tile.image_id]
            pictures.append(cut_tile(tile, row, max_pixels, margin))
        yield f"{what} {group}: {nearest.sizes[group]:,} {members}", pictures
    if len(groups) > MOST_GROUPS:
        yield f"and {len(groups) - MOST_GROUPS} smaller ones", []
