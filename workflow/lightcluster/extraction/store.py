"""The feature store of one shard: a Zarr v3 group of flat arrays with offsets.

Images keep their aspect ratio, so they have different numbers of patches. The patches of all N
images are concatenated in flat arrays of T rows; image i has the rows from ``offset[i]`` to
``offset[i + 1]``, in row-major order of its ``grid[i]``.

============== ================ ======================================================
array          type             meaning
============== ================ ======================================================
key, …         float16 [T, D]   a facet of each patch
cls_attention  float16 [T]      attention of the class token to each patch
colors         uint8 [T, 4, 3]  mean RGB of the quarters of each patch, row by row
cls            float32 [N, D]   class token
grid           int32 [N, 2]     patches of the image, down and across
offset         int64 [N + 1]    first row of each image, and T
size           int32 [N, 2]     height and width of the image in pixels
image_id       uint8 [bytes]    UTF-8 of all ids, concatenated
image_id_end   int64 [N]        end of each id
============== ================ ======================================================

The attributes of the group hold the version of this layout and everything that determines the
features.

Integrity: every chunk has a CRC-32C, and so has the index of the chunks in each file (the
*sharding* codec combines chunks into few large files). Zarr reads a missing or empty file as
zeros, so each read first checks that the files exist, and all-zero chunks are stored like any
other. Nothing is compressed: Zstandard would save a quarter of the size of float16 keys, but three
steps read them, which would then cost 1.6 times as much.

The bytes depend only on the contents; there are no time stamps.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec

from lightcluster.digests import digest_of
from lightcluster.errors import StoreError
from lightcluster.files import read_arrays, replacing

STORE_VERSION = 2

_CHUNK_ROWS = 4096
_FILE_BYTES = 64 * 2**20
_READ_AHEAD_ROWS = 32 * 1024
_VERSION_KEY = "store_version"
_PER_PATCH = {"cls_attention": ((), np.float16), "colors": ((4, 3), np.uint8)}
"""Further arrays with a row for each patch: shape of a row and data type."""
_REMEDY = "delete it and run snakemake again"


@dataclass(frozen=True)
class ImageFeatures:
    """The features of one image, as they are written.

    Attributes
    ----------
    cls : float32 [D]
    cls_attention : float16 [T_i]
    colors : uint8 [T_i, 4, 3]
    facets : dict of str to float16 [T_i, D]
    """

    cls: NDArray[np.float32]
    cls_attention: NDArray[np.float16]
    colors: NDArray[np.uint8]
    facets: Mapping[str, NDArray[np.float16]]


@dataclass(frozen=True)
class StoredImage:
    """One image as :meth:`FeatureStore.iter_images` yields it.

    Attributes
    ----------
    index : int
        Its index in the store.
    image_id : str
    grid : (int, int)
        Patches down and across; their product is T_i.
    size : (int, int)
        Height and width in pixels.
    cls : float32 [D]
    arrays : dict of str to array [T_i, …]
        The requested arrays.
    """

    index: int
    image_id: str
    grid: tuple[int, int]
    size: tuple[int, int]
    cls: NDArray[np.float32]
    arrays: Mapping[str, NDArray[Any]]


class FeatureStoreWriter:
    """Writes a store under a temporary name, and renames it when it is complete.

    A context manager. Features are buffered until a file of the sharding codec is full, so that
    each file is written once; this takes at most 64 MiB of memory per facet. There may be only one
    writer per path at a time: it removes the temporary files of an earlier one that was killed.

    With `origin`, an interrupted writer leaves the files that are full, and a writer with the same
    arguments continues with the image after them (`appended`). The store has the same bytes as one
    that was written without interruption. Each time that a file of the facets becomes full, the
    other arrays of its images are saved beside it, which are 2 % of the bytes for ViT-S/16. Nothing
    is flushed: all checksums are verified before a writer continues.

    Parameters
    ----------
    path : Path
        Path of the store; an existing one is replaced on success.
    grids : int [N, 2]
        Patches of each image, down and across. N may be 0, for a shard without usable images.
    sizes : int [N, 2]
        Height and width of each image in pixels.
    image_ids : sequence of str
        Unique ids in the order in which the images will be appended.
    facets : sequence of str
        At least one.
    dim : int
        Feature dimension.
    attributes : mapping
        JSON types; :meth:`FeatureStore.open` can compare them.
    chunk_rows : int, optional
        Rows per chunk of a facet. For reading single images in random order, choose the number of
        rows of an image. 4,096 by default.
    origin : object, optional
        What else determines the features, such as digests of the images; JSON types.

    Attributes
    ----------
    appended : int
        Number of images that have been written.

    Raises
    ------
    ValueError
        If the arguments contradict each other.
    """

    def __init__(
        self,
        path: Path,
        grids: NDArray[np.integer],
        sizes: NDArray[np.integer],
        image_ids: Sequence[str],
        facets: Sequence[str],
        dim: int,
        attributes: Mapping[str, Any],
        chunk_rows: int | None = None,
        origin: object = None,
    ) -> None:
        count = len(image_ids)
        shapes = {grids.shape, sizes.shape}
        if len(set(image_ids)) != count or shapes != {(count, 2)}:
            raise ValueError("a store needs a grid, a size and a unique id for each image")
        if not facets or (grids < 1).any():
            raise ValueError("a store needs at least one facet, and one patch per image")
        self.path = path
        self._grids = grids.astype(np.int32)
        self._sizes = sizes.astype(np.int32)
        self._image_ids = list(image_ids)
        self._facets = tuple(facets)
        self._dim = dim
        self._chunk_rows = chunk_rows
        self._attributes = dict(attributes)
        self._offset = _offsets(self._grids)
        self.appended = 0
        self._identity = None if origin is None else self._identify(origin)
        self._saved = 0
        self._unsaved: list[ImageFeatures] = []  # images since then, without their facets

    def _identify(self, origin: object) -> str:
        """Return a digest of the arguments and of what else determines the bytes of the store."""
        arrays = [array.tolist() for array in (self._grids, self._sizes)]
        content = [
            STORE_VERSION, arrays, self._image_ids, self._facets, self._dim, self._attributes,
            self._chunk_rows, origin,
        ]  # fmt: skip
        return digest_of(json.dumps(content).encode("ascii"))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path, self._is_unfinished))
            self._progress = self._progress_in(temporary)
            self._create_arrays(temporary)
            self._continue(temporary)
            stack.push(self._finish)
            self._exit = stack.pop_all()
        return self

    def _progress_in(self, folder: Path) -> Path:
        """Return the folder with what is saved of the images of full files."""
        return folder / f".progress-{self._identity}"

    def _is_unfinished(self, folder: Path) -> bool:
        """Return whether a writer of the same store was interrupted after its first full file."""
        return self._identity is not None and (self._progress_in(folder) / "0.npz").exists()

    def _create_arrays(self, temporary: Path) -> None:
        for metadata in temporary.glob("**/zarr.json"):  # of an interrupted writer
            metadata.unlink()
        attributes = {_VERSION_KEY: STORE_VERSION, "facets": list(self._facets)}
        self._group = zarr.open_group(
            temporary, mode="a", zarr_format=3, attributes=self._attributes | attributes
        )
        total = int(self._offset[-1])
        facet = (total, self._dim), np.float16, self._chunk_rows
        arrays = {name: _create(self._group, name, *facet) for name in self._facets}
        for name, (shape, dtype) in _PER_PATCH.items():
            arrays[name] = _create(self._group, name, (total, *shape), dtype)
        self._flat = {
            name: _BufferedArray(array, temporary / name) for name, array in arrays.items()
        }
        self._cls = np.zeros((len(self._image_ids), self._dim), dtype=np.float32)

    def _continue(self, temporary: Path) -> None:
        """Take over the images of an interrupted writer up to its last undamaged full file."""
        rest: dict[str, NDArray[Any]] = {}
        while saved := self._read_saved():
            first, stop = self.appended, self.appended + len(saved["cls"])
            for name in _PER_PATCH:
                self._flat[name].append(saved[name])
            self._cls[first:stop] = saved["cls"]
            for name in self._facets:
                self._flat[name].skip_files(int(self._offset[stop]))
                rest[name] = saved[_rest_of(name)]
            self.appended, self._saved = stop, self._saved + 1
        for name, rows in rest.items():
            self._flat[name].append(rows)
        kept = {file for flat in self._flat.values() for file in flat.files()}
        kept |= {self._progress / f"{number}.npz" for number in range(self._saved)}
        for file in [file for file in temporary.rglob("*") if file.is_file()]:
            if file not in kept and file.name != "zarr.json":
                file.unlink()

    def _read_saved(self) -> dict[str, NDArray[Any]]:
        """Return what is saved of the next images; nothing if there is no more, or damaged."""
        try:
            saved = read_arrays(self._progress / f"{self._saved}.npz")
            stop = self.appended + len(saved["cls"])
            first_row, end = self._offset[self.appended], int(self._offset[stop])
            shapes: dict[str, tuple[int, ...]] = {"cls": (len(saved["cls"]), self._dim)}
            for name in _PER_PATCH:
                shapes[name] = (end - first_row, *self._flat[name].shape)
            for name in self._facets:
                shapes[_rest_of(name)] = (self._flat[name].rest(end), self._dim)
            whole = all(saved[name].shape == shape for name, shape in shapes.items())
        except (StoreError, LookupError):
            return {}
        sound = whole and all(self._flat[name].is_sound(end) for name in self._facets)
        return saved if sound else {}

    def _save(self) -> None:
        """Save what is not in full files of the images up to now; see `_continue`."""
        self._progress.mkdir(exist_ok=True)
        arrays = {"cls": np.stack([image.cls for image in self._unsaved])}
        for name in _PER_PATCH:
            arrays[name] = np.concatenate([getattr(image, name) for image in self._unsaved])
        for name in self._facets:
            arrays[_rest_of(name)] = self._flat[name].pending()
        np.savez(self._progress / f"{self._saved}.npz", allow_pickle=False, **arrays)
        self._saved += 1
        self._unsaved = []

    def append(self, image_id: str, features: ImageFeatures) -> None:
        """Add the next image.

        Raises
        ------
        ValueError
            If the image or the shape of its features is not the one expected next.
        """
        index = self.appended
        if index == len(self._image_ids) or image_id != self._image_ids[index]:
            raise ValueError(f"image {image_id!r} is not the one expected at index {index}")
        count = int(self._offset[index + 1] - self._offset[index])
        rows: dict[str, NDArray[Any]] = {name: features.facets[name] for name in self._facets}
        rows |= {name: getattr(features, name) for name in _PER_PATCH}
        if any(rows[name].shape != (count, *flat.shape) for name, flat in self._flat.items()):
            raise ValueError(f"image {image_id!r}: its features do not have {count} rows")
        self._cls[index] = features.cls
        self.appended += 1
        full = [self._flat[name].append(values) for name, values in rows.items()]
        if self._identity is not None:
            self._unsaved.append(replace(features, facets={}))
            if full[0]:  # all facets have the same number of rows per file
                self._save()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.__exit__(kind, error, trace)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write buffered features, unless an exception occurred."""
        if kind is not None:
            return
        if self.appended < len(self._image_ids):
            raise StoreError(
                f"{self.path}: only {self.appended} of {len(self._image_ids)} images were written"
            )
        if self._progress.exists():
            shutil.rmtree(self._progress)
        for array in self._flat.values():
            array.flush()
        encoded = [image_id.encode("utf-8", "surrogateescape") for image_id in self._image_ids]
        small: dict[str, NDArray[Any]] = {
            "cls": self._cls,
            "grid": self._grids,
            "offset": self._offset,
            "size": self._sizes,
            "image_id": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "image_id_end": np.cumsum([len(name) for name in encoded], dtype=np.int64),
        }
        for name, values in small.items():
            _create(self._group, name, values.shape, values.dtype)[...] = values


class FeatureStore:
    """A store opened for reading; see :meth:`open`.

    Attributes
    ----------
    path : Path
    attributes : dict
        As given to the writer.
    facets : tuple of str
    n_images, n_rows, dim : int
        N, T and D.
    image_id : list of str [N]
    grid : int32 [N, 2]
    offset : int64 [N + 1]
    size : int32 [N, 2]
    cls : float32 [N, D]
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self.attributes: dict[str, Any] = dict(group.attrs)
        self.facets = tuple(cast("list[str]", self.attributes["facets"]))
        self.grid = cast("NDArray[np.int32]", self._whole("grid", np.int32))
        self.size = cast("NDArray[np.int32]", self._whole("size", np.int32))
        self.offset = cast("NDArray[np.int64]", self._whole("offset", np.int64))
        self.cls = cast("NDArray[np.float32]", self._whole("cls", np.float32))
        self.n_images, self.dim = self.cls.shape
        self.n_rows = int(self.offset[-1])
        self.image_id = self._read_image_ids()
        self._check_shapes()

    @classmethod
    def open(cls, path: Path, expect: Mapping[str, Any] | None = None) -> FeatureStore:
        """Open a store and check that it is complete and has the expected attributes.

        Parameters
        ----------
        path : Path
        expect : mapping, optional
            Attributes that must have these values; others are ignored.

        Returns
        -------
        FeatureStore

        Raises
        ------
        StoreError
            If the store is missing, incomplete, damaged, has another layout version or other
            attributes than expected.
        """
        if not (path / "zarr.json").is_file():
            raise StoreError(f"{path}: no feature store; {_REMEDY}")
        try:
            group = zarr.open_group(path, mode="r", zarr_format=3)
            found = dict(group.attrs)
        except Exception as error:  # damaged metadata makes zarr raise all kinds of errors
            raise StoreError(f"{path / 'zarr.json'}: damaged ({error}); {_REMEDY}") from error
        for key, wanted in {_VERSION_KEY: STORE_VERSION, **(expect or {})}.items():
            if found.get(key) != wanted:
                raise StoreError(
                    f"{path}: {key} is {found.get(key)!r}, expected {wanted!r}; {_REMEDY}"
                )
        try:
            return cls(path, group)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path}: damaged ({error}); {_REMEDY}") from error

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop`` of a facet, of ``cls_attention`` or of ``colors``.

        Returns
        -------
        array [stop - start, …]

        Raises
        ------
        StoreError
            If the store has no such facet, or its file is damaged.
        ValueError
            If the range is outside the store.

        Notes
        -----
        A whole chunk, such as a crop in CAUSE's cache, is read without zarr-python, whose event
        loop blocks all Python threads: it takes 12 times the CPU time for this, with obstore 13
        times and with the codecs of zarrs 4 times. All other reads use zarr-python
        (``benchmarks/chunks.py``).
        """
        if name not in (*self.facets, *_PER_PATCH):
            raise StoreError(
                f"{self.path}: no facet {name!r}, only {', '.join(self.facets)}; add it to "
                "features.facets"
            )
        if not 0 <= start <= stop <= self.n_rows:
            raise ValueError(f"rows {start} to {stop} of a store with {self.n_rows}")
        return self._read(name, start, stop)

    def facet(self, name: str, index: int) -> NDArray[np.float16]:
        """A facet of one image, float16 [T_i, D]; for many images see :meth:`iter_images`."""
        return self.rows(name, int(self.offset[index]), int(self.offset[index + 1]))

    def key(self, index: int) -> NDArray[np.float16]:
        """The keys of one image, float16 [T_i, D]."""
        return self.facet("key", index)

    def cls_attention(self, index: int) -> NDArray[np.float16]:
        """Attention of the class token to the patches of one image, float16 [T_i]."""
        return self.facet("cls_attention", index)

    def iter_blocks(
        self,
        names: Sequence[str],
        images: NDArray[np.int64] | None = None,
        max_rows: int = _READ_AHEAD_ROWS,
    ) -> Iterator[tuple[NDArray[np.int64], int, dict[str, NDArray[Any]]]]:
        """Iterate over the store in blocks of whole images.

        Parameters
        ----------
        names : sequence of str
            Facets, ``cls_attention`` and ``colors``.
        images : int64 array, optional
            Only these images, ascending; all by default.
        max_rows : int
            Largest number of rows per block; an image with more is a block by itself.

        Yields
        ------
        block : int64 array
            Indices of the images in the block.
        start : int
            First row of the block.
        arrays : dict of str to array
            All rows of the block, including those of images between that were not requested.
        """
        wanted = np.arange(self.n_images) if images is None else images
        while len(wanted):
            start = int(self.offset[wanted[0]])
            fitting = np.searchsorted(self.offset[wanted + 1], start + max_rows, side="right")
            block, wanted = np.split(wanted, [max(1, int(fitting))])
            end = int(self.offset[block[-1] + 1])
            yield block, start, {name: self.rows(name, start, end) for name in names}

    def iter_images(
        self, names: Sequence[str] = ("key",), images: NDArray[np.int64] | None = None
    ) -> Iterator[StoredImage]:
        """Yield all or some images in order, read in blocks of about 32,000 rows.

        See :meth:`iter_blocks` for the arguments.

        Yields
        ------
        StoredImage
        """
        for block, base, arrays in self.iter_blocks(names, images):
            for index in block.tolist():
                rows = slice(int(self.offset[index]) - base, int(self.offset[index + 1]) - base)
                yield StoredImage(
                    index=index,
                    image_id=self.image_id[index],
                    grid=(int(self.grid[index, 0]), int(self.grid[index, 1])),
                    size=(int(self.size[index, 0]), int(self.size[index, 1])),
                    cls=self.cls[index],
                    arrays={name: values[rows] for name, values in arrays.items()},
                )

    def _array(self, name: str) -> zarr.Array[Any]:
        """An array of the store, opened once."""
        if name not in self._arrays:
            try:
                array = self._group[name]
                if not isinstance(array, zarr.Array):
                    raise TypeError(f"{name} is not an array")
            except Exception as error:  # damaged metadata makes zarr raise all kinds of errors
                found = f"{self.path / name / 'zarr.json'}: missing or damaged ({error})"
                raise StoreError(f"{found}; {_REMEDY}") from error
            self._arrays[name] = array
        return self._arrays[name]

    def _files(self, name: str, start: int, stop: int) -> Iterator[tuple[Path, int, int]]:
        """Yield the files that contain a range of rows of an array, and the rows in each."""
        array = self._array(name)
        height, *widths = array.shards or array.chunks
        columns = [range(ceil(side / w)) for side, w in zip(array.shape[1:], widths, strict=True)]
        for number in range(start // height, ceil(stop / height)):
            rows = max(start, number * height), min(stop, (number + 1) * height)
            for place in product(*columns):
                key = array.metadata.encode_chunk_key((number, *place))
                yield self.path / name / key, *rows

    def _look_for_files(self, name: str, start: int, stop: int) -> None:
        for file, *_ in self._files(name, start, stop):
            if not (file.is_file() and file.stat().st_size):
                raise StoreError(f"{file}: missing or empty; {_REMEDY}")

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows of an array after checking that no file is missing."""
        self._look_for_files(name, start, stop)
        array = self._array(name)
        try:
            if array.shards and stop - start == array.chunks[0] and start % array.chunks[0] == 0:
                file, *_ = next(self._files(name, start, stop))
                per_file = array.shards[0] // array.chunks[0]
                data = _read_chunk(file, start // array.chunks[0] % per_file, per_file)
                return np.frombuffer(data, array.dtype).reshape(array.chunks).copy()
            return np.asarray(array[start:stop])
        except Exception as error:  # damaged bytes make codecs raise all kinds of errors
            file = self._blame(name, start, stop)
            raise StoreError(f"{file}: damaged ({error}); {_REMEDY}") from error

    def _blame(self, name: str, start: int, stop: int) -> Path:
        """Return the first file from which a range of rows cannot be read."""
        for file, first, end in self._files(name, start, stop):
            try:
                self._array(name)[first:end]
            except Exception:
                return file
        return self.path / name

    def _whole(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        values = self._read(name, 0, self._array(name).shape[0])
        if values.dtype != dtype:
            raise ValueError(f"{name} is {values.dtype}, expected {np.dtype(dtype)}")
        return values

    def _read_image_ids(self) -> list[str]:
        text = self._whole("image_id", np.uint8).tobytes()
        ends = self._whole("image_id_end", np.int64)
        starts = [0, *ends][: len(ends)]
        return [
            text[start:end].decode("utf-8", "surrogateescape")
            for start, end in zip(starts, ends, strict=True)
        ]

    def _check_shapes(self) -> None:
        shapes = {
            "grid": (self.grid.shape, (self.n_images, 2)),
            "size": (self.size.shape, (self.n_images, 2)),
            "image_id": ((len(self.image_id),), (self.n_images,)),
        }
        for name, (row, _) in _PER_PATCH.items():
            shapes[name] = (self._array(name).shape, (self.n_rows, *row))
        for name in self.facets:
            shapes[name] = (self._array(name).shape, (self.n_rows, self.dim))
        for name, (found, expected) in shapes.items():
            if found != expected:
                raise ValueError(f"{name} has the shape {found}, expected {expected}")
        for name in (*_PER_PATCH, *self.facets):
            self._look_for_files(name, 0, self.n_rows)
        if not np.array_equal(self.offset, _offsets(self.grid)):
            raise ValueError("offset and grid disagree")


def _rest_of(facet: str) -> str:
    """Return the name under which the rows of a facet after its last full file are saved."""
    return f"rest of {facet}"


class _BufferedArray:
    """Appends rows to a Zarr array, writing whole files."""

    def __init__(self, array: zarr.Array[Any], folder: Path) -> None:
        self._array = array
        self._folder = folder
        self.shape = array.shape[1:]
        self._rows_per_file = cast("tuple[int, ...]", array.shards)[0]
        self._pending: list[NDArray[Any]] = []
        self._pending_rows = 0
        self._written = 0

    def append(self, rows: NDArray[Any]) -> bool:
        """Add rows; return whether this filled a file."""
        before = self._written
        while self._pending_rows + len(rows) >= self._rows_per_file:
            fitting = self._rows_per_file - self._pending_rows
            self._hold(rows[:fitting])
            self.flush()
            rows = rows[fitting:]
        self._hold(rows)
        return self._written > before

    def pending(self) -> NDArray[Any]:
        """Return the rows that are not written yet."""
        none = np.empty((0, *self.shape), self._array.dtype)
        return np.concatenate([none, *self._pending])

    def rest(self, stop: int) -> int:
        """Return how many of the first `stop` rows are not in a full file."""
        return stop % self._rows_per_file

    def files(self) -> Iterator[Path]:
        """Yield the full files that have been written."""
        for number in range(self._written // self._rows_per_file):
            yield self._file(number)

    def _file(self, number: int) -> Path:
        place = (number, *(0 for _ in self.shape))
        return self._folder / self._array.metadata.encode_chunk_key(place)

    def is_sound(self, stop: int) -> bool:
        """Return whether the full files up to row `stop`, after those written, are undamaged."""
        for number in range(self._written // self._rows_per_file, stop // self._rows_per_file):
            start = number * self._rows_per_file
            try:
                if not self._file(number).stat().st_size:
                    return False
                self._array[start : start + self._rows_per_file]
            except Exception:  # damaged bytes make codecs raise all kinds of errors
                return False
        return True

    def skip_files(self, stop: int) -> None:
        """Go on after the full files up to row `stop`, which exist."""
        self._written = stop - self.rest(stop)

    def _hold(self, rows: NDArray[Any]) -> None:
        if len(rows):
            self._pending.append(rows)
            self._pending_rows += len(rows)

    def flush(self) -> None:
        """Write pending rows: a full file, or the last one."""
        if self._pending:
            stop = self._written + self._pending_rows
            self._array[self._written : stop] = np.concatenate(self._pending)
            self._pending, self._pending_rows, self._written = [], 0, stop


def _create(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.typing.DTypeLike,
    chunk_rows: int | None = None,
) -> zarr.Array[Any]:
    """Create an array with checksums, in files of at most `_FILE_BYTES`."""
    rows, *rest = shape
    row_bytes = np.dtype(dtype).itemsize * int(np.prod(rest))
    most = chunk_rows or _CHUNK_ROWS
    chunks_per_file = max(1, _FILE_BYTES // (row_bytes * most))
    chunk_rows = max(1, min(rows, most))
    file_rows = chunk_rows * max(1, min(ceil(rows / chunk_rows), chunks_per_file))
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(chunk_rows, *rest),
        shards=(file_rows, *rest),
        serializer=BytesCodec(endian="little") if np.dtype(dtype).itemsize > 1 else BytesCodec(),
        filters=None,
        compressors=[Crc32cCodec()],
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def _read_chunk(file: Path, number: int, chunks: int) -> memoryview:
    """Return the bytes of a chunk in a file of the sharding codec.

    Parameters
    ----------
    file : Path
        Contains the chunks, each with a CRC-32C, followed by an index with the offset and length
        of each chunk, and a CRC-32C of the index.
    number : int
        Index of the chunk.
    chunks : int
        Number of chunks in the file.

    Returns
    -------
    memoryview

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or a checksum is wrong.
    """
    with file.open("rb", buffering=0) as opened:

        def read(offset: int, length: int) -> memoryview:
            data = os.pread(opened.fileno(), length, offset)
            checksum = int.from_bytes(data[-4:], "little")
            if len(data) != length or google_crc32c.value(data[:-4]) != checksum:
                raise ValueError("a checksum is wrong")
            return memoryview(data)[:-4]

        index_length = chunks * 2 * 8 + 4
        index = read(os.fstat(opened.fileno()).st_size - index_length, index_length)
        return read(*struct.unpack_from("<QQ", index, number * 2 * 8))


def _offsets(grids: NDArray[np.int32]) -> NDArray[np.int64]:
    """First row of each image, and the number of rows: int64 [N + 1]."""
    counts = grids.astype(np.int64).prod(axis=1)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
