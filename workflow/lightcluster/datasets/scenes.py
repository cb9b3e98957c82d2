"""Procedural scenes: textured objects on textured backgrounds, with exact label maps.

Classes differ in their outline, their parts and the texture of each part, but not in colour:
objects and backgrounds draw their colours from the same distribution. They share textures too, but
the objects are in focus and the background is not. Scene ``i`` depends only on
``(seed, i, style)``.

A picture is drawn from back to front. A *texture* maps coordinates to values in [0, 1]; an *object
class* stacks a few layers, each an outline with a texture, to a *surface*; a surface is coloured,
downsampled from the finer grid on which it is drawn, and composited onto the canvas with a soft
shadow below it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, shift

from lightcluster.errors import ConfigError, DatasetError

Field: TypeAlias = NDArray[np.floating]
"""Coordinates or values of samples [h, w]: float32, or float64 where NumPy promotes."""

Mask: TypeAlias = NDArray[np.bool_]
"""Samples inside an outline [h, w]."""

Rng: TypeAlias = np.random.Generator

Texture: TypeAlias = Callable[[Field, Field, Rng], Field]
"""``texture(x, y, rng)``: values in [0, 1] at coordinates of the same shape."""

SUPERSAMPLING = 2
"""Samples along each side of a pixel, for the image and the coverage that decides its label."""

TILE = 128
"""Side of the periodic noise tiles, in cells."""

JPEG_QUALITY = 92

ARRANGEMENTS = 32
"""Number of arrangements of a scene's objects that are tried before they may touch."""

APART = 1.1
"""Smallest clearance of objects that do not touch."""


@dataclass(frozen=True)
class SceneStyle:
    """Parameters that all scenes of a dataset share.

    Attributes
    ----------
    height, width : int
        Size in pixels of half of the scenes; the others have about the same area. 32 or more.
    objects : (int, int)
        Smallest and largest number of objects in a scene.
    object_share : (float, float)
        Smallest and largest share of the image area of one object, in (0, 1).
    mixed_formats : bool
        Whether a quarter of the scenes has height and width swapped and a quarter is square.
    defocus : (float, float)
        Smallest and largest blur of the background: standard deviation in pixels, 0 or more.
    noise : (float, float)
        Smallest and largest sensor noise: standard deviation as a share of white, 0 or more.

    Raises
    ------
    ConfigError
        If a size is too small, or a pair is out of range or not in ascending order.
    """

    height: int = 240
    width: int = 320
    objects: tuple[int, int] = (1, 2)
    object_share: tuple[float, float] = (0.08, 0.3)
    mixed_formats: bool = True
    defocus: tuple[float, float] = (5.0, 9.0)
    noise: tuple[float, float] = (0.002, 0.008)

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 32:
            raise ConfigError(f"height, width: {self.height}, {self.width}; at least 32 each")
        if not 0 <= self.objects[0] <= self.objects[1]:
            raise ConfigError(f"objects: {self.objects}; needs two ascending integers, 0 or more")
        if not 0 < self.object_share[0] <= self.object_share[1] < 1:
            raise ConfigError(
                f"object_share: {self.object_share}; needs two ascending numbers in (0, 1)"
            )
        if not 0 <= self.defocus[0] <= self.defocus[1]:
            raise ConfigError(f"defocus: {self.defocus}; needs two ascending numbers, 0 or more")
        if not 0 <= self.noise[0] <= self.noise[1]:
            raise ConfigError(f"noise: {self.noise}; needs two ascending numbers, 0 or more")


# --- Textures: values in [0, 1] over coordinates; one unit is about one motif ------------------


def plain(x: Field, y: Field, rng: Rng) -> Field:
    """Uniform, with faint clouds."""
    return 0.2 + 0.25 * clouds(x, y, rng)


def clouds(x: Field, y: Field, rng: Rng) -> Field:
    """Soft noise with equal detail at all scales."""
    return _sample(_pink_tile(rng), 8 * x, 8 * y)


def grass(x: Field, y: Field, rng: Rng) -> Field:
    """Noise that is stretched along y, like grass, fur or bark."""
    return _sample(_pink_tile(rng), 24 * x, 3 * y)


def marble(x: Field, y: Field, rng: Rng) -> Field:
    """Bands along y that are warped by noise."""
    bend = _sample(_pink_tile(rng), 5 * x, 5 * y)
    return _wave(0.7 * x + 1.6 * bend)


def stripes(x: Field, y: Field, rng: Rng) -> Field:
    """Sharp bands along y with a random width."""
    return (x % 1 < rng.uniform(0.35, 0.65)).astype(np.float32)


def checks(x: Field, y: Field, rng: Rng) -> Field:
    """A chequerboard."""
    return ((np.floor(x) + np.floor(y)) % 2).astype(np.float32)


def bricks(x: Field, y: Field, rng: Rng) -> Field:
    """Rows of bricks with different tones and dark joints, twice as wide as high."""
    row = np.floor(2 * y)
    along = x + 0.5 * (row % 2)
    column = np.floor(along)
    tones = rng.uniform(0.45, 1, (16, 16)).astype(np.float32)
    tone = tones[row.astype(np.intp) % 16, column.astype(np.intp) % 16]
    joint = (along - column < 0.09) | (2 * y - row < 0.18)
    return np.where(joint, np.float32(0), tone)


def scales(x: Field, y: Field, rng: Rng) -> Field:
    """Rows of half discs, each row shifted by half a disc, dark at their rims."""
    row = np.floor(2 * y)
    across = (x + 0.5 * (row % 2)) % 1 - 0.5
    depth = np.hypot(2 * across, 2 * y - row)
    return np.where(depth > 1, depth - 1, 1 - 0.9 * depth**4).astype(np.float32)


def spots(x: Field, y: Field, rng: Rng) -> Field:
    """Rows of discs, each row shifted by half the spacing."""
    row = np.floor(y)
    across = (x + 0.5 * (row % 2)) % 1 - 0.5
    radius = rng.uniform(0.25, 0.36)
    disc: Mask = np.hypot(across, y - row - 0.5) < radius
    return disc.astype(np.float32)


def cells(x: Field, y: Field, rng: Rng) -> Field:
    """Rounded cells at random positions, like pebbles or leaves."""
    return _sample(_cell_tile(rng), 10 * x, 10 * y)


def _wave(phase: Field) -> Field:
    """A cosine with period 1 and values in [0, 1]."""
    wave: Field = 0.5 - 0.5 * np.cos(np.float32(2 * math.pi) * phase)
    return wave


def _sample(tile: Field, x: Field, y: Field) -> Field:
    """The periodic ``tile`` at columns ``x`` and rows ``y``, with linear interpolation."""
    sampled: Field = map_coordinates(tile, np.stack([y, x]), order=1, mode="grid-wrap")
    return sampled


def _pink_tile(rng: Rng) -> Field:
    """Periodic noise [TILE, TILE] in [0, 1] whose amplitude decreases with frequency."""
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE)))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum / (frequency + 4 / TILE) ** 1.3, s=(TILE, TILE))
    return np.asarray(np.clip(0.5 + 0.25 * noise / noise.std(), 0, 1), dtype=np.float32)


def _cell_tile(rng: Rng) -> Field:
    """Periodic cells [TILE, TILE]: 1 at their centres, 0 farthest from all centres."""
    spacing = 8
    corners = np.arange(0, TILE, spacing)
    empty = np.ones((TILE, TILE), dtype=np.bool_)
    jitter = rng.integers(0, spacing, (2, corners.size, corners.size))
    empty[corners[:, None] + jitter[0], corners[None, :] + jitter[1]] = False
    # The distance transform is not periodic, so a margin is added and cropped again.
    margin = 2 * spacing
    distance = distance_transform_edt(np.pad(empty, margin, mode="wrap"))
    inner = distance[margin:-margin, margin:-margin]
    return np.asarray(np.clip(1 - inner / (0.9 * spacing), 0, 1), dtype=np.float32)


MATERIALS: tuple[Texture, ...] = (
    plain,
    clouds,
    grass,
    marble,
    stripes,
    checks,
    bricks,
    scales,
    spots,
    cells,
)
"""The textures of the backgrounds."""


# --- Object classes: surfaces over local coordinates, x to the right and y up, in [-1, 1] -------

BODY, TRIM, ACCENT = range(3)
"""The parts of an object; each part has its own pair of colours."""


@dataclass(frozen=True)
class Surface:
    """A drawn object or background before it is coloured.

    Attributes
    ----------
    part : int8 array [h, w]
        BODY, TRIM or ACCENT; -1 outside the object.
    texture : float32 array [h, w]
        Position of each sample between the two colours of its part, in [0, 1].
    """

    part: NDArray[np.int8]
    texture: Field


def _stack(*layers: tuple[Mask, int, Field]) -> Surface:
    """Stack layers of (outline, part, texture); the first is at the bottom."""
    part = np.full(layers[0][0].shape, -1, dtype=np.int8)
    texture = np.zeros(part.shape, dtype=np.float32)
    for outline, index, values in layers:
        np.copyto(part, np.int8(index), where=outline)
        np.copyto(texture, values, where=outline)
    return Surface(part, texture)


def _ellipse(x: Field, y: Field, width: float, height: float) -> Mask:
    """Inside of an ellipse at the origin with these semi-axes."""
    return (x / width) ** 2 + (y / height) ** 2 < 1


def _box(x: Field, y: Field, left: float, right: float, bottom: float, top: float) -> Mask:
    """Inside of an axis-aligned rectangle."""
    return (x > left) & (x < right) & (y > bottom) & (y < top)


def _rotated(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """The coordinates along axes that are rotated anticlockwise by ``angle``."""
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return cosine * x + sine * y, cosine * y - sine * x


def fish(x: Field, y: Field, rng: Rng) -> Surface:
    """An ellipse of scales, a notched tail, fins with rays, a gill and an eye."""
    height = rng.uniform(0.4, 0.58)
    body = _ellipse(x - 0.2, y, 0.78, height)
    reach = -0.35 - x
    spread = rng.uniform(0.8, 1.1)
    tail = (np.abs(y) < 0.08 + spread * reach) & (reach > 0)
    tail &= (x > -0.98) & (x < -0.75 - 0.4 * np.abs(y) + 0.45 * np.abs(y) / 0.6 + 0.05)
    crest = (y > 0) & _ellipse(x - 0.1, y - 0.7 * height, 0.48, 0.62 * height)
    crest &= x < 0.1 + 0.8 * (y - height) + 0.3
    belly = _ellipse(*_rotated(x - 0.05, y + height, 0.6), 0.28, 0.13)
    head = body & (x > 0.52 + 0.25 * (y / height) ** 2)
    eye = np.hypot(x - 0.74, y - 0.25 * height)
    rays = _wave(7 * y + 3 * x)
    return _stack(
        (tail | crest | belly, TRIM, rays),
        (body, BODY, scales(5 * x, 5 * y, rng)),
        (head, TRIM, np.full_like(x, 0.3)),
        (eye < 0.1, ACCENT, np.ones_like(x)),
        (eye < 0.055, ACCENT, np.zeros_like(x)),
    )


def house(x: Field, y: Field, rng: Rng) -> Surface:
    """A wall of bricks or planks with a door and windows, under a shingled gable."""
    eaves = rng.uniform(0.05, 0.3)
    half = rng.uniform(0.66, 0.85)
    wall = _box(x, y, -half, half, -0.95, eaves + 0.02)
    ridge = rng.uniform(0.85, 1.0)
    roof = (y > eaves) & (np.abs(x) < (half + 0.14) * (ridge - y) / (ridge - eaves))
    chimney = _box(x, y, 0.35 * half, 0.35 * half + 0.2, eaves, 0.9 * ridge)
    door = _box(x, y, -0.15, 0.15, -0.95, -0.3)
    beside = np.abs(x) - 0.6 * half
    window = _box(beside, y + 0.3, -0.16, 0.16, -0.2, 0.2)
    cross = (np.abs(beside) < 0.035) | (np.abs(y + 0.3) < 0.035)
    pane = np.where(cross | ~_box(beside, y + 0.3, -0.12, 0.12, -0.16, 0.16), 1, 0)
    return _stack(
        (chimney, BODY, np.full_like(x, 0.6)),
        (wall, BODY, bricks(4 * x, 4 * y, rng)),
        (roof, TRIM, stripes(x, 6 * y, rng)),
        (window, ACCENT, pane.astype(np.float32)),
        (door, ACCENT, np.where(np.abs(x) < 0.11, _wave(12 * x), 1)),
    )


def tree(x: Field, y: Field, rng: Rng) -> Surface:
    """A lobed crown of leaves on a trunk that widens towards the ground."""
    width = rng.uniform(0.1, 0.16)
    trunk = (np.abs(x) < width + 0.12 * np.clip(-0.55 - y, 0, 1)) & (y > -1) & (y < 0.1)
    lobes = rng.integers(6, 10)
    angle = np.arctan2(y - 0.27, x)
    ripple = 0.07 * np.abs(np.sin(lobes * angle / 2 + rng.uniform(0, 6)))
    sway = 0.05 * np.sin(2 * angle + rng.uniform(0, 6))
    crown = np.hypot(x / rng.uniform(0.95, 1.2), y - 0.27) < 0.6 + ripple + sway
    return _stack(
        (trunk, TRIM, grass(x, y, rng)),
        (crown, BODY, cells(6 * x, 6 * y, rng)),
    )


def wheel(x: Field, y: Field, rng: Rng) -> Surface:
    """A tyre with treads, a hub and spokes; the background is visible between the spokes."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    spokes = rng.integers(5, 9)
    turn = (angle * spokes / (2 * math.pi)) % 1 - 0.5
    inner = rng.uniform(0.6, 0.7)
    # The width of a sector grows with the radius, so the spokes are cut by arc length.
    spoke = (np.abs(turn) * radius * 2 * math.pi / spokes < 0.085) & (radius < inner + 0.03)
    treads = rng.integers(20, 34)
    tread = np.where(radius > inner + 0.14, _wave(angle * treads / (2 * math.pi)), 0.15)
    return _stack(
        (spoke, TRIM, np.full_like(x, 0.25)),
        ((radius > inner) & (radius < 0.98), BODY, tread.astype(np.float32)),
        (radius < 0.26, TRIM, _wave(7 * radius)),
        (radius < 0.1, ACCENT, np.zeros_like(x)),
    )


def butterfly(x: Field, y: Field, rng: Rng) -> Surface:
    """Two mirrored pairs of wings with rims and spots, and a slim body between them."""
    side = np.abs(x)
    lift = rng.uniform(0.5, 0.75)
    upper_x, upper_y = _rotated(side - 0.48, y - 0.32, lift)
    lower_x, lower_y = _rotated(side - 0.37, y + 0.42, -rng.uniform(0.7, 1.0))
    upper = (upper_x / 0.58) ** 2 + (upper_y / 0.38) ** 2
    lower = (lower_x / 0.46) ** 2 + (lower_y / 0.31) ** 2
    rim = np.minimum(upper, lower)
    pattern = spots(4 * side, 4 * y, rng)
    ring = np.hypot(upper_x - 0.2, upper_y)
    trunk = _ellipse(x, y + 0.05, 0.085, 0.6)
    return _stack(
        (rim < 1, TRIM, np.full_like(x, 0.2)),
        (rim < 0.68, BODY, pattern),
        (ring < 0.16, ACCENT, (ring < 0.08).astype(np.float32)),
        (trunk, TRIM, _wave(5 * y)),
    )


def mushroom(x: Field, y: Field, rng: Rng) -> Surface:
    """A domed cap with large spots, gills below its brim and a fibrous stem."""
    brim = rng.uniform(-0.1, 0.1)
    cap = (y > brim) & _ellipse(x, y - brim, 0.96, 0.95 - brim)
    gills = _ellipse(x, y - brim, 0.92, 0.16) & (y <= brim)
    stem_width = rng.uniform(0.2, 0.3)
    stem = (np.abs(x) < stem_width + 0.12 * (y / 0.9) ** 2) & (y > -0.92) & (y < brim)
    stem |= _ellipse(x, y + 0.85, stem_width + 0.12, 0.13)
    spotted = spots(2.6 * x + rng.uniform(), 2.6 * y + rng.uniform(), rng)
    return _stack(
        (stem, TRIM, grass(0.6 * x, 0.3 * y, rng)),
        (gills, ACCENT, _wave(9 * x)),
        (cap, BODY, spotted),
    )


def star(x: Field, y: Field, rng: Rng) -> Surface:
    """A starfish: five grained arms with round ends and a beaded ridge along each."""
    radius, angle = np.hypot(x, y), np.arctan2(x, y)
    sector = 2 * math.pi / 5
    off = np.abs((angle / sector + 0.5) % 1 - 0.5) * sector
    along, across = radius * np.cos(off), radius * np.sin(off)
    thickness = rng.uniform(0.3, 0.38)
    arm = across < thickness * np.sqrt(np.clip(1 - along / 0.98, 0, 1)) + 0.02
    ridge = (across < 0.055) & (along < 0.8)
    grain = clouds(6 * x, 6 * y, rng)
    return _stack(
        (arm & (along < 0.98), BODY, grain),
        (ridge, TRIM, _wave(9 * along)),
        (radius < 0.13, ACCENT, (radius < 0.07).astype(np.float32)),
    )


def cup(x: Field, y: Field, rng: Rng) -> Surface:
    """A tapered cup with a handle, its mouth seen from above and a pattern around it."""
    taper = rng.uniform(0.05, 0.22)
    middle = x + 0.22
    half = 0.6 + taper * y / 0.8
    wall = (np.abs(middle) < half) & (y > -0.78) & (y < 0.7)
    wall |= _ellipse(middle, y + 0.78, 0.6 - taper, 0.15)
    mouth_x, mouth_y = middle / (0.6 + 0.875 * taper), (y - 0.7) / 0.2
    mouth = mouth_x**2 + mouth_y**2
    handle = np.hypot((x - 0.4) / 0.9, y + 0.05)
    loop = (handle > 0.3) & (handle < 0.54) & (middle > 0.4)
    # The pattern is compressed towards the sides and curved like the mouth, as on a cylinder.
    around = np.arcsin(np.clip(middle / half, -1, 1))
    sag = y + 0.18 * np.cos(around)
    pattern = checks(4 * sag, 4 * around / 1.57, rng)
    band = (sag > -0.55) & (sag < 0.6)
    return _stack(
        (loop, TRIM, np.full_like(x, 0.2)),
        (wall, TRIM, np.full_like(x, 0.2)),
        (wall & band, BODY, pattern),
        (mouth < 1, TRIM, np.full_like(x, 0.5)),
        (mouth < 0.72, ACCENT, np.clip(0.5 - mouth_y, 0, 1)),
    )


@dataclass(frozen=True)
class ObjectClass:
    """A class of objects.

    Attributes
    ----------
    draw : callable
        ``draw(x, y, rng)``: the surface of an object at coordinates [h, w] in [-1, 1]. Its name is
        the class name.
    lean : float
        Largest rotation from upright, in radians.
    """

    draw: Callable[[Field, Field, Rng], Surface]
    lean: float


OBJECT_CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass(fish, 0.7),
    ObjectClass(house, 0.3),
    ObjectClass(tree, 0.35),
    ObjectClass(wheel, math.pi),
    ObjectClass(butterfly, 1.2),
    ObjectClass(mushroom, 0.6),
    ObjectClass(star, math.pi),
    ObjectClass(cup, 0.5),
)

CLASSES: tuple[str, ...] = ("background", *(known.draw.__name__ for known in OBJECT_CLASSES))
"""Names of the classes; label ``i`` is ``CLASSES[i]``."""


# --- Composition --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pose:
    """Position, size and orientation of an object.

    Attributes
    ----------
    row, column : float
        Origin of its coordinates, in pixels.
    size : float
        Pixels per unit of its coordinates.
    angle : float
        Anticlockwise rotation, in radians.
    mirrored : bool
        Whether it is mirrored horizontally.
    """

    row: float
    column: float
    size: float
    angle: float
    mirrored: bool


def render_scene(
    seed: int,
    index: int,
    style: SceneStyle = SceneStyle(),
    cast: Sequence[tuple[int, int]] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene.

    Parameters
    ----------
    seed : int
        Seed of the dataset, 0 or more.
    index : int
        Number of the scene, 0 or more. A scene does not depend on how many others there are.
    style : SceneStyle, optional
        Parameters that all scenes share.
    cast : sequence of (int, int), optional
        The objects to draw, the rearmost first: label and shape seed of each. Scenes with the same
        cast show the same objects with different poses, colours, lighting and backgrounds. By
        default the objects are random.

    Returns
    -------
    image : uint8 array [H, W, 3]
        sRGB colours in [0, 255].
    labels : uint8 array [H, W]
        Index into ``CLASSES``: the frontmost object that covers at least half of the pixel, or 0.
    """
    rng = np.random.default_rng([seed, index])
    height, width = _format(rng, style)
    light = rng.uniform(0, 2 * math.pi)
    canvas = _background(rng, height, width, style.defocus)
    labels = np.zeros((height, width), dtype=np.uint8)
    if cast is None:
        count = int(rng.integers(style.objects[0], style.objects[1] + 1))
        cast = [draw_object(rng) for _ in range(count)]
    for (label, form), pose in zip(cast, _arrange(rng, cast, style, (height, width)), strict=True):
        _place(canvas, labels, label, pose, form, light, rng)
    return _photograph(canvas, light, style.noise, rng), labels


def draw_object(rng: Rng) -> tuple[int, int]:
    """A random object: its label and shape seed."""
    return int(rng.integers(1, len(CLASSES))), int(rng.integers(2**32))


def _format(rng: Rng, style: SceneStyle) -> tuple[int, int]:
    """Height and width of a scene: as in the style, swapped, or square."""
    square = round(math.sqrt(style.height * style.width))
    formats = [(style.height, style.width)] * 2
    formats += [(style.width, style.height), (square, square)]
    return formats[rng.integers(4)] if style.mixed_formats else formats[0]


def _colours(rng: Rng) -> NDArray[np.float32]:
    """Colour pairs of the three parts, [3, 2, 3] in [0, 1], used for objects and backgrounds.

    The two colours of a pair have similar hues and different brightness, in either order.
    """
    hue = rng.uniform(0, 1, (3, 1)) + rng.normal(0, 0.06, (3, 2))
    saturation = np.clip(rng.uniform(0.05, 0.65, (3, 1)) + rng.normal(0, 0.08, (3, 2)), 0, 0.8)
    step = rng.uniform(0.12, 0.25, (3, 1)) * rng.choice([-1, 1], (3, 1))
    value = rng.uniform(0.35, 0.8, (3, 1)) + step * np.array([-1, 1])
    # Hue to RGB: each channel is a triangle wave of the hue, a third of a turn apart.
    turn = (hue[..., None] + np.array([0, 2 / 3, 1 / 3])) % 1
    pure = np.clip(np.abs(6 * turn - 3) - 1, 0, 1)
    colours = value[..., None] * (1 - saturation[..., None] * (1 - pure))
    return np.asarray(np.clip(colours, 0, 1), dtype=np.float32)


def _coloured(surface: Surface, colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours [h, w, 3] of a surface, black outside it."""
    # A table of 32 steps between the two colours of each part, and black for no part (-1).
    steps = np.linspace(0, 1, 32, dtype=np.float32)[:, None]
    table = colours[:, :1] * (1 - steps) + colours[:, 1:] * steps
    table = np.concatenate([table, np.zeros_like(table[:1])])
    position = np.rint(31 * surface.texture).astype(np.intp)
    chosen: NDArray[np.float32] = np.take(
        table.reshape(-1, 3), (surface.part % len(table)) * np.intp(32) + position, axis=0
    )
    return chosen


def _fine_grid(rows: slice, columns: slice) -> tuple[Field, Field]:
    """Row and column [h, w] of the samples of these pixels, in pixels."""
    half_step = 0.5 / SUPERSAMPLING
    row = np.arange(rows.start, rows.stop, 2 * half_step, dtype=np.float32) + half_step
    column = np.arange(columns.start, columns.stop, 2 * half_step, dtype=np.float32) + half_step
    grid_row, grid_column = np.meshgrid(row, column, indexing="ij")
    return grid_row, grid_column


def _averaged(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over the samples of each pixel of [n h, n w, ...]: [h, w, ...]."""
    n = SUPERSAMPLING
    total = sum(fine[i::n, j::n] for i in range(n) for j in range(n))
    return np.float32(1 / n**2) * np.asarray(total, dtype=np.float32)


def _background(
    rng: Rng, height: int, width: int, defocus: tuple[float, float]
) -> NDArray[np.float32]:
    """One texture, or two that meet at a line, with small clutter, out of focus: [h, w, 3]."""
    row, column = _fine_grid(slice(0, height), slice(0, width))
    texture = _material(rng, row, column)
    part = np.zeros(texture.shape, dtype=np.int8)
    if rng.uniform() < 0.6:
        beyond = _half_plane(rng, row, column, height, width)
        texture = np.where(beyond, _material(rng, row, column), texture)
        part[beyond] = 1
    for _ in range(rng.integers(0, 12)):
        _strew(rng, part, texture)
    sharp = _averaged(_coloured(Surface(part, texture), _colours(rng)))
    blur = rng.uniform(*defocus)
    return np.asarray(gaussian_filter(sharp, (blur, blur, 0)))


def _material(rng: Rng, row: Field, column: Field) -> Field:
    """A texture at a random angle and scale."""
    texture = MATERIALS[rng.integers(len(MATERIALS))]
    period = rng.uniform(14, 45)
    x, y = _rotated(column / period, row / period, rng.uniform(0, math.pi))
    return texture(x + rng.uniform(0, 16), y + rng.uniform(0, 16), rng)


def _half_plane(rng: Rng, row: Field, column: Field, height: int, width: int) -> Mask:
    """The area below a horizon or, equally often, to one side of a slanted line."""
    slant = rng.normal(0, 0.05) if rng.uniform() < 0.5 else rng.uniform(0.4, 1.2)
    slant *= rng.choice([-1, 1])
    level = height * rng.uniform(0.3, 0.7) + slant * (column - width / 2)
    below: Mask = row > level
    return below


def _strew(rng: Rng, part: NDArray[np.int8], texture: Field) -> None:
    """Draw one piece of clutter, a pebble or a stick, onto a background; it has no label."""
    length = SUPERSAMPLING * rng.uniform(3, 9)
    thickness = length * rng.uniform(0.25, 1)
    top = int(rng.integers(part.shape[0]))
    left = int(rng.integers(part.shape[1]))
    reach = int(2 * length) + 1
    window = (slice(top, top + reach), slice(left, left + reach))
    grid: NDArray[np.float32] = np.indices(part[window].shape, dtype=np.float32)
    x, y = _rotated(grid[1] - length, grid[0] - length, rng.uniform(0, math.pi))
    bit = _ellipse(x, y, length, thickness)
    part[window][bit] = rng.integers(3)
    texture[window][bit] = rng.uniform()


def _share(rng: Rng, style: SceneStyle, count: int) -> float:
    """Share of the image area of one object; smaller with many objects, to leave background."""
    low, high = style.object_share
    return float(rng.uniform(low, low + (high - low) / math.sqrt(count)))


def _arrange(
    rng: Rng, cast: Sequence[tuple[int, int]], style: SceneStyle, shape: tuple[int, int]
) -> list[Pose]:
    """Poses of all objects: the first arrangement in which none touch, or else the widest tried.

    Touching objects of different classes would form a single region, which gets a single class.
    """
    arrangements: list[list[Pose]] = []
    for _ in range(ARRANGEMENTS):
        poses: list[Pose] = []
        for label, form in cast:
            poses.append(_pose(rng, label, form, _share(rng, style, len(cast)), shape, poses))
        if _clearance(poses) >= APART:
            return poses
        arrangements.append(poses)
    return max(arrangements, key=_clearance)


def _pose(
    rng: Rng, label: int, form: int, share: float, shape: tuple[int, int], others: list[Pose]
) -> Pose:
    """Scale an object to ``share`` of the image and place it far from the others."""
    known = OBJECT_CLASSES[label - 1]
    # Drawn twice with the same seed: coarsely here to measure its area, later at its final size.
    ticks = np.linspace(-1, 1, 64, dtype=np.float32)
    x, y = np.meshgrid(ticks, ticks)
    outline = known.draw(x, y, np.random.default_rng(form)).part >= 0
    size = math.sqrt(share * shape[0] * shape[1] / (4 * outline.mean()))
    size = min(size, 0.55 * min(shape))
    angle = rng.uniform(-known.lean, known.lean)
    mirrored = bool(rng.integers(2))
    # Centres may be as close as 0.75 of the size, so some objects are slightly cut by the border.
    margin = [min(0.75 * size, side / 2) for side in shape]
    places = [
        Pose(
            row=rng.uniform(margin[0], shape[0] - margin[0]),
            column=rng.uniform(margin[1], shape[1] - margin[1]),
            size=size,
            angle=angle,
            mirrored=mirrored,
        )
        for _ in range(8)
    ]
    return max(places, key=lambda place: _clearance([*others, place]))


def _clearance(poses: Sequence[Pose]) -> float:
    """Smallest distance between two objects, relative to their sizes; at about 1, they touch."""
    return min(
        (
            math.hypot(one.row - other.row, one.column - other.column) / (one.size + other.size)
            for one, other in combinations(poses, 2)
        ),
        default=math.inf,
    )


def _place(
    canvas: NDArray[np.float32],
    labels: NDArray[np.uint8],
    label: int,
    pose: Pose,
    form: int,
    light: float,
    rng: Rng,
) -> None:
    """Draw one object and its shadow onto the canvas, and the object into the labels."""
    window = _window(pose, labels.shape)
    row, column = _fine_grid(*window)
    right, up = (column - pose.column) / pose.size, (pose.row - row) / pose.size
    x, y = _rotated(right, up, pose.angle)
    draw = OBJECT_CLASSES[label - 1].draw
    surface = draw(-x if pose.mirrored else x, y, np.random.default_rng(form))
    coverage = _averaged((surface.part >= 0).astype(np.float32))[..., None]

    below = canvas[window]
    colours = _distinct_colours(rng, below[coverage[..., 0] >= 0.5].mean(axis=0))
    colour = _averaged(_coloured(surface, colours))
    below *= 1 - 0.55 * _shadow(coverage, pose.size, light) * (1 - coverage)
    # `colour` is already weighted by the coverage, because samples outside are black.
    below *= 1 - coverage
    below += colour * _relief(coverage, pose.size, light)
    labels[window][coverage[..., 0] >= 0.5] = label


def _window(pose: Pose, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the image that the object and its shadow may cover."""
    reach = 1.2 * pose.size * (abs(math.cos(pose.angle)) + abs(math.sin(pose.angle)))
    rows = slice(max(int(pose.row - reach), 0), min(int(pose.row + reach) + 1, shape[0]))
    columns = slice(max(int(pose.column - reach), 0), min(int(pose.column + reach) + 1, shape[1]))
    return rows, columns


def _distinct_colours(rng: Rng, behind: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw four random colour sets; return the one whose body differs most from ``behind`` [3]."""
    draws = [_colours(rng) for _ in range(4)]
    return max(
        draws, key=lambda colours: float(np.linalg.norm(colours[BODY].mean(axis=0) - behind))
    )


def _shadow(coverage: NDArray[np.float32], size: float, light: float) -> NDArray[np.float32]:
    """The coverage, blurred and shifted away from the light: [h, w, 1]."""
    offset = 0.09 * size
    drop = (round(offset * math.sin(light)), round(offset * math.cos(light)))
    blurred: NDArray[np.float32] = gaussian_filter(coverage[..., 0], 0.06 * size)
    moved: NDArray[np.float32] = shift(blurred, drop, order=0, mode="constant")
    return moved[..., None]


def _relief(coverage: NDArray[np.float32], size: float, light: float) -> NDArray[np.float32]:
    """Shading of a rounded body lit from one side: [h, w, 1], about 1."""
    height = gaussian_filter(coverage[..., 0], 0.08 * size)
    down, right = np.gradient(height)
    slope = 0.08 * size * (math.sin(light) * down + math.cos(light) * right)
    brightness = np.clip(0.6 + 0.45 * height + 0.9 * slope, 0.3, 1.5)
    return np.asarray(brightness[..., None], dtype=np.float32)


def _photograph(
    canvas: NDArray[np.float32], light: float, level: tuple[float, float], rng: Rng
) -> NDArray[np.uint8]:
    """Apply a light falloff across the scene, slight lens blur and sensor noise."""
    height, width = canvas.shape[:2]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    right = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    # The light is on the side opposite to the shadows.
    towards = -(math.sin(light) * down + math.cos(light) * right)
    lit = canvas * (1 + rng.uniform(0.05, 0.25) * towards)
    blur = rng.uniform(0.2, 0.7)
    soft = gaussian_filter(lit, (blur, blur, 0))
    noise = rng.uniform(*level) * rng.standard_normal(canvas.shape, dtype=np.float32)
    return np.asarray(np.rint(255 * np.clip(soft + noise, 0, 1)), dtype=np.uint8)


# --- Files --------------------------------------------------------------------------------------


def scene_name(index: int) -> str:
    """File name of a scene without suffix, such as ``scene-0007``."""
    return f"scene-{index:04d}"


def write_scenes(
    folder: Path | str, count: int, seed: int, style: SceneStyle = SceneStyle()
) -> None:
    """Write scenes 0 to ``count - 1`` and the names of their classes.

    Writes ``images/scene-0000.jpg``, … (JPEG, like most photographs that the workflow is used on),
    ``labels/scene-0000.png``, … (8 bits, one channel: the class id) and ``classes.csv`` with the
    columns ``id`` and ``name``. The same arguments write the same bytes.

    Parameters
    ----------
    folder : path
        Output folder; created if missing.
    count : int
        Number of scenes, 1 or more.
    seed : int
        Seed of the dataset, 0 or more.
    style : SceneStyle, optional
        Parameters that all scenes share.

    Raises
    ------
    ConfigError
        If ``count`` is less than 1.
    DatasetError
        If ``images`` or ``labels`` contains other files.
    """
    if count < 1:
        raise ConfigError(f"count: {count}; must be at least 1")
    images = [Path(folder) / "images" / f"{scene_name(index)}.jpg" for index in range(count)]
    labels = [Path(folder) / "labels" / f"{scene_name(index)}.png" for index in range(count)]
    for paths in (images, labels):
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        _refuse_others(paths[0].parent, {path.name for path in paths})
    for index in range(count):
        image, label_map = render_scene(seed, index, style)
        Image.fromarray(image).save(images[index], quality=JPEG_QUALITY)
        Image.fromarray(label_map).save(labels[index])
    with (Path(folder) / "classes.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "name"])
        table.writerows(enumerate(CLASSES))


def _refuse_others(folder: Path, names: set[str]) -> None:
    """Raise a DatasetError if a folder contains files other than ``names``."""
    others = sorted(path.name for path in folder.iterdir() if path.name not in names)
    if others:
        raise DatasetError(
            f"{folder}: contains {len(others)} other files, such as {others[0]}; empty it first"
        )
