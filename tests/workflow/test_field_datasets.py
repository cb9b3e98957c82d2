"""Datasets of the field, from their own layouts to their scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layouts import (
    COCO_IDS,
    VOC_IDS,
    scene_annotations,
    write_instances,
    write_lines,
    write_stuff_maps,
    write_voc,
)
from lightcluster.evaluation.counting import read_class_counts
from lightcluster.extraction.backbones.registry import DEFAULT

pytestmark = pytest.mark.thorough

EMBEDDED_BACKBONE = {
    "backbone": {"model": DEFAULT.name, "weights": "embedded"},
    "features": {"short_side": 96},
    "labelling": {"classes": "auto"},
}


def settings(name: str, **dataset) -> dict:
    return {"dataset": {"name": name, "format": name, "root": "data", **dataset}}


@pytest.fixture(scope="module")
def voc(tmp_path_factory, run_snakemake, fast_config) -> Path:
    """A folder in which a run on VOC is finished, one image and one label being damaged."""
    folder = tmp_path_factory.mktemp("voc")
    write_voc(folder / "data")
    (folder / "data/JPEGImages" / f"{VOC_IDS[0]}.jpg").write_bytes(b"\xff\xd8 no more")
    (folder / "data/SegmentationClass" / f"{VOC_IDS[1]}.png").write_bytes(b"")
    result = run_snakemake(folder, config=fast_config(EMBEDDED_BACKBONE, settings("voc")))
    assert result.returncode == 0, result.stdout
    return folder / "results" / "voc"


def test_voc_is_scored_on_its_21_classes(voc, read_rows):
    metrics = read_rows(voc / "lightcluster/tables/metrics.csv")
    assert {row["stage"] for row in metrics} >= {"refined", "segmentation", "oracle_labels"}
    classes = read_rows(voc / "classes.csv")
    assert [row["name"] for row in classes][::20] == ["background", "tvmonitor"]
    assert len(read_rows(voc / "lightcluster/segmentation/seed-0/classes.csv")) == 21


def test_what_is_damaged_is_recorded_and_costs_nothing_else(voc, read_rows):
    rejected = [(row["image_id"], row["what"]) for row in read_rows(voc / "rejected.csv")]
    assert sorted(rejected) == [(f"{VOC_IDS[0]}.jpg", "image"), (f"{VOC_IDS[1]}.jpg", "label")]
    rows = read_rows(voc / "manifest.csv")
    assert [Path(row["label"]).stem for row in rows] == ["", *VOC_IDS[2:]]


def test_the_borders_of_voc_are_not_counted(voc):
    void = total = 0
    for name in VOC_IDS[2:]:
        with Image.open(voc.parents[1] / f"data/SegmentationClass/{name}.png") as image:
            label = np.asarray(image)
        void, total = void + int((label == 255).sum()), total + label.size
    counts, _ = read_class_counts([voc / "lightcluster/counts/classes/0000/seed-0.npz"], "original")
    assert counts.ignored == void > 0
    assert counts.segmentation.sum() == total - void


@pytest.fixture(scope="module")
def coco(tmp_path_factory, run_snakemake, fast_config) -> Path:
    """A folder in which a run on COCO's things is finished."""
    folder = tmp_path_factory.mktemp("coco")
    write_instances(folder / "data", scene_annotations())
    write_stuff_maps(folder / "data", range(182))
    config = fast_config(EMBEDDED_BACKBONE, settings("coco_things"))
    result = run_snakemake(folder, config=config)
    assert result.returncode == 0, result.stdout
    return folder


def test_things_are_painted_and_scored(coco, read_rows):
    results = coco / "results" / "coco_things"
    painted = sorted((results / "labels").glob("*.png"))
    assert [path.stem for path in painted] == COCO_IDS
    metrics = read_rows(results / "lightcluster/tables/metrics.csv")
    assert {row["stage"] for row in metrics} >= {"refined", "segmentation"}
    path = results / "lightcluster/counts/classes/0000/seed-0.npz"
    counted, images = read_class_counts([path], "original")
    assert images == len(COCO_IDS)
    truth = counted.segmentation.sum(axis=0)
    for class_id in range(81):
        pixels = sum(int((np.asarray(Image.open(path)) == class_id).sum()) for path in painted)
        assert truth[class_id] == pixels


def test_a_finished_run_has_nothing_to_do_until_the_annotations_change(
    coco, tmp_path, run_snakemake, fast_config
):
    config = fast_config(EMBEDDED_BACKBONE, settings("coco_things"))
    folder = tmp_path / "copy"
    shutil.copytree(coco, folder, symlinks=True)
    again = run_snakemake(folder, "--dry-run", config=config)
    assert "Nothing to be done" in again.stdout, again.stdout
    path = folder / "data/annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    again = run_snakemake(folder, "--dry-run", config=config)
    for step in ("paint_labels", "index_dataset", "count_masks"):
        assert step in again.stdout


def test_a_dataset_without_background_is_counted_by_its_classes(
    coco, run_snakemake, fast_config, read_rows
):
    chosen = write_lines(coco / "curated.txt", COCO_IDS[1:4])
    config = fast_config(EMBEDDED_BACKBONE, settings("coco_stuff27", image_list=chosen.name))
    result = run_snakemake(coco, config=config)
    assert result.returncode == 0, result.stdout
    results = coco / "results" / "coco_stuff27"
    assert [row["taxonomy"] for row in read_rows(results / "manifest.csv")] == ["coco_stuff27"] * 3
    path = results / "lightcluster/counts/classes/0000/seed-0.npz"
    counted = read_class_counts([path], "original")[0].segmentation
    assert counted.shape == (28, 27)
    raw = [
        np.asarray(Image.open(coco / f"data/annotations/val2017/{name}.png"))
        for name in COCO_IDS[1:4]
    ]
    animals = sum(int(((label >= 15) & (label <= 24)).sum()) for label in raw)
    assert counted[:, 7].sum() == animals > 0
    assert counted.sum() == sum(label.size for label in raw)


def test_what_a_layout_lacks_ends_the_run_at_once(tmp_path, run_snakemake, fast_config):
    write_lines(tmp_path / "data/ImageSets/Segmentation/train.txt", VOC_IDS)
    result = run_snakemake(tmp_path, config=fast_config(settings("voc")))
    assert result.returncode != 0
    assert "val.txt: there is no such file; there are: train.txt" in result.stdout
    assert "`lightcluster check` shows how to download the dataset" in result.stdout
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "results").exists()
