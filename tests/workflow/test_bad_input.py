"""Bad and odd input, through real runs of the workflow."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightcluster.datasets.listing import shard_of
from lightcluster.datasets.scenes import SceneStyle, render_scene

STYLE = SceneStyle(height=72, width=96)
IMAGES = "photos of 'me' ; $(touch pwned) {x} \"ü\""
NASTY_NAMES = [
    "with space.jpg",
    "quote's \"double\".jpg",
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


def scene(index: int) -> tuple[Image.Image, Image.Image]:
    image, label = render_scene(0, index, STYLE)
    return Image.fromarray(image), Image.fromarray(label)


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims a size; every checksum in it is right."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + checked


def write_scene(index: int, name: str, images: Path, labels: Path) -> None:
    image, label = scene(index)
    for path in (images / name, (labels / name).with_suffix(".png")):
        path.parent.mkdir(parents=True, exist_ok=True)
    image.save(images / name)
    label.save((labels / name).with_suffix(".png"))


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
    (images / "bomb.png").write_bytes(png_header(60_000, 60_000))
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


def write_classes(path: Path) -> None:
    rows = [f"{number},class {number}\n" for number in range(9)]
    path.write_text("id,name\n" + "".join(rows), encoding="utf-8")


@dataclass
class Finished:
    """A run that has ended."""

    folder: Path
    images: Path
    config: dict
    result: subprocess.CompletedProcess
    seconds: float

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
    write_classes(folder / "classes.csv")
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
    start = time.monotonic()
    result = run_snakemake(folder, config=config)
    return Finished(folder, images, config, result, time.monotonic() - start)
