"""Protocol ``per_image``: the clusters of each image are matched separately. Only a diagnostic.

It does not measure whether a cluster means the same in all images, which scores of a whole dataset
do. Its scores are much higher, and have tables of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped,unused-ignore]

from lightcluster.evaluation.confusion import iou_matrix, require_counts
from lightcluster.evaluation.counting import files_of_seed, iter_images
from lightcluster.evaluation.protocols import FRAMES
from lightcluster.evaluation.scores import mean_and_sd
from lightcluster.evaluation.settings import PER_IMAGE
from lightcluster.files import replacing
from lightcluster.shards import Shards

EXTRA_UNMATCHED = "extra clusters unmatched"
CONDITIONS = ["protocol", "matching", "resolution", "crop", "refinement", "seeds", "fitted_on"]
COLUMNS = [
    "dataset", "run", "seed", "image_id", "miou", "classes", "clusters", "fallback",
    "ignored_pixels", *CONDITIONS,
]  # fmt: skip
SUMMARY_COLUMNS = [
    "dataset", "run", "seed", "metric", "value", "images", "ignored_pixels", *CONDITIONS,
]  # fmt: skip


class ImageScore(NamedTuple):
    """Scores of one image, its clusters matched with its own classes.

    Attributes
    ----------
    mean_iou : float
        Over the classes that occur in the image; NaN if all of its pixels are ignored.
    classes, clusters : int
        Number of those with a counted pixel in the image.
    """

    mean_iou: float
    classes: int
    clusters: int


def score_image(counts: NDArray[np.int64]) -> ImageScore:
    """Return the largest mean IoU that a one-to-one matching of one image's clusters can have.

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels of one image. With more clusters than classes the extra ones stay unmatched: their
        pixels are missed in their true classes. With fewer, a class without a cluster has IoU 0.

    Returns
    -------
    ImageScore
    """
    require_counts(counts)
    found = counts[counts.any(axis=1)][:, counts.any(axis=0)]
    clusters, classes = found.shape
    if not classes:
        return ImageScore(float("nan"), 0, 0)
    iou = iou_matrix(found)
    matched = linear_sum_assignment(iou, maximize=True)
    return ImageScore(float(iou[matched].sum()) / classes, classes, clusters)


def summarize(images: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over the images of each seed, then the mean and sample sd over the seeds.

    Parameters
    ----------
    images : DataFrame
        With the columns ``seed``, ``miou`` and ``ignored_pixels``. Images of which all pixels are
        ignored have no score and are left out of the means; ``images`` counts the others.

    Returns
    -------
    DataFrame
        With the columns ``seed``, ``metric``, ``value``, ``images`` and ``ignored_pixels``.
    """
    scored = images.dropna(subset="miou").groupby("seed", sort=False)["miou"]
    seeds = images["seed"].unique().tolist()
    means = scored.mean().reindex(seeds)
    values = [*means.tolist(), *mean_and_sd(means.tolist())]
    first = images[images["seed"] == images["seed"].iloc[0]]
    return pd.DataFrame({"seed": [*seeds, "mean", "sd"], "value": values}).assign(
        metric="miou",
        images=int(first["miou"].notna().sum()),
        ignored_pixels=int(first["ignored_pixels"].sum()),
    )


def score_images(
    counts_folder: Path,
    shards: Shards,
    seeds: Sequence[int],
    output: Path,
    summary: Path,
    *,
    refinement: str,
    dataset: str,
    run: str,
    fitted_on: str,
) -> None:
    """Write the scores of every image and seed to `output`, and their means to `summary`.

    Raises
    ------
    StoreError
        If counts are missing or damaged.
    """
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        paths = files_of_seed(counts_folder, shards, seed)
        for image in iter_images(paths, "original"):
            score = score_image(image.counts)
            extra = score.clusters > score.classes > 0
            rows.append(
                {
                    "seed": str(seed),
                    "image_id": image.image_id,
                    "miou": score.mean_iou,
                    "classes": score.classes,
                    "clusters": score.clusters,
                    "fallback": EXTRA_UNMATCHED if extra else "",
                    "ignored_pixels": image.ignored,
                }
            )
    constant = {
        "dataset": dataset,
        "run": run,
        "protocol": PER_IMAGE,
        "matching": "iou_hungarian",
        "refinement": refinement,
        "seeds": len(seeds),
        "fitted_on": fitted_on,
        **FRAMES["original"]._asdict(),
    }
    images = pd.DataFrame(rows)
    for path, table, columns in (
        (output, images, COLUMNS),
        (summary, summarize(images), SUMMARY_COLUMNS),
    ):
        with replacing(path) as temporary:
            table.assign(**constant)[columns].to_csv(temporary, index=False, float_format="%.6f")
