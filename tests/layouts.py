"""Small datasets in the true layouts of the field's: real JPEGs, palette PNGs, instances JSON."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tarfile import TarInfo
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from lightcluster.datasets.scenes import SceneStyle, render_scene, write_scenes

STYLE = SceneStyle(height=72, width=96)
VOC_IDS = [f"2007_{number:06d}" for number in range(6)]
COCO_IDS = [f"{number:012d}" for number in (139, 285, 632, 724, 776, 785)]
CITIES = {"frankfurt": 3, "bad-honnef": 2}
CITYSCAPES_IDS = [f"{city}_{n:06d}_000019" for city, count in CITIES.items() for n in range(count)]


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def scene(number: int) -> tuple[Image.Image, NDArray[np.uint8]]:
    """Return a picture of the size of `STYLE` and its label map, 0 to 8."""
    pixels, label = render_scene(7, number, STYLE)
    size = (STYLE.width, STYLE.height)
    small = Image.fromarray(label).resize(size, Image.Resampling.NEAREST)
    return Image.fromarray(pixels).resize(size), np.asarray(small)


def write_scene(number: int, name: str, images: Path, labels: Path) -> None:
    """Write a picture and its label map into two folders."""
    image, label = scene(number)
    save(images / name, image)
    save((labels / name).with_suffix(".png"), Image.fromarray(label))


def write_numbered_classes(path: Path) -> Path:
    """Write a table of the classes of `scene`."""
    return write_lines(path, ["id,name", *(f"{number},class {number}" for number in range(9))])


def with_borders(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a label map with 255 around its objects, as in VOC."""
    edge = maximum_filter(label, 3) != minimum_filter(label, 3)
    return np.where(edge, np.uint8(255), label)


def write_voc(root: Path, split: str = "val") -> dict[str, NDArray[np.uint8]]:
    """Write the images of `VOC_IDS`; return their label maps by id."""
    labels = {}
    for number, name in enumerate(VOC_IDS):
        image, label = scene(number)
        labels[name] = with_borders(label)
        palette = Image.fromarray(labels[name])
        palette.putpalette(list(range(256)) * 3)
        save(root / "JPEGImages" / f"{name}.jpg", image)
        save(root / "SegmentationClass" / f"{name}.png", palette)
    image, _ = scene(99)
    save(root / "JPEGImages" / "2007_999999.jpg", image)  # of another split
    write_lines(root / "ImageSets" / "Segmentation" / f"{split}.txt", VOC_IDS)
    return labels


def write_coco_images(root: Path, split: str = "val2017") -> None:
    for number, name in enumerate(COCO_IDS):
        save(root / "images" / split / f"{name}.jpg", scene(number)[0])


def write_stuff_maps(
    root: Path, values: Sequence[int], split: str = "val2017"
) -> dict[str, NDArray[np.uint8]]:
    """Write images and maps of `values`; return the maps by id."""
    write_coco_images(root, split)
    random = np.random.default_rng(0)
    maps = {}
    for name in COCO_IDS:
        blocks = random.choice(np.asarray(values, np.uint8), (STYLE.height // 8, STYLE.width // 8))
        maps[name] = np.kron(blocks, np.ones((8, 8), np.uint8))
        save(root / "annotations" / split / f"{name}.png", Image.fromarray(maps[name]))
    return maps


def rectangle(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    """Return a polygon of COCO that covers columns left to right - 1, rows top to bottom - 1."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return COCO's uncompressed RLE of a mask: runs down the columns, the first of zeros."""
    counts, value, length = [], False, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return {"size": list(mask.shape), "counts": [*counts, length]}


def annotation(image: str, category: int, segmentation: object, crowd: bool = False) -> dict:
    return {
        "image_id": int(image),
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": int(crowd),
    }


CATEGORIES = [
    {"id": 1, "name": "person"},
    {"id": 18, "name": "dog"},
    {"id": 62, "name": "chair"},
    {"id": 90, "name": "toothbrush"},
]


def write_instances(root: Path, annotations: Sequence[dict], split: str = "val2017") -> Path:
    """Write images and the file of their instance annotations."""
    write_coco_images(root, split)
    content = {
        "images": [
            {"id": int(n), "file_name": f"{n}.jpg", "height": STYLE.height, "width": STYLE.width}
            for n in COCO_IDS
        ],
        "annotations": [{**item, "id": number} for number, item in enumerate(annotations, 1)],
        "categories": CATEGORIES,
    }
    path = root / "annotations" / f"instances_{split}.json"
    return write_lines(path, [json.dumps(content)])


def scene_annotations() -> list[dict]:
    """Return annotations of the objects in the scenes; the last image has none."""
    categories = [item["id"] for item in CATEGORIES]
    return [
        annotation(name, categories[value % 4], run_lengths(label == value), crowd=True)
        for number, name in enumerate(COCO_IDS[:-1])
        for label in [scene(number)[1]]
        for value in np.unique(label[label > 0]).tolist()
    ]


def write_cityscapes(
    root: Path, values: Sequence[int], split: str = "val"
) -> dict[str, NDArray[np.uint8]]:
    """Write images and maps of the label ids `values`, -1 as 255; return the maps by id."""
    random = np.random.default_rng(0)
    maps = {}
    stored = np.asarray(values, np.int16).astype(np.uint8)
    for number, name in enumerate(CITYSCAPES_IDS):
        city = name.split("_")[0]
        blocks = random.choice(stored, (STYLE.height // 8, STYLE.width // 8))
        maps[name] = np.kron(blocks, np.ones((8, 8), np.uint8))
        save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", scene(number)[0])
        truth = root / "gtFine" / split / city
        save(truth / f"{name}_gtFine_labelIds.png", Image.fromarray(maps[name]))
        save(truth / f"{name}_gtFine_color.png", Image.new("RGB", (STYLE.width, STYLE.height)))
    return maps


def write_scene_tars(folder: Path, scenes: int, tars: int) -> list[Path]:
    """Write scenes of the demo into ``tars/``, as WebDataset does, with ``classes.csv``.

    A sample is an image, its label map and a text, such as ``0003.jpg``, ``0003.seg.png`` and
    ``0003.json``.
    """
    paths = [folder / "tars" / f"scenes-{number:03d}.tar" for number in range(tars)]
    with TemporaryDirectory() as name:
        made = Path(name, "scenes")
        write_scenes(made, scenes, 3, STYLE)
        shutil.copy(made / "classes.csv", folder / "classes.csv")
        paths[0].parent.mkdir(parents=True)
        for number, path in enumerate(paths):
            with tarfile.open(path, "w") as tar:
                for index in range(number, scenes, tars):
                    stem, key = f"scene-{index:04d}", f"{index:04d}"
                    tar.add(made / "images" / f"{stem}.jpg", f"{key}.jpg")
                    tar.add(made / "labels" / f"{stem}.png", f"{key}.seg.png")
                    text = TarInfo(f"{key}.json")
                    text.size = 2
                    tar.addfile(text, BytesIO(b"{}"))
    return paths
