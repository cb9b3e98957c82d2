"""The scenes to learn from: close-ups of one object each, drawn once and kept in one file."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.scenes import SceneStyle, render_scene
from lightcluster.errors import StoreError
from lightcluster.files import replacing
from lightcluster.pretraining.recipe import Recipe
from lightcluster.progress import progress


def load_corpus(recipe: Recipe, path: Path, processes: int) -> NDArray[np.uint8]:
    """Return the scenes of a recipe, from `path` if they are there, else drawn and kept there.

    Parameters
    ----------
    recipe : Recipe
    path : Path
        An ``.npy`` file; its labels are not drawn, so none can be learnt from.
    processes : int
        That draw at the same time.

    Returns
    -------
    uint8 array, shape (scenes, side, side, 3)
        Read from disk as it is used, not held in memory.

    Raises
    ------
    StoreError
        If `path` holds something else.
    """
    shape = (recipe.scenes, recipe.scene_side, recipe.scene_side, 3)
    if not path.exists():
        with replacing(path) as temporary:
            _draw(recipe, shape, temporary, processes)
    try:
        corpus: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path}: damaged ({error}); delete it and start again") from None
    if corpus.shape != shape or corpus.dtype != np.uint8:
        raise StoreError(f"{path}: {corpus.shape}, the recipe wants {shape}; delete it")
    return corpus


def _draw(recipe: Recipe, shape: tuple[int, ...], path: Path, processes: int) -> None:
    style = SceneStyle(
        height=recipe.scene_side,
        width=recipe.scene_side,
        objects=(1, 1),
        object_share=recipe.object_share,
        mixed_formats=False,
        defocus=recipe.defocus,
    )
    corpus = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    draw = partial(_image, recipe.scenes_seed, style)
    with ProcessPoolExecutor(processes) as pool:
        images = pool.map(draw, range(recipe.scenes), chunksize=16)
        for index, image in enumerate(progress(images, "scenes", recipe.scenes, "scene")):
            corpus[index] = image
    corpus.flush()


def _image(seed: int, style: SceneStyle, index: int) -> NDArray[np.uint8]:
    return render_scene(seed, index, style)[0]
