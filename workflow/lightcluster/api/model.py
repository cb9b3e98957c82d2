"""A fitted run, loaded once and applied to images in memory; the same pixels as the workflow's."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lightcluster.ahead import compute_ahead
from lightcluster.api.given import Given, Opened, open_given
from lightcluster.clustering.image_level import cluster_patches
from lightcluster.clustering.kmeans import assign, normalize, set_threads
from lightcluster.errors import ImageError
from lightcluster.extraction.images import (
    color_map,
    prepare_image,
    target_size,
)
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.passes import images_in_pass
from lightcluster.extraction.precision import resolve_precision
from lightcluster.extraction.shard import (
    PreparedImage,
    batches_of_one_shape,
    compute_images,
    prepare_rgb,
)
from lightcluster.extraction.store import ImageFeatures
from lightcluster.files import read_arrays
from lightcluster.masks.consistency import merge_votes, read_upper_levels
from lightcluster.masks.guided import Guided
from lightcluster.masks.pixels import refine_mask
from lightcluster.masks.reestimation import first_score, read_trees
from lightcluster.model.folder import WEIGHTS, labelling_of, open_model, palette_of
from lightcluster.regions.components import Regions
from lightcluster.regions.embedding import crop_regions, embed_crops
from lightcluster.regions.labelling import read_labelling
from lightcluster.regions.maps import regions_of_image
from lightcluster.regions.painting import paint_regions
from lightcluster.regions.palette import read_palette
from lightcluster.regions.splitting import shares_of_patches
from lightcluster.threads import device_of

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FoundRegions(Regions):
    """The regions of an image with their classes.

    Attributes
    ----------
    label, box, area
        See `regions.components.Regions`.
    cluster : int64 array, shape (regions,)
        The class of each region, from 1: its value in the segmentation.
    """

    cluster: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.area)

    def __repr__(self) -> str:
        """Return how many regions there are, in a line."""
        return f"<{len(self)} regions of {len(np.unique(self.cluster))} classes>"


@dataclass(frozen=True)
class Prediction:
    """Segmentation of one image.

    Attributes
    ----------
    mask : bool array, shape (height, width)
        Foreground.
    segmentation : uint16 array, shape (height, width)
        0 background, else the cluster of the pixel's region: position in `LoadedModel.names`.
    score : float32 array, shape (rows, columns)
        Foreground score of each patch, in [0, 1]; the mask is made of it.
    levels : bool array, shape (3, rows, columns)
        Masks of the dataset, category and image level.
    regions : FoundRegions
    """

    mask: NDArray[np.bool_]
    segmentation: NDArray[np.uint16]
    score: NDArray[np.float32]
    levels: NDArray[np.bool_]
    regions: FoundRegions

    def __repr__(self) -> str:
        """Return what was found, in a line."""
        height, width = self.mask.shape
        return (
            f"<segmentation of {height} x {width} pixels: {self.mask.mean():.0%} foreground, "
            f"{len(self.regions)} regions of {len(np.unique(self.regions.cluster))} classes>"
        )


class _Foreground(NamedTuple):
    """Results for an image before its regions are assigned to classes."""

    mask: NDArray[np.bool_]
    score: NDArray[np.float32]
    levels: NDArray[np.bool_]
    regions: Regions
    patch: NDArray[np.float32]


class LoadedModel:
    """A model in memory; `load` opens one.

    It may be called from several threads; passes of the backbone then follow each other.

    Parameters
    ----------
    folder : Path
        Folder ``model`` of a run.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    threads : int
        That decode, cluster and refine images, and on a CPU run passes of the backbone.
    batch_size : int
        Images in one pass, at most.

    Attributes
    ----------
    names : tuple of str
        Of each value of a segmentation; the first is the background's.
    description : lightcluster.model.Model
        What ``model.json`` says: the settings, and what it was fitted on.

    Raises
    ------
    ModelError
        If the folder cannot be used.
    """

    def __init__(self, folder: Path, *, device: str, threads: int, batch_size: int) -> None:
        self.description = open_model(folder)
        self._settings, self._device = self.description.settings, device_of(device)
        self._threads, self._batch_size = threads, batch_size
        backbone = self._settings.backbone
        self._backbone = open_backbone(
            folder / WEIGHTS, self._device, backbone.mean, backbone.std, backbone.positions,
            self._settings.features.rotation,
        )  # fmt: skip
        self._precision = resolve_precision(self._settings.features.precision, self._device)
        self._superclasses = read_arrays(folder / "superclasses.npz", "centroids")["centroids"]
        self._upper = read_upper_levels(
            folder / "dataset.npz", folder / "category.npz", folder / "foreground.npz"
        )
        distance = read_arrays(folder / "dataset.npz", "distance")["distance"][0]
        self._distance = self._settings.regions.split * float(distance)
        self._trees = read_trees(folder / "trees.npz")
        seed = self.description.seeds[0]
        self._labelling = read_labelling(folder / labelling_of(seed))
        self.names = tuple(value.name for value in read_palette(folder / palette_of(seed)))
        self._passes = threading.Lock()  # torch's number of threads is of the whole process

    def __repr__(self) -> str:
        """Return what it is, in a line."""
        described = self.description
        return (
            f"<LightCluster model of {described.images}, run {described.run}: "
            f"{len(self.names) - 1} classes, {described.config.backbone.model} on {self._device}>"
        )

    def __call__(self, image: Given) -> Prediction:
        """Segment an image.

        Parameters
        ----------
        image : path, bytes, array, tensor or PIL image
            See `given.Given`.

        Returns
        -------
        Prediction

        Raises
        ------
        ImageError
            If it cannot be read, or is no image.
        """
        (found,) = self.predict([image])
        assert found is not None  # it would have been raised
        return found

    def predict(
        self, images: Iterable[Given], *, on_bad_image: Literal["stop", "skip"] = "stop"
    ) -> Iterator[Prediction | None]:
        """Segment images, some of them at a time.

        Parameters
        ----------
        images : iterable of path, bytes, array, tensor or PIL image
            Read twice `batch_size` ahead.
        on_bad_image : {"stop", "skip"}
            Raise at the first image that cannot be used, or yield None in its place and log why.

        Yields
        ------
        Prediction or None
            Of each image, in order.

        Raises
        ------
        ImageError
            At an image that cannot be used, unless it is skipped.
        """
        waiting = iter(images)
        while some := list(islice(waiting, 2 * self._batch_size)):
            yield from self._predict(some, on_bad_image)

    def _predict(
        self, images: Sequence[Given], on_bad_image: Literal["stop", "skip"]
    ) -> list[Prediction | None]:
        opened: list[Opened | ImageError] = list(self._each(self._open, images))
        for one in opened:
            if isinstance(one, ImageError):
                if on_bad_image == "stop":
                    raise one
                log.warning("an image is skipped: %s", one)
        good = [one for one in opened if isinstance(one, Opened)]
        features = self._extract(good)
        found = list(
            self._each(lambda pair: self._find(*pair), list(zip(good, features, strict=True)))
        )
        clusters = self._label(good, found)
        done = iter(
            Prediction(
                one.mask, paint_regions(one.regions.label, cluster), one.score, one.levels,
                FoundRegions(one.regions.label, one.regions.box, one.regions.area, cluster),
            )
            for one, cluster in zip(found, clusters, strict=True)
        )  # fmt: skip
        return [next(done) if isinstance(one, Opened) else None for one in opened]

    def _each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield what a function makes of each item, in order, computed by threads."""
        return compute_ahead(function, items, workers=self._threads, most=2 * self._threads)

    def _open(self, image: Given) -> Opened | ImageError:
        """Decode an image, or return why it cannot be."""
        dataset = self._settings.dataset
        try:
            return open_given(image, dataset.max_pixels, dataset.depth)
        except ImageError as error:
            return error

    def _seen_at(self, image: Opened) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the size at which the backbone sees an image, and its rows and columns."""
        settings, patch = self._settings.features, self._backbone.patch_size
        height, width = image.size
        size = target_size(height, width, settings.short_side, patch, settings.max_tokens)
        return size, (size[0] // patch, size[1] // patch)

    def _extract(self, images: Sequence[Opened]) -> list[ImageFeatures]:
        """Return the features of images, computed in batches of one shape as in the workflow."""
        backbone, settings = self._backbone, self._settings.features
        sizes = [self._seen_at(image)[0] for image in images]
        order = sorted(range(len(images)), key=lambda number: sizes[number])
        most = images_in_pass(self._batch_size, backbone.device)
        batches = batches_of_one_shape(order, lambda number: sizes[number], most)

        def prepare(number: int) -> PreparedImage:
            return prepare_rgb(images[number].near(sizes[number]), sizes[number], backbone)

        assert settings.facet != "auto"  # a model knows what was chosen
        assert settings.layer != "auto"
        with self._passes:
            computed = compute_images(
                backbone,
                [[(str(number), Path(f"image {number}")) for number in batch] for batch in batches],
                self._each(prepare, order), (settings.facet,), settings.layer,
                precision=self._precision, threads=self._threads,
            )  # fmt: skip
            found = {int(name): features for name, features in computed}
        return [found[number] for number in range(len(images))]

    def _find(self, image: Opened, features: ImageFeatures) -> _Foreground:
        """Find the foreground of an image and its regions."""
        set_threads(1)  # of faiss in this thread, as in the steps of the workflow
        settings = self._settings
        clustering, reestimation = settings.clustering, settings.reestimation
        facet = features.facets[str(settings.features.facet)]
        _, grid = self._seen_at(image)
        label, foreground = cluster_patches(
            facet, features.cls_attention, grid, k=clustering.k_image,
            normalization=clustering.normalize, metric=clustering.metric,
            restarts=clustering.restarts_image, iterations=clustering.iterations,
            seed=clustering.seed, rules=settings.foreground.rules,
        )  # fmt: skip
        own = foreground[label]
        superclass = int(assign(normalize(features.cls[None], "l2"), self._superclasses)[0])
        points = normalize(facet, clustering.normalize)
        upper = self._upper.vote(points, superclass, clustering.metric)
        votes = np.concatenate([upper, own[None]])
        merged = merge_votes(votes, settings.consistency.rule)
        score = merged
        if self._trees.rounds:
            first = first_score(merged.reshape(grid), own.reshape(grid), reestimation.start)
            score = self._trees.score(
                facet, color_map(features.colors, grid), first,
                Guided(reestimation.radius, reestimation.epsilon),
            ).astype(np.float16)  # as it is stored  # fmt: skip
        patches = score.reshape(grid).astype(np.float32)
        mask = refine_mask(
            patches, image.rgb, upsampling=settings.upsampling.method,
            threshold=settings.upsampling.threshold, refinement=settings.refinement,
        )  # fmt: skip
        regions, patch = regions_of_image(
            mask, normalize(facet, "l2"), grid,
            min_area=settings.regions.min_area, distance=self._distance,
        )  # fmt: skip
        return _Foreground(mask, patches, votes.reshape(3, *grid), regions, patch)

    def _label(
        self, images: Sequence[Opened], found: Sequence[_Foreground]
    ) -> list[NDArray[np.int64]]:
        """Return the class of each region of each image."""
        backbone, settings = self._backbone, self._settings.regions
        side = max(1, round(settings.crop_size / backbone.patch_size))
        size = (side * backbone.patch_size, side * backbone.patch_size)

        def crops() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
            for image, one in zip(images, found, strict=True):
                for crop in crop_regions(
                    image.rgb, one.regions.label, one.regions.box,
                    margin=settings.margin, masked=settings.masked,
                ):  # fmt: skip
                    pixels = prepare_image(crop.image, size, backbone.mean, backbone.std)
                    yield pixels, shares_of_patches(crop.inside, (side, side))

        with self._passes:
            cls, key = embed_crops(
                crops(), backbone, precision=self._precision,
                batch_size=self._batch_size, threads=self._threads,
            )  # fmt: skip
        patch = np.concatenate(
            [np.empty((0, backbone.dim), np.float32), *(one.patch for one in found)]
        )
        clusters = self._labelling.classes_of({"cls": cls, "key": key, "patch": patch})
        ends = np.cumsum([0, *(len(one.regions.area) for one in found)])
        return [clusters[start:end] for start, end in pairwise(ends)]


def load(
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = 8,
) -> LoadedModel:
    """Load a fitted run, to segment images with.

    Parameters
    ----------
    folder : path
        The folder ``model`` of a run.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    threads : int, optional
        That decode, cluster and refine images, and on a CPU run passes of the backbone; by default
        as many as there are cores.
    batch_size : int
        Images in one pass of the backbone, at most.

    Returns
    -------
    LoadedModel
        To be called with an image, or many: ``model(image).mask``.

    Raises
    ------
    ModelError
        If the folder cannot be used.

    Examples
    --------
    >>> import lightcluster as lc
    >>> model = lc.load("results/demo/lightcluster/model")  # doctest: +SKIP
    >>> found = model("holiday.jpg")  # doctest: +SKIP
    >>> found.segmentation.shape, [model.names[c] for c in found.regions.cluster]  # doctest: +SKIP
    """
    count = threads or len(os.sched_getaffinity(0))
    return LoadedModel(Path(folder), device=device, threads=count, batch_size=batch_size)
