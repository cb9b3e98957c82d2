"""Check the files of a model against its description before reading anything large.

A model may come from an untrusted source. Names, types and shapes of arrays are read from the
directory and the headers of a file, which no compression can inflate, and compared with the
configuration of the model. Only then are the numbers read; all must be finite.
"""

from __future__ import annotations

import csv
import io
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from lightcluster.errors import LightClusterError, ModelError, reason_of
from lightcluster.files import decode_names, encode_names, read_arrays
from lightcluster.paths import require_file
from lightcluster.sections import shorten

Kind = tuple[str, tuple[int, ...]]
"""Type and shape of an array."""

_MOST_ROUNDS = 100
"""Largest accepted value of `reestimation.rounds`."""

_LONGEST_HEADER = 2**14
"""Bytes; NumPy itself refuses headers of more than 10,000."""

_LARGEST_TABLE = 2**24
"""Bytes of a table of classes, which has at most 10,001 lines."""


def check_arrays(path: Path, wanted: Mapping[str, Kind]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of a ``.npz`` file that are what they should be.

    Parameters
    ----------
    path : Path
    wanted : mapping of str to (str, tuple of int)
        Type and shape of each array.

    Raises
    ------
    ModelError
        If the file is damaged, holds others, or numbers that are not finite.
    """
    found = declared_arrays(path)
    if found.keys() != wanted.keys():
        raise ModelError(
            f"{path}: holds the arrays {shorten(sorted(found)) or 'none'}; it must hold "
            f"{', '.join(sorted(wanted))}"
        )
    for name, kind in wanted.items():
        if found[name] != kind:
            raise ModelError(
                f"{path}: `{name}` is {_in_words(found[name])}; by the model's description it must "
                f"be {_in_words(kind)}"
            )
    try:
        arrays = read_arrays(path, *wanted)
    except LightClusterError as error:
        raise ModelError(str(error).partition("; delete it")[0]) from None
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(f"{path}: `{name}` holds numbers that are not finite")
    return arrays


def declared_arrays(path: Path) -> dict[str, Kind]:
    """Return type and shape of each array of a ``.npz`` file, without reading their numbers.

    Raises
    ------
    ModelError
        If the file is damaged, or its directory and its headers contradict each other.
    """
    found: dict[str, Kind] = {}
    try:
        with zipfile.ZipFile(require_file(path)) as archive:
            if archive.infolist() and archive.infolist()[0].header_offset:
                raise ValueError("something stands before its arrays")
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name == member.filename or name in found:
                    raise ValueError(f"an entry {member.filename[:80]!r} that is no array")
                with archive.open(member) as file:
                    start = io.BytesIO(file.read(_LONGEST_HEADER))
                dtype, shape = _read_header(start)
                size = start.tell() + math.prod(shape) * dtype.itemsize
                if dtype.hasobject:
                    raise ValueError(f"{name!r} holds Python objects")
                if size != member.file_size:
                    raise ValueError(
                        f"{name!r} claims {size:,} bytes, and the file {member.file_size:,}"
                    )
                found[name] = (dtype.name, shape)
    except LightClusterError as error:
        raise ModelError(str(error)) from None
    except Exception as error:  # zipfile, zlib, struct and numpy raise what damage leads them to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: damaged, or no file of arrays ({reason})") from None
    return found


def _read_header(file: io.BytesIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return type and shape of an array from the header of its file."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read(file)
    if any(side < 0 for side in shape):
        raise ValueError("an array with a side below 0")
    return dtype, tuple(int(side) for side in shape)


def _in_words(kind: Kind) -> str:
    return f"{kind[0]} {list(kind[1])}"


def check_fit(
    folder: Path, *, dim: int, levels: tuple[int, int], groups: int, trees: tuple[int, int]
) -> None:
    """Check what a model knows of the levels and the foreground.

    Parameters
    ----------
    folder : Path
    dim : int
        Features of a patch.
    levels : (int, int)
        Clusters of the dataset level, and of each superclass.
    groups : int
        Superclasses at most.
    trees : (int, int)
        Trees of the re-estimation, and clusters of each.

    Raises
    ------
    ModelError
        If a file is damaged, or contradicts the description or another file.
    """
    k, of_group = levels
    path = folder / "dataset.npz"
    wanted = {"centroids": ("float32", (k, dim)), "distance": ("float64", (1,))}
    if not 0 <= check_arrays(path, wanted)["distance"][0] <= 2:
        raise ModelError(f"{path}: `distance` must lie between 0 and 2")
    path = folder / "superclasses.npz"
    _, shape = declared_arrays(path).get("centroids", ("", ()))
    count = shape[0] if len(shape) == 2 and 1 <= shape[0] <= groups else 1
    check_arrays(path, {"centroids": ("float32", (count, dim))})
    check_arrays(folder / "category.npz", {"centroids": ("float32", (count, of_group, dim))})
    check_arrays(
        folder / "foreground.npz",
        {"dataset": ("bool", (k,)), "category": ("bool", (count, of_group))},
    )
    path = folder / "trees.npz"
    found = declared_arrays(path)
    counted = [found[name][1][:1] for name in ("share", "threshold") if name in found]
    if len(counted) == 2 and counted[0] != counted[1]:
        raise ModelError(f"{path}: `share` and `threshold` are of different numbers of rounds")
    rounds = counted[0][0] if counted and counted[0] and counted[0][0] <= _MOST_ROUNDS else 0
    _, shape = found.get("projection", ("", ()))
    width = shape[1] if len(shape) == 2 and 1 <= shape[1] <= dim else dim
    arrays = check_arrays(
        path,
        {
            "projection": ("float32", (dim, width)),
            "centroids": ("float32", (*trees, width)),
            "share": ("float64", (rounds, *trees)),
            "threshold": ("float64", (rounds, trees[0])),
        },
    )
    for name, least in (("share", 0), ("threshold", 1e-9)):
        if ((arrays[name] < least) | (arrays[name] > 1 - least)).any():
            raise ModelError(f"{path}: `{name}` must lie between 0 and 1")


def check_labelling(
    path: Path, *, dim: int, features: tuple[str, ...], pca: int, classes: int
) -> None:
    """Check the classes of a seed.

    Parameters
    ----------
    path : Path
    dim : int
    features : tuple of str
        What describes a region.
    pca : int
        Components kept, where there are more; 0 for all.
    classes : int

    Raises
    ------
    ModelError
        If the file is damaged, or contradicts the description.
    """
    side = len(features) * dim
    _, shape = declared_arrays(path).get("components", ("", ()))
    kept = pca if len(shape) == 2 and shape[1] == pca and 0 < pca < side else side
    names = encode_names(features)
    arrays = check_arrays(
        path,
        {
            "features": ("uint8", names.shape),
            "centers": ("float32", (len(features), dim)),
            "components": ("float32", (side, kept)),
            "centroids": ("float32", (classes, kept)),
        },
    )
    if not np.array_equal(arrays["features"], names):
        try:
            found = ", ".join(map(str, decode_names(arrays["features"])))
        except (ValueError, TypeError):
            found = "something else"
        raise ModelError(f"{path}: describes regions by {found}, not by {', '.join(features)}")


def check_palette(path: Path, values: int) -> None:
    """Check the table of the values in a segmentation.

    Parameters
    ----------
    path : Path
    values : int
        How many there are, from 0 on.

    Raises
    ------
    ModelError
        If it is no such table, or one of other values.
    """
    try:
        if require_file(path).stat().st_size > _LARGEST_TABLE:
            raise ModelError(f"{path}: is too large for a table of {values} values")
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            header = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ModelError(f"{path}: is no table of classes ({reason_of(error)})") from None
    except LightClusterError as error:
        raise ModelError(str(error)) from None
    if header[:3] != ["id", "name", "color"]:
        raise ModelError(f"{path}: needs the columns id, name and color")
    if [row["id"] for row in rows] != [str(number) for number in range(values)]:
        raise ModelError(
            f"{path}: must hold the values 0 to {values - 1} in this order, by the model's other "
            "files"
        )
    for row in rows:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", row["color"] or "") or not row["name"]:
            raise ModelError(f"{path}: value {row['id']} needs a name, and a color such as #1f77b4")


def check_tensors(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Check the tensors of a safetensors file, all of them float32.

    Parameters
    ----------
    path : Path
    wanted : mapping of str to tuple of int
        Shape of each tensor.

    Raises
    ------
    ModelError
        If the file is damaged, holds others, or numbers that are not finite.
    """
    try:
        with safetensors.safe_open(require_file(path), "np") as file:
            names = set(file.keys())
            if names != wanted.keys():
                missing, more = sorted(wanted.keys() - names), sorted(names - wanted.keys())
                found = [f"lacks {m}" for m in missing[:1]]
                found += [f"holds {shorten([m])}" for m in more[:1]]
                raise ModelError(f"{path}: {' and '.join(found)}, by which it is another network")
            for name, shape in wanted.items():
                part = file.get_slice(name)
                if (part.get_dtype(), tuple(part.get_shape())) != ("F32", shape):
                    raise ModelError(
                        f"{path}: {name} is {part.get_dtype()} {part.get_shape()}; it must be F32 "
                        f"{list(shape)}"
                    )
                if not np.isfinite(file.get_tensor(name)).all():
                    raise ModelError(f"{path}: {name} holds numbers that are not finite")
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: is no file of safetensors ({reason_of(error)})") from None
    except ModelError:
        raise
    except LightClusterError as error:
        raise ModelError(str(error)) from None
