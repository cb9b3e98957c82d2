"""Refinement of a mask to the edges of its image, by a guided filter or a fully connected CRF.

Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials"
(NeurIPS 2011), in the implementation of pydensecrf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydensecrf import densecrf
from scipy.ndimage import label

from lightcluster.datasets.manifest import read_manifest
from lightcluster.features.images import open_row
from lightcluster.files import decode_names, encode_names, read_arrays, write_arrays
from lightcluster.masks.consistency import read_patch_masks
from lightcluster.masks.guided import Guided, refine_guided
from lightcluster.masks.upsampling import upsample
from lightcluster.progress import progress


@dataclass(frozen=True)
class Crf:
    """Parameters of the CRF; see `config.RefinementSettings`."""

    clip: float = 0.1
    gaussian_sxy: float = 3.0
    gaussian_weight: float = 3.0
    bilateral_sxy: float = 40.0
    bilateral_srgb: float = 13.0
    bilateral_weight: float = 10.0
    iterations: int = 5


def method_of(settings: Mapping[str, Any]) -> Crf | Guided | None:
    """Return the method that `config.RefinementSettings` choose, with its parameters."""
    if settings["method"] == "none":
        return None
    if settings["method"] == "guided":
        return Guided(settings["guided_radius"], settings["guided_epsilon"])
    return Crf(**{field.name: settings[field.name] for field in fields(Crf)})


def refine_crf(
    score: NDArray[np.float32], image: NDArray[np.uint8], crf: Crf
) -> NDArray[np.float32]:
    """Return the foreground probability after mean-field inference.

    Parameters
    ----------
    score : float32 array, shape (height, width)
        Foreground score in [0, 1]; clipped to [clip, 1 - clip] it is the unary probability.
    image : uint8 array, shape (height, width, 3)
        RGB.
    crf : Crf

    Returns
    -------
    float32 array, shape (height, width)
        In [0, 1].
    """
    foreground = np.clip(score, crf.clip, 1 - crf.clip)
    probability: NDArray[np.float32] = infer_crf(np.stack([1 - foreground, foreground]), image, crf)
    refined: NDArray[np.float32] = probability[1]
    return refined


def infer_crf(
    probability: NDArray[np.float32], image: NDArray[np.uint8], crf: Crf
) -> NDArray[np.float32]:
    """Return the probability of each label after mean-field inference.

    Parameters
    ----------
    probability : float32 array, shape (labels, height, width)
        Unary, above 0.
    image : uint8 array, shape (height, width, 3)
        RGB.
    crf : Crf
        Its `clip` is not used.

    Returns
    -------
    float32 array, shape (labels, height, width)
    """
    labels, height, width = probability.shape
    unary = -np.log(probability.reshape(labels, -1))
    model = densecrf.DenseCRF2D(width, height, labels)
    model.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    model.addPairwiseGaussian(sxy=crf.gaussian_sxy, compat=crf.gaussian_weight)
    model.addPairwiseBilateral(
        sxy=crf.bilateral_sxy,
        srgb=crf.bilateral_srgb,
        rgbim=np.require(image, np.uint8, ["C", "W"]),  # pydensecrf refuses read-only arrays
        compat=crf.bilateral_weight,
    )
    inferred: NDArray[np.float32] = np.asarray(model.inference(crf.iterations), np.float32)
    return inferred.reshape(labels, height, width)


def working_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    """Return the size, of the same shape, at which an image of too many pixels is refined."""
    scale = min(1.0, (max_pixels / (height * width)) ** 0.5)
    rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
    # Of a strip so narrow that its side came out below one pixel, the other side is bounded too.
    return min(rows, max(1, max_pixels // columns)), min(columns, max(1, max_pixels // rows))


def refine_mask(
    score: NDArray[np.float32],
    image: NDArray[np.uint8],
    *,
    upsampling: Literal["bilinear", "nearest"],
    threshold: float,
    method: Crf | Guided | None,
    max_pixels: int,
    min_area: float = 0,
) -> NDArray[np.bool_]:
    """Turn the patch score of one image into its pixel mask.

    Parameters
    ----------
    score : float32 array, shape (rows, columns)
        Merged score of the patches, in [0, 1].
    image : uint8 array, shape (height, width, 3)
    upsampling : {"bilinear", "nearest"}
    threshold : float
        Foreground above this score; with a CRF, which decides at 0.5, the score is first scaled
        so that the threshold comes to lie there.
    method : Crf, Guided or None
        None: the upsampled score is thresholded as is. The guided filter interpolates linearly.
    max_pixels : int
        Larger images are refined at a smaller size of this many pixels.
    min_area : float
        See `remove_specks`; the upsampled score is left as it is.

    Returns
    -------
    bool array, shape (height, width)
    """
    height, width = image.shape[:2]
    if method is None:
        return upsample(score, (height, width), upsampling) > threshold
    size = working_size(height, width, max_pixels)
    if size != (height, width):
        small = Image.fromarray(image).resize(size[::-1], Image.Resampling.BOX)
        image = np.array(small)
    soft = upsample(score, size, upsampling) if isinstance(method, Crf) else score
    if threshold != 0.5:
        soft = np.interp(soft, [0, threshold, 1], [0, 0.5, 1]).astype(np.float32)
    if isinstance(method, Crf):
        refined = refine_crf(soft, image, method)
    else:
        refined = refine_guided(soft, image, method)
    if size != (height, width):
        refined = upsample(refined, (height, width), "bilinear")
    return remove_specks(refined > 0.5, min_area)


def remove_specks(mask: NDArray[np.bool_], min_area: float) -> NDArray[np.bool_]:
    """Remove small parts of a mask, and fill small holes.

    Parameters
    ----------
    mask : bool array, shape (height, width)
    min_area : float
        The share of the image up to which parts and holes, whose pixels touch at their sides, are
        small. The largest part stays, however small it is.

    Returns
    -------
    bool array, shape (height, width)
    """
    for kept in (True, False):
        parts, count = label(mask == kept)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        small = sizes <= min_area * mask.size
        small[0] = False
        if kept and count:
            small[1 + sizes[1:].argmax()] = False
        mask = mask ^ small[parts]
    return mask


@dataclass(frozen=True)
class PixelMasks:
    """The pixel masks of a shard, eight pixels a byte.

    Attributes
    ----------
    image_id : list of str
    size : int32 array, shape (images, 2)
        Height and width.
    packed : uint8 array
        Masks one after another, each from a byte of its own on.
    """

    image_id: list[str]
    size: NDArray[np.int32]
    packed: NDArray[np.uint8]

    def __post_init__(self) -> None:
        pixels = self.size.astype(np.int64).prod(axis=1)
        object.__setattr__(self, "_offset", np.concatenate([[0], np.cumsum(-(-pixels // 8))]))

    _offset: NDArray[np.int64] = None  # type: ignore[assignment]

    def mask_of(self, image: int) -> NDArray[np.bool_]:
        """Return the mask of an image, bool, shape (height, width)."""
        height, width = (int(n) for n in self.size[image])
        span = slice(*self._offset[image : image + 2])
        bits = np.unpackbits(self.packed[span], count=height * width)
        return bits.reshape(height, width).astype(bool)


def refine_masks(
    manifest: Path,
    patch_masks: Path,
    output: Path,
    *,
    upsampling: Literal["bilinear", "nearest"],
    threshold: float,
    method: Crf | Guided | None,
    working_pixels: int,
    min_area: float,
    max_pixels: int,
) -> None:
    """Refine the masks of a shard and write the arrays of `PixelMasks`."""
    rows = {row.image_id: row for row in read_manifest(manifest)}
    patches = read_patch_masks(patch_masks)
    packed, sizes = [], []
    for number, image_id in enumerate(progress(patches.image_id, "refine")):
        image = open_row(rows[image_id].image, max_pixels)
        mask = refine_mask(
            patches.score_of(number),
            image,
            upsampling=upsampling,
            threshold=threshold,
            method=method,
            max_pixels=working_pixels,
            min_area=min_area,
        )
        packed.append(np.packbits(mask))
        sizes.append(mask.shape)
    write_arrays(
        output,
        image_id=encode_names(patches.image_id),
        size=np.asarray(sizes, np.int32).reshape(-1, 2),
        packed=np.concatenate(packed) if packed else np.empty(0, np.uint8),
    )


def read_pixel_masks(path: Path) -> PixelMasks:
    """Read the file of `refine_masks`."""
    arrays = read_arrays(path, "image_id", "size", "packed")
    return PixelMasks(decode_names(arrays["image_id"]), arrays["size"], arrays["packed"])
