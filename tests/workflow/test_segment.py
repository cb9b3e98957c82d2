"""New images by a fitted run: the workflow's own segmentation, anywhere, without fitting."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import lightcluster
from lightcluster.datasets.scenes import SceneStyle, render_scene
from lightcluster.errors import ImageError
from lightcluster.locks import Lock
from lightcluster.model import segment

NAMES = [f"scene {index}.png" for index in range(5)]


def draw(folder: Path, seed: int, sizes: dict[str, tuple[int, int]]) -> Path:
    folder.mkdir(parents=True)
    for index, (name, (height, width)) in enumerate(sizes.items()):
        image, _ = render_scene(seed, index, SceneStyle(height=height, width=width))
        Image.fromarray(image).save(folder / name)
    return folder


def command(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightcluster", *map(str, args)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def pngs(folder: Path) -> dict[str, bytes]:
    """The bytes of every PNG by its path below the folder, and below its shard if it has one."""
    found = {}
    for path in folder.rglob("*.png"):
        parts = path.relative_to(folder).parts
        found["/".join(parts[1:] if parts[0].isdigit() else parts)] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, run_snakemake, fast_config) -> Path:
    """The folder of a finished run, whose images were cut into several shards."""
    folder = tmp_path_factory.mktemp("fitted")
    sizes = {name: (72, 96) if index else (96, 64) for index, name in enumerate(NAMES)}
    draw(folder / "images", 1, sizes)
    config = fast_config(
        {
            "dataset": {"name": "photos", "format": "folder", "images": "images"},
            "labelling": {"seeds": [3, 0]},
            "report": {"segmentations": "all"},
        }
    )
    result = run_snakemake(folder, config=config)
    assert result.returncode == 0, result.stdout
    assert "lightcluster segment FOLDER --model results/photos/lightcluster/model" in result.stdout
    return folder


@pytest.fixture(scope="module")
def model(fitted: Path, tmp_path_factory) -> Path:
    """The model, copied to where nothing else of the run is."""
    place = tmp_path_factory.mktemp("elsewhere") / "model"
    shutil.copytree(fitted / "results" / "photos" / "lightcluster" / "model", place)
    return place


def test_the_images_of_the_fit_come_out_as_in_the_run(fitted, model, tmp_path, read_rows):
    done = command("segment", fitted / "images", "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "5 images are segmented" in done.stdout
    run = fitted / "results" / "photos" / "lightcluster"
    assert pngs(tmp_path / "out" / "segmentation") == pngs(run / "segmentation" / "seed-3")
    assert pngs(tmp_path / "out" / "masks") == pngs(run / "masks" / "png")
    table = (run / "segmentation" / "seed-3" / "classes.csv").read_bytes()
    assert (tmp_path / "out" / "segmentation" / "classes.csv").read_bytes() == table
    regions = read_rows(tmp_path / "out" / "segmentation" / "regions.csv")
    in_run = [
        {"shard": shard.stem, **row}
        for shard in sorted((run / "segmentation" / "seed-3").glob("0*.csv"))
        for row in read_rows(shard)
    ]
    assert regions
    assert regions == in_run
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.csv", "masks", "rejected.csv", "report", "segment.json", "segmentation"
    ]  # fmt: skip


def test_new_images_twice_from_python(model, tmp_path, read_rows):
    images = draw(tmp_path / "new", 9, {"a.png": (72, 96), "b.png": (96, 72), "deep.png": (80, 80)})
    (images / "broken.jpg").write_bytes(b"no image")
    (images / "sub").mkdir()
    (images / "deep.png").rename(images / "sub" / "c 'é;.png")
    for suffix in (".jpg", ".png"):  # as long as names can be, and the same but for the suffix
        with Image.open(images / "a.png") as image:
            image.save(images / f"{'n' * 251}{suffix}")
    os.mkfifo(images / "pipe")
    (images / "pipe.png").symlink_to("pipe")
    killed = tmp_path / "out" / ".lightcluster-1234"
    killed.mkdir(parents=True)
    (tmp_path / "out" / "segment.json").write_text("{}")
    (tmp_path / "out" / ".lock").write_text('{"process": 1}')  # of a call that was killed
    first = segment([images], model, tmp_path / "out")
    assert not killed.exists()
    before = pngs(first)
    long = [name for name in before if name.startswith("n" * 240)]
    assert sorted(set(before) - set(long)) == ["a.png", "b.png", "sub/c 'é;.png"]
    assert len(long) == 2
    assert pngs(tmp_path / "out" / "masks").keys() == before.keys()
    with Image.open(first / "b.png") as image:
        assert image.size == (72, 96)
        assert int(np.asarray(image).max()) <= 3
    rejected = read_rows(tmp_path / "out" / "rejected.csv")
    assert [row["image_id"] for row in rejected if row["what"] == "image"] == [
        "broken.jpg",
        "pipe.png",
    ]
    assert [row["what"] for row in rejected if row["image_id"] == "* (no suffix)"] == ["no image"]
    assert (tmp_path / "out" / "report" / "contact_sheet_1.png").is_file()
    (images / "a.png").unlink()
    assert segment([images / "b.png", images / "sub"], str(model), str(tmp_path / "out")) == first
    again = pngs(first)
    assert sorted(again) == ["b.png", "sub/c 'é;.png"]
    # What the former call left of other images is kept elsewhere.
    (aside,) = (tmp_path / "out" / "aside").iterdir()
    for kind in ("segmentation", "masks"):
        assert sorted(pngs(aside / kind)) == sorted(["a.png", *long])
    assert pngs(aside / "segmentation")["a.png"] == before["a.png"]
    assert all(again[name] == before[name] for name in again)
    record = json.loads((tmp_path / "out" / "segment.json").read_text())
    assert record["fitted_on"] == "photos, run lightcluster, labelling seed 3"


@pytest.mark.thorough
def test_a_second_call_into_the_same_folder_refuses(model, tmp_path):
    images, out = draw(tmp_path / "new", 9, {"a.png": (72, 96)}), tmp_path / "out"
    first = Lock(out / ".lock")
    assert first.take()
    work = out / ".lightcluster-1234"
    work.mkdir()
    (out / "segment.json").write_text("{}")
    done = command("segment", images, "--model", model, "--out", out)
    assert done.returncode == 1
    said = f"Error: {out}: process {os.getpid()} on "
    assert said in done.stderr
    assert "is segmenting into it; let it finish or choose another folder" in done.stderr
    assert work.is_dir()
    first.release()


@pytest.mark.thorough
def test_mistakes_end_with_a_message(model, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "broken.jpg").write_bytes(b"no image")
    done = command("segment", images, "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 1
    *bars, line = done.stderr.splitlines()
    assert all(bar.startswith("index: ") for bar in bars if bar)  # and nothing of what steps note
    assert line.startswith("Error: no image can be used: image '")
    assert line.endswith(f"see {tmp_path / 'out' / 'rejected.csv'}")
    assert "Traceback" not in done.stderr
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["rejected.csv", "segment.json"]  # so that the same folder can be tried again
    done = command("segment", images, "--model", images, "--out", tmp_path / "out")
    assert "model.json is missing" in done.stderr


@pytest.mark.thorough
def test_exports_of_a_run(fitted, tmp_path):
    folder = fitted / "results" / "photos" / "lightcluster"
    run = folder / "segmentation" / "seed-0"
    done = command("export", folder, "--seed", 0, "--out", tmp_path / "coco.json")
    assert done.returncode == 0, done.stderr
    coco = COCO(str(tmp_path / "coco.json"))
    assert {image["file_name"] for image in coco.loadImgs(coco.getImgIds())} == set(NAMES)
    painted = {path.name: np.asarray(Image.open(path)) for path in run.rglob("*.png")}
    masks = {name: np.zeros(classes.shape, int) for name, classes in painted.items()}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        name = coco.imgs[annotation["image_id"]]["file_name"]
        masks[name][coco.annToMask(annotation) > 0] = annotation["category_id"]
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, painted[name])


def test_the_model_in_python_gives_the_pixels_of_the_run(fitted, model):
    """Image by image and all at once, from files and from arrays."""
    run = fitted / "results" / "photos" / "lightcluster"
    loaded = lightcluster.load(model)
    paths = sorted((fitted / "images").iterdir())
    written = pngs(run / "segmentation" / "seed-3")
    masks = pngs(run / "masks" / "png")

    def in_run(found: dict[str, bytes], path: Path) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(found[path.name])))

    together = list(loaded.predict([*paths, fitted / "nothing.png"], on_bad_image="skip"))
    assert together.pop() is None
    for path, found in zip(paths, together, strict=True):
        assert np.array_equal(found.segmentation, in_run(written, path))
        assert np.array_equal(found.mask, in_run(masks, path))
        assert np.array_equal(found.regions.label > 0, found.segmentation > 0)
        assert found.score.shape == found.levels.shape[1:]
        alone = loaded(np.asarray(Image.open(path).convert("RGB")))
        assert np.array_equal(alone.segmentation, found.segmentation)
        assert {loaded.names[cluster] for cluster in alone.regions.cluster} <= set(loaded.names[1:])
    assert list(loaded.predict([fitted / "nothing.png"], on_bad_image="skip")) == [None]
    with ThreadPoolExecutor(3) as pool:
        for found, again in zip(together, pool.map(loaded, paths), strict=True):
            assert np.array_equal(found.segmentation, again.segmentation)
    with pytest.raises(ImageError, match=r"nothing\.png: the file does not exist"):
        loaded(fitted / "nothing.png")


@pytest.mark.thorough
def test_names_stay_when_the_clusters_change(fitted, run_snakemake, fast_config, tmp_path):
    """Given once, they are in the model and the exports, whatever numbers the clusters have."""
    folder = tmp_path / "named"
    shutil.copytree(fitted, folder, symlinks=True)
    run = folder / "results" / "photos" / "lightcluster"
    config = {
        "dataset": {"name": "photos", "format": "folder", "images": "images"},
        "labelling": {"seeds": [3, 0]},
    }
    table = tmp_path / "names.csv"  # as the gallery writes it
    clustering = gallery_facts(run)["clustering"]
    table.write_text(f"cluster,name,clustering\n1,mug,{clustering}\n2,house,{clustering}\n")
    assert lightcluster_names(run, "--apply", table).returncode == 0
    planned = run_snakemake(folder, "-n", config=fast_config(config))
    rules = set(re.findall(r"^(?:local)?rule (\w+):", planned.stdout, flags=re.M))
    assert rules == {"all", "export_model", "report", "write_gallery"}
    result = run_snakemake(folder, config=fast_config(config))
    assert result.returncode == 0, result.stdout
    named = lightcluster.load(run / "model")
    assert named.names[:3] == ("background", "mug", "house")
    assert [one["name"] for one in gallery_facts(run)["clusters"][:2]] == ["mug", "house"]
    new = draw(tmp_path / "new", 9, {"a.png": (72, 96)})
    done = command("segment", new, "--model", run / "model", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "1,mug," in (tmp_path / "out" / "segmentation" / "classes.csv").read_text()

    paths = sorted((folder / "images").iterdir())
    before = [found.segmentation for found in named.predict(paths)]
    config["labelling"] |= {"seeds": [5, 3], "classes": 4}  # other clusters
    result = run_snakemake(folder, config=fast_config(config))
    assert result.returncode == 0, result.stdout
    told = result.stdout.partition(
        "names          carried over, because the clusters have changed"
    )[2]
    assert f"lightcluster names {run.relative_to(folder)}" in told
    table.write_text("cluster,name,clustering\n1,mug,0123456789abcdef\n")  # of another run
    refused = lightcluster_names(run, "--apply", table)
    assert refused.returncode
    assert "are of other clusters than those in" in refused.stderr
    again = lightcluster.load(run / "model")
    agreeing = total = 0
    for found, former in zip(again.predict(paths), before, strict=True):
        for name in ("mug", "house"):
            pixels = former == named.names.index(name)
            total += pixels.sum()
            agreeing += (np.asarray(again.names)[found.segmentation[pixels]] == name).sum()
    lost = {"mug", "house"} - set(again.names)
    said = lightcluster_names(run).stdout
    for text in (said, told):
        assert all(f"no cluster is called {name!r} now" in text for name in lost)
    assert all(f"{name!r}" in told for name in ("mug", "house"))
    assert agreeing > total / 2 or lost
    assert {"mug", "house"} - lost == {"mug", "house"} & set(
        (run / "names.csv").read_text().replace("\n", ",").split(",")
    )


def gallery_facts(run: Path) -> dict[str, Any]:
    text = (run / "gallery" / "data" / "classes.js").read_text("utf-8")
    return json.loads(text.removeprefix("gallery.know(").removesuffix(");\n"))


def lightcluster_names(run: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return command("names", run, *options)
