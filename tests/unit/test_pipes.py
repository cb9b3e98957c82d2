"""Nothing that a user names is waited for: a pipe in the place of a file is refused at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lightcluster.checkpoints import read_tensors
from lightcluster.datasets.annotations import read_annotations
from lightcluster.datasets.formats.field import read_ids
from lightcluster.datasets.labels import Classes, read_classes
from lightcluster.datasets.listing import list_dataset
from lightcluster.datasets.manifest import index_entries
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.errors import LightClusterError
from lightcluster.evaluation.published import read_published
from lightcluster.extraction.checkpoint_files import read_checkpoint
from lightcluster.files import read_arrays
from lightcluster.methods.cause.adoption import read_trained
from lightcluster.model.folder import open_model

READERS: dict[str, Callable[[Path], Any]] = {
    "classes.csv": read_classes,
    "instances_train.json": read_annotations,
    "ids.txt": lambda path: read_ids(path, "dataset.image_list"),
    "published.csv": lambda path: read_published("demo", path),
    "weights.safetensors": read_checkpoint,
    "weights.pth": read_checkpoint,
    "probe.safetensors": read_trained,
    "checkpoint.safetensors": read_tensors,
    "arrays.npz": read_arrays,
    "model.json": lambda path: open_model(path.parent),
}


@pytest.fixture(autouse=True)
def _not_for_ever(tmp_path):
    """End with a failure, not never, where a pipe is waited for."""

    def waited(*_: object) -> None:
        pytest.fail("a pipe was waited for")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(600)
    os.mkfifo(tmp_path / "pipe")
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", READERS)
def test_a_link_to_a_pipe_is_refused_by_name(tmp_path, name):
    (tmp_path / name).symlink_to("pipe")
    with pytest.raises(LightClusterError, match=name.partition(".")[0]):
        READERS[name](tmp_path / name)


def test_pipes_among_images_and_labels_are_rejected(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.png").symlink_to(tmp_path / "pipe")
    (tmp_path / "images" / "b.png").symlink_to(tmp_path / "pipe")
    (tmp_path / "images" / "c.png").symlink_to("/dev/zero")
    dataset = DatasetSettings(
        format="folder", images=tmp_path / "images", labels=tmp_path / "labels"
    )
    rows, rejected = index_entries(
        list_dataset(dataset, tmp_path), Classes((0,), ("thing",)), ignore=255, max_pixels=10**8
    )
    assert [rejection.image_id for rejection in rejected] == ["a.png", "b.png", "c.png"]
    assert all(row.label is None for row in rows)
