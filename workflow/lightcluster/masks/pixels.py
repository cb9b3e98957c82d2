"""Pixel masks: the scores of patches, upsampled and refined to the edges in the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label

from lightcluster.datasets.manifest import read_manifest
from lightcluster.extraction.images import open_row
from lightcluster.files import decode_names, encode_names, read_arrays, write_arrays
from lightcluster.masks.patches import read_patch_scores
from lightcluster.masks.refinement.registry import REFINEMENTS, RefinementSettings
from lightcluster.masks.upsampling import upsample
from lightcluster.progress import progress


def working_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    """Return the size at which an image is refined: smaller, if it has too many pixels."""
    scale = min(1.0, (max_pixels / (height * width)) ** 0.5)
    rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
    # A side is at least one pixel; for a very narrow strip, the other one must then be cut as well.
    return min(rows, max(1, max_pixels // columns)), min(columns, max(1, max_pixels // rows))


def refine_mask(
    score: NDArray[np.float32],
    image: NDArray[np.uint8],
    *,
    upsampling: Literal["bilinear", "nearest"],
    threshold: float,
    refinement: RefinementSettings,
) -> NDArray[np.bool_]:
    """Turn the patch score of one image into its pixel mask.

    Parameters
    ----------
    score : float32 array, shape (rows, columns)
        Score of the patches, in [0, 1].
    image : uint8 array, shape (height, width, 3)
    upsampling : {"bilinear", "nearest"}
    threshold : float
        Patches with a higher score are foreground. The score is rescaled so that the threshold
        becomes 0.5, which refinements assume.
    refinement : RefinementSettings
        With `method: none`, the upsampled score is only thresholded. Otherwise images with more
        than `max_pixels` are refined at a smaller size, and specks and holes of up to `min_area`
        are removed.

    Returns
    -------
    bool array, shape (height, width)
    """
    height, width = image.shape[:2]
    method = REFINEMENTS[refinement.method]
    if method.refine is None:
        return upsample(score, (height, width), upsampling) > threshold
    size = working_size(height, width, refinement.max_pixels)
    if size != (height, width):
        small = Image.fromarray(image).resize(size[::-1], Image.Resampling.BOX)
        image = np.array(small)
    soft = score if method.takes_patches else upsample(score, size, upsampling)
    if threshold != 0.5:
        soft = np.interp(soft, [0, threshold, 1], [0, 0.5, 1]).astype(np.float32)
    refined = method.refine(soft, image, refinement)
    if size != (height, width):
        refined = upsample(refined, (height, width), "bilinear")
    return remove_specks(refined > 0.5, refinement.min_area)


def remove_specks(mask: NDArray[np.bool_], min_area: float) -> NDArray[np.bool_]:
    """Remove small parts of a mask, and fill small holes.

    Parameters
    ----------
    mask : bool array, shape (height, width)
    min_area : float
        Largest size of a speck or hole (4-connected), as a share of the image. The largest part of
        the mask stays, however small it is.

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
        if small.any():
            mask = mask ^ small[parts]
    return mask


@dataclass(frozen=True)
class PixelMasks:
    """The pixel masks of a shard, packed into bits.

    Attributes
    ----------
    image_id : list of str
    size : int32 array, shape (images, 2)
        Height and width.
    packed : uint8 array
        The masks one after another; each begins at a new byte.
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
    scores: Path,
    output: Path,
    *,
    upsampling: Literal["bilinear", "nearest"],
    threshold: float,
    refinement: RefinementSettings,
    max_pixels: int,
) -> None:
    """Refine the masks of a shard and write the arrays of `PixelMasks`."""
    rows = {row.image_id: row for row in read_manifest(manifest)}
    patches = read_patch_scores(scores)
    packed, sizes = [], []
    for number, image_id in enumerate(progress(patches.image_id, "refine")):
        image = open_row(rows[image_id].image, max_pixels)
        mask = refine_mask(
            patches.score_of(number),
            image,
            upsampling=upsampling,
            threshold=threshold,
            refinement=refinement,
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
