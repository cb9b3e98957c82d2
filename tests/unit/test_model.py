"""The folder of a fitted run: complete, verified, and refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from lightcluster.config import Config, lookup, parse_config
from lightcluster.errors import ConfigError, DatasetError, ModelError, WeightsError
from lightcluster.extraction.checkpoint_files import read_checkpoint
from lightcluster.extraction.weights import fetch_weights
from lightcluster.files import encode_names, read_arrays, write_arrays
from lightcluster.layout import Layout
from lightcluster.methods.sections import HOW
from lightcluster.model.adoption import adopt_fit, adopt_labelling
from lightcluster.model.folder import APPLIED_STEPS, ARRAYS, export_model, open_model
from lightcluster.model.segmentation import RECORD, segment
from lightcluster.regions.palette import write_palette
from lightcluster.steps import STEPS

CONFIG = parse_config(
    {"backbone": {"model": "test_vit", "weights": "random"},
     "features": {"facet": "auto", "layer": "auto"},
     "labelling": {"seeds": [7, 8]}, "dataset": {"max_pixels": 1234, "depth": 12}}
)["lightcluster"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return export(tmp_path, CONFIG)


DIM = 64
"""Of the backbone of `CONFIG`."""

SHAPES = {
    "dataset": {"centroids": (2, DIM), "distance": (1,)},
    "superclasses": {"centroids": (3, DIM)},
    "category": {"centroids": (3, 2, DIM)},
    "foreground": {"dataset": (2,), "category": (3, 2)},
    "trees": {
        "projection": (DIM, DIM),
        "centroids": (16, 128, DIM),
        "share": (3, 16, 128),
        "threshold": (3, 16),
    },
}
TYPES = {"foreground": np.bool_} | dict.fromkeys(("share", "threshold", "distance"), np.float64)


def array(shape: tuple[int, ...], kind: type = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(kind)


def labelling(seed: int) -> dict[str, np.ndarray]:
    """The arrays of four classes."""
    return {
        "features": encode_names(["cls", "key"]),
        "centers": array((2, DIM), seed=seed),
        "components": array((2 * DIM, 32), seed=seed),
        "centroids": array((4, 32), seed=seed),
    }


def export(place: Path, config: Config, split: str | None = None) -> Path:
    """Export the model of a fit of which the shapes are right and the numbers drawn."""
    weights = place / "weights" / "w.safetensors"
    fetch_weights("test_vit", "random", None, 0, weights)
    arrays = {}
    for name, kept in ARRAYS.items():
        arrays[name] = place / f"{name}.npz"
        written = {
            key: array(SHAPES[name][key], TYPES.get(name, TYPES.get(key, np.float32)))
            for key in kept
        }
        shares = written.keys() & {"share", "threshold", "distance"}  # from 0 to 1
        written |= {key: expit(written[key]) for key in shares}
        write_arrays(arrays[name], **written, of_the_fit=np.zeros(2))
    for seed in config.labelling.seeds:
        write_arrays(place / "classes" / f"seed-{seed}.npz", **labelling(seed))
        palette = place / "palettes" / f"seed-{seed}" / "classes.csv"
        palette.parent.mkdir(parents=True)
        names = ["background", *(f"cluster {number}" for number in range(1, 5))]
        write_palette(palette, names, [None, 1, 2, 3, seed], "regions")
    export_model(
        arrays, weights, place / "classes", place / "palettes", place / "model",
        config=config, dataset="d", run="r", split=split, facet="query", layer=2,
    )  # fmt: skip
    return place / "model"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_written_is_read_and_holds_nothing_of_the_images(folder: Path):
    model = open_model(folder)
    assert (model.dataset, model.run, model.seeds, model.layer) == ("d", "r", (7, 8), 2)
    assert (model.classes, model.images) == (4, "d")
    assert model.settings.refinement == CONFIG.refinement
    assert (model.settings.features.facet, model.settings.features.layer) == ("query", 2)
    for name, kept in ARRAYS.items():
        assert set(read_arrays(folder / f"{name}.npz")) == set(kept)
    kept = json.loads((folder / "model.json").read_text())["config"]
    assert kept["dataset"] == {"max_pixels": 1234, "depth": 12}
    assert set(kept) == {"dataset", "method", *HOW}


def test_it_is_whole_when_copied_and_weights_take_no_room_twice(folder: Path, tmp_path: Path):
    linked = (folder / "weights.safetensors").stat()
    assert linked.st_ino == (tmp_path / "weights" / "w.safetensors").stat().st_ino
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "weights")
    assert open_model(tmp_path / "copy").run == "r"


@pytest.mark.parametrize("name", ["dataset.npz", "weights.safetensors", "labelling/seed-8.csv"])
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
        ({"version": 1}, "version 1 of the folder's layout"),
        ({"format": "other"}, "not of the format"),
        ({"layer": "deep"}, "layer = 'deep': must be a whole number"),
        ({"more": 1}, "more: unknown key"),
        ({"steps": {}}, "version none of the step extract_features"),
        (
            {
                "steps": {
                    name: STEPS[name].version + (name == "refine_masks") for name in APPLIED_STEPS
                }
            },
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
    with pytest.raises(DatasetError, match="is not a folder"):
        segment([images], folder, tmp_path / "file")
    with pytest.raises(DatasetError, match="no images found"):
        segment([images], folder, tmp_path / "new")
    with pytest.raises(DatasetError, match="no such file or folder"):
        segment([tmp_path / "gone.jpg"], folder, tmp_path / "new")
    assert (mine / "masks").is_dir()
    assert not (mine / RECORD).exists()
    assert not (tmp_path / "new").exists()


# ---- a run that applies a model ------------------------------------------------------------------

OWN = {"backbone": {"model": "test_vit", "weights": "random"}}


def applied(folder: Path, **changes: object) -> Config:
    return parse_config({"fit": {"model": str(folder)}, **changes})["lightcluster"]


PLACES = {
    "x" * 300: "File name too long",
    "/".join(["d" * 200] * 30): "File name too long",
    "file/x": "file: is not a folder",
    "file": "file: is not a folder",
    "loop/x": "loop: is a broken link",
    "nowhere": "nowhere: is a broken link",
}


@pytest.mark.parametrize("place", PLACES)
def test_places_that_cannot_be_are_named(folder: Path, tmp_path: Path, monkeypatch, place: str):
    monkeypatch.chdir(tmp_path)
    for name, target in (("loop", "loop"), ("nowhere", "gone")):
        Path(name).symlink_to(target)
    Path("file").write_text("mine")
    Path("images").mkdir()
    Image.new("RGB", (32, 32)).save("images/a.png")
    with pytest.raises(DatasetError, match=PLACES[place]):
        segment(["images"], folder, place)
    for image in (place, f"{place}/a.png"):
        if image != "file":
            with pytest.raises(DatasetError, match=r"there is no such file|cannot be read"):
                segment([image], folder, "out")
    with pytest.raises(ModelError):
        open_model(Path(place))
    with pytest.raises(WeightsError, match="cannot be read"):
        read_checkpoint(Path(place, "x.safetensors"))
    assert not Path("out").exists()


def test_a_run_that_applies_a_model_has_its_settings(folder: Path):
    config = applied(folder)
    assert config.backbone == CONFIG.backbone
    assert (config.features.facet, config.features.layer) == ("query", 2)  # `auto` is decided
    assert (config.labelling.classes, config.labelling.seeds) == (4, (7, 8))
    assert lookup(config, "refinement") == lookup(CONFIG, "refinement")
    assert config.features.short_side == CONFIG.features.short_side  # not that of the default
    assert config.dataset.max_pixels == 150_000_000
    assert applied(folder, report={"samples": 3}, **OWN).report.samples == 3


def test_what_contradicts_the_model_is_named(folder: Path):
    with pytest.raises(ConfigError) as error:
        applied(folder, features={"short_side": 96, "layer": "auto"}, labelling={"seeds": [1]})
    assert "has 2 mistakes" in str(error.value)
    assert (
        "runs.lightcluster.features.short_side = 96: the model was fitted with 448; remove the "
        "key, or fit another model"
    ) in str(error.value)
    assert "labelling.seeds = [1]: the model was fitted with [7, 8]" in str(error.value)
    with pytest.raises(ConfigError, match=r"fit\.model = .*elsewhere.*: no model, model\.json"):
        applied(folder / "elsewhere")
    with pytest.raises(ConfigError, match="`method: kmeans` is always fitted on its images"):
        applied(folder, method="kmeans")


def test_weights_of_a_file_are_taken_from_the_model(tmp_path: Path):
    file = {"model": "test_vit", "weights": "gone.safetensors"}
    config = parse_config({"backbone": file, "features": {"facet": "auto", "layer": "auto"}})[
        "lightcluster"
    ]
    folder = export(tmp_path, config)
    assert applied(folder).backbone.weights == str(folder / "weights.safetensors")
    again = {"model": "test_vit", "weights": "copy.safetensors"}
    assert applied(folder, backbone=again).backbone.weights == "copy.safetensors"
    weights = tmp_path / "fetched.safetensors"
    fetch_weights("test_vit", "file", folder / "weights.safetensors", 0, weights)
    adopt_fit(folder, weights, [tmp_path / "new" / "dataset.npz"])
    kept = read_arrays(tmp_path / "new" / "dataset.npz")
    np.testing.assert_array_equal(kept["centroids"], array((2, DIM)))
    fetch_weights("test_vit", "random", None, 1, weights)
    with pytest.raises(ModelError, match="fitted with other weights than"):
        adopt_fit(folder, weights, [tmp_path / "new" / "category.npz"])
    assert not (tmp_path / "new" / "category.npz").exists()


def test_the_classes_of_each_seed_are_adopted(folder: Path, tmp_path: Path):
    adopt_labelling(folder, 8, tmp_path / "seed.npz", tmp_path / "seed" / "classes.csv")
    np.testing.assert_array_equal(
        read_arrays(tmp_path / "seed.npz")["centroids"], labelling(8)["centroids"]
    )
    assert (tmp_path / "seed" / "classes.csv").read_text().splitlines()[-1].endswith(",8")


def test_the_images_of_the_fit_are_named(tmp_path: Path):
    folder = export(tmp_path, CONFIG, split="train")
    runs = {"own": {}, "applied": {"fit": {"model": str(folder)}}}
    layout = Layout(parse_config({"runs": runs}))
    assert layout.fitted_on("own") == "the evaluated images, without labels"
    assert layout.fitted_on("applied") == "d (split train), without labels"
    jobs = layout.count_jobs()
    assert (jobs["fit_trees"], jobs["merge_levels"], jobs["adopt_fit"]) == (1, 2, 1)
    assert (jobs["label_regions"], jobs["adopt_labelling"]) == (5, 2)


def test_whatever_is_changed_in_a_model_the_steps_that_adopt_it_run_again(folder: Path):
    layout = Layout(parse_config({"fit": {"model": str(folder)}}))
    seen = [layout.fit_stamp("lightcluster")]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")
    assert len(files) == 10
    for path in files:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        seen.append(layout.fit_stamp("lightcluster"))
    edit(folder, run="another")
    seen.append(layout.fit_stamp("lightcluster"))
    assert len(set(seen)) == 12


def test_a_model_is_exported_anew_when_a_step_that_it_names_changes():
    """Else the message to run snakemake again would be of no use."""
    before, waiting = set(), ["export_model"]
    while waiting:
        after = STEPS[waiting.pop()].after
        waiting += set(after) - before
        before |= set(after)
    assert set(APPLIED_STEPS) <= before
