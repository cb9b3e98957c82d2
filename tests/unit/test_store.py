"""What goes into a store comes out of it, or an error that names the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from lightcluster.errors import StoreError
from lightcluster.extraction import store as module
from lightcluster.extraction.store import FeatureStore, FeatureStoreWriter, ImageFeatures

DIM = 6


def images(grids: list[tuple[int, int]], facets: tuple[str, ...] = ("key",)) -> list[ImageFeatures]:
    random = np.random.default_rng(0)
    return [
        ImageFeatures(
            cls=random.standard_normal(DIM).astype(np.float32),
            cls_attention=random.random(rows * columns).astype(np.float16),
            colors=random.integers(0, 256, (rows * columns, 4, 3), np.uint8),
            facets={
                name: random.standard_normal((rows * columns, DIM)).astype(np.float16)
                for name in facets
            },
        )
        for rows, columns in grids
    ]


def write(
    path: Path,
    grids: list[tuple[int, int]],
    facets: tuple[str, ...] = ("key",),
    ids: list[str] | None = None,
    **attributes: Any,
) -> list[ImageFeatures]:
    features = images(grids, facets)
    ids = ids or [f"image {index}" for index in range(len(grids))]
    array = np.array(grids)
    with FeatureStoreWriter(path, array, array * 16 + 3, ids, facets, DIM, attributes) as writer:
        for image_id, image in zip(ids, features, strict=True):
            writer.append(image_id, image)
    return features


def read_all(path: Path) -> None:
    store = FeatureStore.open(path)
    for _ in store.iter_images((*store.facets, "cls_attention", "colors")):
        pass


def files(path: Path) -> dict[str, bytes]:
    found = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


@settings(max_examples=10, deadline=None)
@given(
    grids=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12),
    chunk_rows=st.sampled_from([1, 7, 32]),
    file_bytes=st.sampled_from([1, 1000, 5000]),
    block=st.integers(1, 100),
    names=st.lists(st.text(st.characters(codec="utf-8")), min_size=12, max_size=12, unique=True),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    grids: list[tuple[int, int]],
    chunk_rows: int,
    file_bytes: int,
    block: int,
    names: list[str],
) -> None:
    path = tmp_path_factory.mktemp("store") / "0000.zarr"
    names = names[: len(grids)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_ROWS", chunk_rows)
        patch.setattr(module, "_FILE_BYTES", file_bytes)
        features = write(path, grids, ("key", "value"), names, layer=-1)
    store = FeatureStore.open(path, {"layer": -1})
    assert (store.n_images, store.dim, store.facets) == (len(grids), DIM, ("key", "value"))
    assert store.image_id == names
    assert store.grid.tolist() == [list(grid) for grid in grids]
    assert np.array_equal(store.size, store.grid * 16 + 3)
    assert store.offset.tolist() == [0, *np.cumsum([r * c for r, c in grids])]
    assert store.grid.dtype == store.size.dtype == np.int32
    assert store.offset.dtype == np.int64
    assert np.array_equal(store.cls, [image.cls for image in features])
    for name in ("key", "value"):
        expected = np.concatenate([image.facets[name] for image in features])
        assert np.array_equal(store.rows(name, 0, store.n_rows), expected)
        blocks = list(store.iter_blocks((name,), max_rows=block))
        assert np.array_equal(np.concatenate([arrays[name] for *_, arrays in blocks]), expected)
        assert all(len(arrays[name]) <= max(block, 81) for *_, arrays in blocks)
    for stored, image in zip(
        store.iter_images(("value", "cls_attention", "colors")), features, strict=True
    ):
        assert stored.image_id == names[stored.index]
        assert stored.grid == grids[stored.index]
        assert np.array_equal(stored.arrays["cls_attention"], image.cls_attention)
        assert np.array_equal(stored.arrays["colors"], image.colors)
        assert np.array_equal(stored.arrays["value"], image.facets["value"])
        assert np.array_equal(store.key(stored.index), image.facets["key"])
        assert np.array_equal(store.cls_attention(stored.index), image.cls_attention)


@pytest.mark.parametrize("drawn", [[], [0], [1, 3, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("max_rows", [1, 9, 10**6])
def test_some_images_are_read_as_all_are(tmp_path: Path, drawn: list[int], max_rows: int) -> None:
    path = tmp_path / "s.zarr"
    features = write(path, [(1, 2), (3, 3), (2, 2), (1, 1), (2, 5)])
    store, chosen = FeatureStore.open(path), np.array(drawn, np.int64)
    blocks = list(store.iter_blocks(("key",), chosen, max_rows))
    assert [index for block, *_ in blocks for index in block] == drawn
    for block, start, arrays in blocks:
        assert start == store.offset[block[0]]
        assert len(arrays["key"]) == store.offset[block[-1] + 1] - start
        assert len(arrays["key"]) <= max_rows or len(block) == 1
    for stored, index in zip(store.iter_images(("key",), chosen), drawn, strict=True):
        assert stored.index == index
        assert np.array_equal(stored.arrays["key"], features[index].facets["key"])


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \n'\";.jpg")
    write(tmp_path / "s.zarr", [(1, 2)], ids=[name])
    assert FeatureStore.open(tmp_path / "s.zarr").image_id == [name]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, [(3, 5), (40, 60)], ("key", "token"), weights="abc")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_zeros_are_data(tmp_path: Path) -> None:
    path, zeros = tmp_path / "s.zarr", np.zeros((4, DIM))
    grids = np.array([[2, 2]])
    with FeatureStoreWriter(path, grids, grids, ["z"], ["key"], DIM, {}) as writer:
        image = ImageFeatures(
            zeros[0].astype("f4"),
            zeros[:, 0].astype("f2"),
            np.zeros((4, 4, 3), np.uint8),
            {"key": zeros},
        )
        writer.append("z", image)
    assert not FeatureStore.open(path).key(0).any()


def test_few_files(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", [(30, 40)] * 20)
    assert len(files(tmp_path / "s.zarr")) == 9 * 2 + 1  # arrays x (metadata, data), group


@pytest.mark.parametrize("several_files", [False, True])
def test_damage_is_found_and_named(
    several_files: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if several_files:
        monkeypatch.setattr(module, "_CHUNK_ROWS", 16)
        monkeypatch.setattr(module, "_FILE_BYTES", 16 * DIM * 2)
    path = tmp_path / "0007.zarr"
    write(path, [(4, 5)] * 3)
    data = [name for name in files(path) if not name.endswith("zarr.json")]
    assert len(data) == (9 if not several_files else 9 + 2 * 3)
    random = np.random.default_rng(0)
    for name in data:
        file, good = path / name, (path / name).read_bytes()
        flipped = bytearray(good)
        flipped[random.integers(len(good))] ^= 1 << random.integers(8)
        for bad in (bytes(flipped), good[: len(good) // 2], good[:-1], good[:3], b"", None):
            if bad is None:
                file.unlink()
            else:
                file.write_bytes(bad)
            with pytest.raises(StoreError) as error:
                read_all(path)
            assert str(file) in str(error.value)
            assert "delete it and run snakemake again" in str(error.value)
            file.write_bytes(good)
    read_all(path)


def test_damaged_metadata_never_changes_the_data(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    features = write(path, [(2, 3), (4, 1)], weights="abc")
    expected = np.concatenate([image.facets["key"] for image in features])
    random = np.random.default_rng(1)
    for name in [name for name in files(path) if name.endswith("zarr.json")]:
        file, good = path / name, (path / name).read_bytes()
        for position in random.choice(len(good), 12, replace=False):
            bad = bytearray(good)
            bad[position] ^= 1 << random.integers(7)
            file.write_bytes(bytes(bad))
            try:
                store = FeatureStore.open(path, {"weights": "abc"})
                found = np.concatenate([image.arrays["key"] for image in store.iter_images()])
            except StoreError:
                continue
            assert np.array_equal(found, expected)
        file.unlink()
        with pytest.raises(StoreError, match=r"s\.zarr"):
            read_all(path)
        file.write_bytes(good)


def test_a_chunk_for_each_image_is_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows as by Zarr; damage costs the images it lies in, or all of its file."""
    monkeypatch.setattr(module, "_FILE_BYTES", 3 * 20 * DIM * 2)  # three images in a file
    path, grids = tmp_path / "s.zarr", np.array([[4, 5]] * 7)
    features = images([(4, 5)] * 7)
    ids = [str(number) for number in range(7)]
    with FeatureStoreWriter(path, grids, grids, ids, ["key"], DIM, {}, 20) as writer:
        for name, image in zip(ids, features, strict=True):
            writer.append(name, image)
    assert len([name for name in files(path) if name.startswith("key/c/")]) == 3
    store = FeatureStore.open(path)
    for index in (6, 0, 3, 2, 5):
        found = store.key(index)
        assert np.array_equal(found, features[index].facets["key"])
        found += 1  # may be written
    by_zarr = zarr.open_group(path, mode="r")["key"][20:40]
    assert np.array_equal(store.key(1), by_zarr)
    file = path / "key" / "c" / "1" / "0"
    good = file.read_bytes()
    chunk = 20 * DIM * 2 + 4
    assert len(good) == 3 * chunk + 3 * 16 + 4
    for position, lost in [
        (0, {3}), (chunk - 1, {3}), (chunk, {4}), (3 * chunk - 1, {5}),
        (3 * chunk, {3, 4, 5}), (len(good) - 1, {3, 4, 5}),
    ]:  # fmt: skip
        bad = bytearray(good)
        bad[position] ^= 4
        file.write_bytes(bad)
        for index in range(7):
            if index in lost:
                with pytest.raises(StoreError, match="key/c/1/0: damaged"):
                    store.key(index)
            else:
                assert np.array_equal(store.key(index), features[index].facets["key"])
    for bad in (good[:-1], good[:10], b"", None):
        file.unlink()
        if bad is not None:
            file.write_bytes(bad)
        for index in (3, 4, 5):
            with pytest.raises(StoreError, match=r"key/c/1/0: (damaged|missing or empty)"):
                store.key(index)
        file.write_bytes(good)


def test_another_store_than_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.zarr"
    with pytest.raises(StoreError, match="no feature store"):
        FeatureStore.open(path)
    write(path, [(1, 1)], layer=-1)
    with pytest.raises(StoreError, match=r"s\.zarr: layer is -1, expected 3; delete it"):
        FeatureStore.open(path, {"layer": 3})
    with pytest.raises(StoreError, match=r"no facet 'query', only key"):
        FeatureStore.open(path).rows("query", 0, 1)
    with pytest.raises(ValueError, match="rows 0 to 2"):
        FeatureStore.open(path).rows("key", 0, 2)
    monkeypatch.setattr(module, "STORE_VERSION", 99)
    with pytest.raises(StoreError, match=r"s\.zarr: store_version is 2, expected 99; delete it"):
        FeatureStore.open(path)


def write_one_of_two(path: Path, interrupted: bool) -> None:
    grids = np.array([[1, 2], [2, 2]])
    with FeatureStoreWriter(path, grids, grids, ["a", "b"], ["key"], DIM, {}) as writer:
        writer.append("a", images([(1, 2)])[0])
        if interrupted:
            raise KeyboardInterrupt


@pytest.mark.parametrize("old_store", [False, True])
def test_a_crash_leaves_nothing_and_keeps_the_old(old_store: bool, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    if old_store:
        write(path, [(3, 3)])
    before = files(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_one_of_two(path, interrupted=True)
    with pytest.raises(StoreError, match="only 1 of 2 images"):
        write_one_of_two(path, interrupted=False)
    assert files(tmp_path) == before


# ---- interruptions -------------------------------------------------------------------------------


LONG = [(3, 4), (5, 2), (1, 1), (6, 6), (2, 7), (9, 1), (4, 4), (3, 3)]
"""Grids of the images of a store of several files."""


class StoppedError(Exception):
    pass


def write_until(path: Path, end: int | None, **changed: Any) -> int:
    """Write the store of `LONG`, or a changed one; fail before image `end`. Return the first."""
    arguments = {"grids": np.array(LONG), "image_ids": [f"é{n}" for n in range(len(LONG))],
                 "facets": ["key", "token"], "dim": DIM, "attributes": {"a": 1}, "chunk_rows": 3,
                 "origin": ["x"]} | changed  # fmt: skip
    features = images([tuple(grid) for grid in arguments["grids"]], ("key", "token"))
    with FeatureStoreWriter(path, sizes=arguments["grids"] * 16, **arguments) as writer:
        first = writer.appended
        for number in range(first, len(features)):
            if number == end:
                raise StoppedError
            writer.append(arguments["image_ids"][number], features[number])
    return first


@pytest.mark.thorough
@settings(max_examples=15, deadline=None)
@given(
    ends=st.lists(st.integers(0, len(LONG) - 1), max_size=4),
    chunk_rows=st.sampled_from([None, 1, 3]),
    file_bytes=st.sampled_from([40, 100, 200, 100_000]),
)
def test_an_interrupted_store_is_continued_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    ends: list[int],
    chunk_rows: int | None,
    file_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    rows = np.cumsum([down * across for down, across in LONG])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FILE_BYTES", file_bytes)
        write_until(folder / "whole", None, chunk_rows=chunk_rows, origin=None)
        per_file = zarr.open_array(folder / "whole" / "key", mode="r").shards[0]
        full = 0
        for end in ends:
            with pytest.raises(StoppedError):
                write_until(folder / "new", max(end, full), chunk_rows=chunk_rows)
            # The images up to the one that filled the last file.
            done = rows[max(end, full) - 1] // per_file if max(end, full) else 0
            full = int(np.searchsorted(rows, done * per_file)) + 1 if done else 0
        assert write_until(folder / "new", None, chunk_rows=chunk_rows) == full
    assert sorted(path.name for path in folder.iterdir()) == ["new", "whole"]
    assert files(folder / "new") == files(folder / "whole")


@pytest.fixture
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store of `LONG`, to be continued with its seventh image: its temporary folder."""
    monkeypatch.setattr(module, "_FILE_BYTES", 100)
    write_until(tmp_path / "whole", None)
    with pytest.raises(StoppedError):
        write_until(tmp_path / "new", 7)
    return next(tmp_path.glob(".new.*.tmp"))


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": ["y"]},
        {"origin": None},
        {"attributes": {"a": 2}},
        {"facets": ["token", "key"]},
        {"chunk_rows": 6},
        {"image_ids": [f"e{number}" for number in range(len(LONG))]},
        {"grids": np.array([*LONG[:7], (1, 3)])},
    ],
)
def test_a_store_of_anything_else_is_not_continued(
    unfinished: Path, changed: dict[str, Any], tmp_path: Path
) -> None:
    assert write_until(tmp_path / "new", None, **changed) == 0
    assert not unfinished.exists()


@pytest.mark.parametrize("damage", ["facet", "facet gone", "facet empty", "saved", "metadata"])
def test_what_is_damaged_of_an_unfinished_store_is_made_again(
    unfinished: Path, damage: str, tmp_path: Path
) -> None:
    """As after a power loss: nothing that is not yet part of a store is flushed."""
    if damage == "metadata":
        (unfinished / "key" / "zarr.json").write_bytes(b"")
    elif damage == "saved":
        saved = next(unfinished.glob(".progress-*/1.npz"))
        saved.write_bytes(saved.read_bytes()[:-40])
    else:
        file = unfinished / "token" / "c" / "2" / "0"
        content = bytearray(file.read_bytes())
        content[5] ^= 1
        file.write_bytes(b"" if damage == "facet empty" else content)
        if damage == "facet gone":
            file.unlink()
    (unfinished / "key" / "c" / "0" / "0.a.partial").write_text("killed while it was written")
    first = write_until(tmp_path / "new", None)
    assert (0 < first < 7) if damage != "metadata" else first == 7
    assert files(tmp_path / "new") == files(tmp_path / "whole")


def test_replacing_and_what_a_killed_writer_left(tmp_path: Path) -> None:
    path, stale = tmp_path / "[0].zarr", tmp_path / ".[0].zarr.123.tmp"
    stale.mkdir()
    write(path, [(1, 1)], ids=["old"])
    write(path, [(1, 1)], ids=["new"])
    assert FeatureStore.open(path).image_id == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_contradictions_are_refused(tmp_path: Path) -> None:
    grids, path = np.array([[1, 2]]), tmp_path / "s.zarr"
    for arguments in (
        (grids, grids, ["a", "b"], ["key"]),
        (grids, grids[:0], ["a"], ["key"]),
        (grids[:0], grids, ["a"], ["key"]),
        (grids.repeat(2, axis=0), grids.repeat(2, axis=0), ["a", "a"], ["key"]),
        (grids, grids, ["a"], []),
        (grids * 0, grids, ["a"], ["key"]),
    ):
        with pytest.raises(ValueError, match="a store needs"):
            FeatureStoreWriter(path, *arguments, DIM, {})
    with FeatureStoreWriter(path, grids, grids, ["a"], ["key"], DIM, {}) as writer:
        with pytest.raises(ValueError, match="not the one expected"):
            writer.append("b", images([(1, 2)])[0])
        with pytest.raises(ValueError, match="2 rows"):
            writer.append("a", images([(2, 2)])[0])
        writer.append("a", images([(1, 2)])[0])


def test_a_shard_without_usable_images_is_a_store_without_rows(tmp_path):
    none = np.empty((0, 2), np.int32)
    with FeatureStoreWriter(tmp_path / "s.zarr", none, none, [], ["key"], 4, {}):
        pass
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert (store.n_images, store.n_rows, store.dim) == (0, 0, 4)
    assert store.image_id == []
    assert list(store.iter_images(("key",))) == []
