"""The folder of a fitted run: complete, verified, and refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lightcluster.config import parse_config
from lightcluster.errors import DatasetError, ModelError
from lightcluster.features.weights import fetch_weights
from lightcluster.files import read_arrays, write_arrays
from lightcluster.model.folder import APPLIED, ARRAYS, export_model, open_model
from lightcluster.model.segmentation import RECORD, segment
from lightcluster.steps import STEPS, settings_of

CONFIG = parse_config(
    {"backbone": {"model": "test_vit", "weights": "random"}, "features": {"layer": "auto"},
     "labelling": {"seeds": [7, 8]}, "dataset": {"max_pixels": 1234}}
)["lightcluster"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights = tmp_path / "weights" / "w.safetensors"
    fetch_weights("test_vit", "random", None, 0, weights)
    arrays = {}
    for name, kept in ARRAYS.items():
        arrays[name] = tmp_path / f"{name}.npz"
        write_arrays(arrays[name], **{key: np.arange(3.0) for key in (*kept, "of_the_fit")})
    (tmp_path / "palette.csv").write_text("id,name,color,regions\n")
    sections = settings_of("export_model", CONFIG)
    del sections["version"]
    export_model(
        arrays, weights, tmp_path / "palette.csv", tmp_path / "model", sections=sections,
        dataset="d", run="r", facet="query", layer=2,
    )  # fmt: skip
    return tmp_path / "model"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_written_is_read_and_holds_nothing_of_the_images(folder: Path):
    model = open_model(folder)
    assert (model.dataset, model.run, model.seed, model.layer) == ("d", "r", 7, 2)
    assert model.settings("refine_masks") == settings_of("refine_masks", CONFIG)
    assert model.settings("extract_features")["features.layer"] == 2
    assert model.settings("extract_features")["features.facet"] == "query"
    for name, kept in ARRAYS.items():
        assert set(read_arrays(folder / f"{name}.npz")) == set(kept)
    assert json.loads((folder / "model.json").read_text())["config"]["dataset"] == {
        "max_pixels": 1234
    }


def test_it_is_whole_when_copied_and_weights_take_no_room_twice(folder: Path, tmp_path: Path):
    linked = (folder / "weights.safetensors").stat()
    assert linked.st_ino == (tmp_path / "weights" / "w.safetensors").stat().st_ino
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "weights")
    assert open_model(tmp_path / "copy").run == "r"


@pytest.mark.parametrize("name", ["dataset.npz", "weights.safetensors", "classes.csv"])
def test_a_missing_or_changed_file_is_named(folder: Path, name: str):
    (folder / name).rename(folder / "kept")
    with pytest.raises(ModelError, match=rf"{name}: missing, or not what"):
        open_model(folder)
    (folder / name).write_bytes((folder / "kept").read_bytes() + b"\n")
    with pytest.raises(ModelError, match=rf"{name}: missing, or not what"):
        open_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2 of the folder's layout"),
        ({"format": "other"}, "not of the format"),
        ({"layer": "deep"}, "layer: Input should be a valid integer"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"steps": {}}, "version None of the step extract_features"),
        (
            {"steps": {name: STEPS[name].version + (name == "refine_masks") for name in APPLIED}},
            "of the step refine_masks, which is at version",
        ),
    ],
)
def test_another_model_is_refused_with_a_reason(folder: Path, changes, message: str):
    edit(folder, **changes)
    with pytest.raises(ModelError, match=message):
        open_model(folder)


def test_no_model_at_all(tmp_path: Path):
    with pytest.raises(ModelError, match=r"model\.json is missing; runs write theirs to"):
        open_model(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        open_model(tmp_path)


def test_other_files_are_never_replaced(folder: Path, tmp_path: Path):
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    mine = tmp_path / "mine"
    (mine / "masks").mkdir(parents=True)
    with pytest.raises(DatasetError, match="is not empty, and not the output of an earlier"):
        segment([images], folder, mine)
    with pytest.raises(DatasetError, match="which is searched for images"):
        segment([images], folder, images / "deep" / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="is a file"):
        segment([images], folder, tmp_path / "file")
    with pytest.raises(DatasetError, match="holds no image"):
        segment([images], folder, tmp_path / "new")
    with pytest.raises(DatasetError, match="no such file or folder"):
        segment([tmp_path / "gone.jpg"], folder, tmp_path / "new")
    assert (mine / "masks").is_dir()
    assert not (mine / RECORD).exists()
    assert not (tmp_path / "new").exists()
