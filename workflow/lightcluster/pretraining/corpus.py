"""The training pictures: several close-ups of each object, stored in one file.

The pictures of an object resemble photographs of the same thing at different times: position,
orientation, colours, lighting and background differ, so views of them have only the object in
common. Outline and class are not stored. Colours are not stored either, because they are random and
the network would have to learn to ignore them.
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
"""Number of greyscale pictures of each object."""


def load_corpus(recipe: Recipe, path: Path, processes: int) -> NDArray[np.uint8]:
    """Load the pictures of a recipe from `path`; draw and save them first if it does not exist.

    Parameters
    ----------
    recipe : Recipe
    path : Path
        An ``.npy`` file. It contains no labels, so training cannot use any.
    processes : int
        Number of drawing processes.

    Returns
    -------
    uint8 array, shape (objects, PICTURES, side, side)
        Memory-mapped.

    Raises
    ------
    StoreError
        If the file is damaged or does not fit the recipe.
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
        raise StoreError(
            f"{path}: has the shape {corpus.shape}, but the recipe needs {shape}; delete it"
        )
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
    """Draw the pictures [PICTURES, side, side] of one object."""
    cast = [draw_object(np.random.default_rng([seed, index, 1]))]
    scenes = range(PICTURES * index, PICTURES * (index + 1))
    colours = np.stack([render_scene(seed, scene, style, cast)[0] for scene in scenes])
    grey: NDArray[np.uint8] = np.rint(colours.mean(axis=-1)).astype(np.uint8)
    return grey
