"""From image files to a store, whatever the batches and threads."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import build_network
from PIL import Image

from lightcluster.digests import digest_file
from lightcluster.errors import ImageError, LightClusterError
from lightcluster.extraction import shard
from lightcluster.extraction import store as store_module
from lightcluster.extraction.backbones.protocol import Backbone
from lightcluster.extraction.backbones.vision_transformer import VisionTransformerBackbone
from lightcluster.extraction.images import (
    ImageRow,
    open_image,
    patch_colors,
    prepare_image,
    resize_image,
    target_size,
)
from lightcluster.extraction.shard import extract_shard
from lightcluster.extraction.store import FeatureStore

POLICY: dict[str, Any] = {"short_side": 48, "max_tokens": 30, "max_pixels": 10**6}
SETTINGS: dict[str, Any] = {
    "facets": ("key", "token"),
    "layer": -1,
    "precision": torch.float32,
    "batch_size": 4,
    "threads": 2,
    "attributes": {"weights": "abc"},
} | POLICY
SIZES = [(60, 80), (80, 60), (1, 1), (10, 400)]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return open_test_backbone()


def open_test_backbone() -> Backbone:
    torch.manual_seed(0)
    return VisionTransformerBackbone(build_network("test_vit"), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRow]:
    return write_images(tmp_path_factory.mktemp("images"))


def write_images(folder: Path) -> list[ImageRow]:
    random = np.random.default_rng(0)
    found = []
    for index in range(14):
        height, width = SIZES[index % 4]
        path = folder / f"{index} 'é;\n.png"
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        found.append(ImageRow(f"{index:02d}/é\n", path, height, width, digest_file(path)))
    return found


def test_store_holds_the_features_of_each_image(
    rows: list[ImageRow], backbone: Backbone, tmp_path: Path
) -> None:
    extract_shard(rows, backbone, tmp_path / "s.zarr", **SETTINGS)
    store = FeatureStore.open(tmp_path / "s.zarr", {"weights": "abc"})
    by_id = {row.image_id: row for row in rows}
    assert sorted(store.image_id) == sorted(by_id)
    for stored in store.iter_images(("key", "token", "cls_attention", "colors")):
        row = by_id[stored.image_id]
        assert stored.size == (row.height, row.width)
        size = target_size(row.height, row.width, 48, 16, 30)
        assert stored.grid == (size[0] // 16, size[1] // 16)
        rgb = open_image(row.path, 10**6)
        colors = patch_colors(resize_image(rgb, size), stored.grid)
        assert np.array_equal(stored.arrays["colors"], colors)
        image = prepare_image(rgb, size, backbone.mean, backbone.std)
        alone = backbone.forward(torch.from_numpy(image)[None], ("key", "token"))
        assert np.allclose(stored.cls, alone.cls[0], atol=1e-4)
        assert np.allclose(stored.arrays["cls_attention"], alone.cls_attention[0], atol=1e-3)
        for name in ("key", "token"):
            assert np.allclose(stored.arrays[name], alone.facets[name][0], atol=4e-3)


def test_batches_threads_and_the_order_of_rows_change_nothing(
    rows: list[ImageRow], backbone: Backbone, tmp_path: Path
) -> None:
    stores = []
    for index, (batch_size, threads) in enumerate([(3, 2), (3, 1), (3, 5), (1, 1), (64, 3)]):
        changed = SETTINGS | {"batch_size": batch_size, "threads": threads}
        shuffled = rows[index:] + rows[:index]
        extract_shard(shuffled, backbone, tmp_path / f"{index}", **changed)
        stores.append(FeatureStore.open(tmp_path / f"{index}"))
    first = stores[0]
    for store in stores[1:]:
        assert store.image_id == first.image_id
        assert np.array_equal(store.grid, first.grid)
        assert np.allclose(store.cls, first.cls, atol=1e-5)
        for name in ("key", "token", "cls_attention"):
            found, expected = (s.rows(name, 0, s.n_rows).astype("f4") for s in (store, first))
            assert np.allclose(found, expected, atol=4e-3)
    for store in stores[1:3]:  # of the same batch size: the same bytes
        assert np.array_equal(store.cls, first.cls)
        assert np.array_equal(store.rows("key", 0, 99), first.rows("key", 0, 99))


KILLED = """
import os, signal, sys
from pathlib import Path
import test_extraction as tests
from lightcluster.extraction import store

store._CHUNK_ROWS, store._FILE_BYTES = 10, 3000
append = store.FeatureStoreWriter.append

def append_until_killed(writer, *image):
    if writer.appended == 11:
        os.kill(os.getpid(), signal.SIGKILL)
    append(writer, *image)

store.FeatureStoreWriter.append = append_until_killed
rows = tests.write_images(Path(sys.argv[1]))
settings = {**tests.SETTINGS, "threads": 1, "batch_size": 2}
tests.extract_shard(rows, tests.open_test_backbone(), Path(sys.argv[2]), **settings)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and what a job left that was killed after it wrote eleven of 14."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "images").mkdir()
    job = subprocess.run(
        [sys.executable, "-c", KILLED, folder / "images", folder / "s.zarr"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert job.returncode == -signal.SIGKILL, job.stderr
    assert not (folder / "s.zarr").exists()
    return folder


@pytest.mark.parametrize("changed", ["nothing", "batch size", "weights", "image"])
def test_a_job_killed_with_sigkill_is_continued_to_the_same_bytes(
    killed: Path,
    changed: str,
    backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_module, "_FILE_BYTES", 3000)
    monkeypatch.setattr(store_module, "_CHUNK_ROWS", 10)
    shutil.copytree(killed, tmp_path / "new")
    given = {**SETTINGS, "batch_size": 1 if changed == "batch size" else 2}
    if changed == "weights":
        given["attributes"] = {"weights": "def"}
    rows = write_images(tmp_path / "new" / "images")
    if changed == "image":
        rows[0] = rows[0]._replace(path=rows[4].path, digest=rows[4].digest)
    extract_shard(rows, backbone, tmp_path / "whole.zarr", **given)

    decoded, passed = [], []
    prepare, forward = shard.prepare_row, backbone.forward
    monkeypatch.setattr(
        shard, "prepare_row", lambda row, *given: (decoded.append(row), prepare(row, *given))[1]
    )
    monkeypatch.setattr(
        backbone,
        "forward",
        lambda images, *given: (passed.append(len(images)), forward(images, *given))[1],
    )
    extract_shard(rows, backbone, tmp_path / "new" / "s.zarr", **given)
    assert sum(passed) == len(decoded) == len({row.image_id for row in decoded})
    if changed == "nothing":
        assert len(decoded) == 4  # after the last full file
    else:
        assert len(decoded) == len(rows)
    assert contents(tmp_path / "new" / "s.zarr") == contents(tmp_path / "whole.zarr")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"images", "s.zarr"}


def contents(folder: Path) -> dict[Path, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in found}


def test_an_image_that_changed_or_broke(
    rows: list[ImageRow], backbone: Backbone, tmp_path: Path
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    for bad, reason in (
        (rows[0]._replace(path=rows[4].path), "has changed since the dataset was indexed"),
        (rows[0]._replace(path=text), "has changed since the dataset was indexed"),
        (
            rows[0]._replace(path=tmp_path / "gone.jpg"),
            "has disappeared since",
        ),
        (rows[0]._replace(path=text, digest=digest_file(text)), "not an image"),
    ):
        with pytest.raises(ImageError, match=reason) as error:
            extract_shard([*rows[1:], bad], backbone, tmp_path / "s.zarr", **SETTINGS)
        assert str(bad.path) in str(error.value)
        assert [path for path in tmp_path.iterdir() if path != text] == []


def test_features_beyond_float16(rows: list[ImageRow], tmp_path: Path) -> None:
    backbone = VisionTransformerBackbone(build_network("test_vit"), (0.5,) * 3, (0.2,) * 3)
    with torch.no_grad():
        backbone.model.blocks[-1].attn.qkv.bias.fill_(1e6)
    with pytest.raises(LightClusterError, match="precision: float32"):
        extract_shard(rows, backbone, tmp_path / "s.zarr", **SETTINGS)


def test_every_float16_is_finite_or_not() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    assert [shard.are_finite(every[n : n + 1]) for n in range(1 << 16)] == [*np.isfinite(every)]
    assert shard.are_finite(every[:0])
    assert not shard.are_finite(np.asarray([1, np.inf], np.float32))


def test_progress_goes_to_standard_error(
    rows: list[ImageRow], backbone: Backbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract_shard(rows[:4], backbone, tmp_path / "0003.zarr", **SETTINGS)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "features: 100%" in captured.err
    assert "4/4" in captured.err
