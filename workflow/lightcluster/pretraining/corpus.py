"""The pictures to learn from: close-ups of objects, some of each, kept in one file.

The pictures of an object are as photographs of one thing at different times: it stands elsewhere
and leans otherwise; paint, light and surroundings are others. What they share is the object, and
that is all that views of them have in common. Neither its outline nor its class is kept. Nor are
the colours, which are drawn at random and would only have to be unlearnt.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.scenes import SceneStyle, draw_object, render_scene
from lightcluster.errors import StoreError
from lightcluster.files import replacing
from lightcluster.pretraining.recipe import Recipe
from lightcluster.progress import progress

PICTURES = 4
"""Of each object, in grey."""


def load_corpus(recipe: Recipe, path: Path, processes: int) -> NDArray[np.uint8]:
    """Return the pictures of a recipe, from `path` if they are there, else drawn and kept there.

    Parameters
    ----------
    recipe : Recipe
    path : Path
        An ``.npy`` file; its labels are not drawn, so none can be learnt from.
    processes : int
        That draw at the same time.

    Returns
    -------
    uint8 array, shape (objects, PICTURES, side, side)
        Read from disk as it is used, not held in memory.

    Raises
    ------
    StoreError
        If `path` holds something else.
    """
    shape = (recipe.objects, PICTURES, recipe.scene_side, recipe.scene_side)
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
        noise=recipe.noise,
    )
    corpus = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    draw = partial(_pictures, recipe.scenes_seed, style)
    with ProcessPoolExecutor(processes) as pool:
        drawn = pool.map(draw, range(recipe.objects), chunksize=16)
        for index, pictures in enumerate(progress(drawn, "objects", recipe.objects, "object")):
            corpus[index] = pictures
    corpus.flush()


def _pictures(seed: int, style: SceneStyle, index: int) -> NDArray[np.uint8]:
    """The pictures [PICTURES, side, side] of one object."""
    cast = [draw_object(np.random.default_rng([seed, index, 1]))]
    scenes = range(PICTURES * index, PICTURES * (index + 1))
    colours = np.stack([render_scene(seed, scene, style, cast)[0] for scene in scenes])
    grey: NDArray[np.uint8] = np.rint(colours.mean(axis=-1)).astype(np.uint8)
    return grey
