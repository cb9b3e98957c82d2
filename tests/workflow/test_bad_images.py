"""A run on images and labels of every odd and bad kind at once."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layouts import scene, write_numbered_classes, write_scene
from lightcluster.files import decode_names, read_arrays

pytestmark = pytest.mark.thorough

IMAGES = "photos of 'me' ; $(touch pwned) {x} \"ü\""
NASTY_NAMES = [
    "with space.jpg",
    'quote\'s "double".jpg',
    "semi;colon,comma.jpg",
    "new\nline.jpg",
    "carriage\rreturn.jpg",
    "$(touch pwned).jpg",
    "`touch pwned`.jpg",
    "& touch pwned #.jpg",
    "-rf.jpg",
    "--help.jpg",
    "żółć 写真 🐈.jpg",
    "{wildcards.shard}.jpg",
    "*?[a].jpg",
    "%s\\t.jpg",
    " leading and trailing . .JPG",
]
REJECTED = {
    "truncated.jpg": "truncated",
    "empty.jpg": "the file is empty",
    "text.jpg": "not an image",
    "bomb.png": "60000 × 60000 pixels; at most 150000000 are allowed",
    "dangling.jpg": "the file does not exist",
    "latin-\\xe9.jpg": "file name is not UTF-8",
}
REJECTED_LABELS = {
    "label-size.jpg": "label is 10 x 20, its image 72 x 96 (height x width)",
    "label-id.jpg": "label holds the ids 77; allowed: the ids of classes.csv and 255 (ignored)",
    "label-rgb.jpg": "label has mode RGB; it must have a single channel",
    "label-text.jpg": "label cannot be read",
}


def png_of_claimed_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and has few pixels; every checksum in it is right."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def write_odd_images(images: Path) -> None:
    """Write images of every kind that must work."""
    colour, grey = scene(20)[0], scene(21)[0].convert("L")
    colour.convert("CMYK").save(images / "cmyk.jpg")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(images / "sixteen.png")
    grey.save(images / "grey.png")
    colour.quantize(16).save(images / "palette.png")
    transparent = colour.convert("RGBA")
    transparent.putalpha(grey)
    transparent.save(images / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    colour.resize((96, 72)).save(images / "rotated.jpg", exif=exif)
    Image.new("RGB", (1, 1), "red").save(images / "one-pixel.png")
    Image.new("1", (12_000, 9_000), 1).save(images / "huge.png")
    for folder in ("a", "b", "twins"):
        (images / folder).mkdir()
    colour.save(images / "a" / "same.jpg")
    grey.save(images / "b" / "same.jpg")
    colour.save(images / "twins" / "one.jpg")
    grey.resize((50, 60)).save(images / "twins" / "one.png")


def write_bad_images(images: Path) -> None:
    """Write the images of `REJECTED`."""
    scene(30)[0].save(images / "truncated.jpg")
    whole = (images / "truncated.jpg").read_bytes()
    (images / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "empty.jpg").touch()
    (images / "text.jpg").write_text("This is a letter, not a picture.")
    (images / "bomb.png").write_bytes(png_of_claimed_size(60_000, 60_000))
    (images / "dangling.jpg").symlink_to("nowhere.jpg")
    with open(os.fsencode(images) + b"/latin-\xe9.jpg", "wb") as file:
        file.write(whole)


def write_bad_labels(images: Path, labels: Path) -> None:
    """Write good images with the labels of `REJECTED_LABELS`."""
    for name in REJECTED_LABELS:
        scene(40)[0].resize((96, 72)).save(images / name)
    Image.new("L", (20, 10)).save(labels / "label-size.png")
    Image.new("L", (96, 72), 77).save(labels / "label-id.png")
    Image.new("RGB", (96, 72)).save(labels / "label-rgb.png")
    (labels / "label-text.png").write_text("This is a letter, not a label.")


@dataclass
class Finished:
    """A run that has ended."""

    folder: Path
    images: Path
    config: dict
    result: subprocess.CompletedProcess

    @property
    def results(self) -> Path:
        return self.folder / "results" / "odd"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_snakemake, fast_config) -> Finished:
    folder = tmp_path_factory.mktemp("bad input") / "work flow"
    images, labels = folder / IMAGES, folder / "labels"
    for path in (images, labels):
        path.mkdir(parents=True)
    for index in range(6):
        write_scene(index, f"good-{index}.jpg", images, labels)
    for index, name in enumerate(NASTY_NAMES, start=6):
        write_scene(index, name, images, labels)
    write_odd_images(images)
    write_bad_images(images)
    write_bad_labels(images, labels)
    write_numbered_classes(folder / "classes.csv")
    config = fast_config(
        {
            "dataset": {
                "name": "odd",
                "format": "folder",
                "images": IMAGES,
                "labels": "labels",
                "classes": "classes.csv",
                "shard_size": 32,
            }
        }
    )
    return Finished(folder, images, config, run_snakemake(folder, config=config))


def good_images(images: Path) -> list[str]:
    """Return the ids of all images that must be segmented."""
    bad = {name.replace("\\xe9", "\udce9") for name in REJECTED}
    found = (path for path in images.rglob("*") if path.is_file() or path.is_symlink())
    return sorted({str(path.relative_to(images)) for path in found} - bad)


def test_a_run_survives_all_bad_input_at_once(finished):
    assert finished.result.returncode == 0, finished.result.stdout
    assert "LightCluster is done" in finished.result.stdout
    assert "10 images or labels could not be used" in finished.result.stdout


@pytest.mark.parametrize("name", REJECTED)
def test_a_bad_image_is_rejected_with_its_reason(finished, read_rows, name):
    rows = [row for row in read_rows(finished.results / "rejected.csv") if row["image_id"] == name]
    assert [row["what"] for row in rows] == ["image"]
    assert REJECTED[name] in rows[0]["reason"]


@pytest.mark.parametrize("name", REJECTED_LABELS)
def test_a_bad_label_is_rejected_and_its_image_kept(finished, read_rows, name):
    rows = [row for row in read_rows(finished.results / "rejected.csv") if row["image_id"] == name]
    assert [row["what"] for row in rows] == ["label"]
    assert REJECTED_LABELS[name] in rows[0]["reason"]
    kept = [row for row in read_rows(finished.results / "manifest.csv") if row["image_id"] == name]
    assert [row["label"] for row in kept] == [""]


def test_nothing_else_is_rejected(finished, read_rows):
    rejected = {row["image_id"] for row in read_rows(finished.results / "rejected.csv")}
    assert rejected == set(REJECTED) | set(REJECTED_LABELS)


def test_every_other_image_is_in_the_manifest_under_its_own_name(finished, read_rows):
    rows = read_rows(finished.results / "manifest.csv")
    assert sorted(row["image_id"] for row in rows) == good_images(finished.images)
    assert {"one-pixel.png", "huge.png", "cmyk.jpg", *NASTY_NAMES} <= {
        row["image_id"] for row in rows
    }
    assert len({row["shard"] for row in rows}) == 2


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_every_usable_image_gets_a_segmentation_and_a_mask_of_its_size(finished, read_rows):
    run = finished.results / "lightcluster"
    for row in read_rows(finished.results / "manifest.csv"):
        upright = (int(row["width"]), int(row["height"]))
        for folder in ("segmentation/seed-0", "masks/png"):
            path = run / folder / row["shard"] / row["output"]
            with Image.open(path) as image:
                assert image.size == upright, path
                assert image.format == "PNG"
        with Image.open(finished.images / row["image_id"]) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            assert (image.size[::-1] if turned else image.size) == upright


def test_exif_rotation_is_applied(finished, read_rows):
    rows = {row["image_id"]: row for row in read_rows(finished.results / "manifest.csv")}
    assert (rows["rotated.jpg"]["height"], rows["rotated.jpg"]["width"]) == ("96", "72")


def test_images_of_the_same_stem_have_outputs_of_their_own(finished, read_rows):
    rows = {row["image_id"]: row for row in read_rows(finished.results / "manifest.csv")}
    assert rows["a/same.jpg"]["output"] == "a/same.png"
    assert rows["b/same.jpg"]["output"] == "b/same.png"
    assert rows["twins/one.jpg"]["output"] == "twins/one.jpg.png"
    assert rows["twins/one.png"]["output"] == "twins/one.png.png"


def test_no_file_name_reaches_a_shell(finished):
    assert not list(finished.folder.parent.rglob("pwned"))
    assert not Path("pwned").exists()


def test_labelled_images_are_scored_and_the_others_are_not(finished, read_rows):
    run = finished.results / "lightcluster"
    assert read_rows(run / "tables" / "metrics.csv")
    counted = [
        image_id
        for path in sorted((run / "counts/classes").glob("*/seed-0.npz"))
        for image_id in decode_names(read_arrays(path, "image_id")["image_id"])
    ]
    manifest = read_rows(finished.results / "manifest.csv")
    assert counted == [row["image_id"] for row in manifest if row["label"]]
    assert len(counted) == 6 + len(NASTY_NAMES)


def test_a_second_run_has_nothing_to_do(finished, run_snakemake):
    result = run_snakemake(finished.folder, "--dry-run", config=finished.config)
    assert "Nothing to be done" in result.stdout, result.stdout


# ---- on_bad_image: stop --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncated.jpg", "'truncated.jpg': damaged or truncated image"),
        ("label-id.jpg", "'label-id.jpg': label holds the ids 77; allowed: the ids of classes.csv"),
    ],
)
def test_stop_ends_the_run_with_the_message_of_the_bad_file(
    finished, tmp_path, run_snakemake, name, message
):
    (tmp_path / IMAGES).mkdir()
    for good in ("good-0.jpg", name):
        shutil.copy(finished.images / good, tmp_path / IMAGES / good)
    for beside in ("labels", "classes.csv"):
        (tmp_path / beside).symlink_to(finished.folder / beside)
    dataset = {**finished.config["dataset"], "on_bad_image": "stop"}
    result = run_snakemake(
        tmp_path, "results/odd/manifest.csv", config={**finished.config, "dataset": dataset}
    )
    assert result.returncode != 0
    assert message in result.stdout, result.stdout
    assert "(on_bad_image: stop)" in result.stdout
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "results/odd/manifest/0000.csv").exists()
