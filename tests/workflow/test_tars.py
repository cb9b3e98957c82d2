"""Images and label maps in tars give the results that the same files in folders give."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from layouts import write_scene_tars
from lightcluster.digests import digest_of

pytestmark = pytest.mark.thorough

SCENES, TARS = 12, 3


def config_of(name: str, **dataset: Any) -> dict[str, Any]:
    return {
        "dataset": {"name": name, "classes": "classes.csv", **dataset},
        "backbone": {"model": "mean_color"},
        "evaluation": {"protocols": ["maskcontrast", "per_image"]},
    }


IN_TARS = config_of(
    "tars", format="webdataset", images="tars", label_extension="seg.png", shard_size=64
)
IN_FOLDERS = config_of("folders", format="folder", images="images", labels="labels")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_snakemake, fast_config) -> Path:
    """A folder with a run on tars, one of which is damaged, and one on the files in them."""
    folder = tmp_path_factory.mktemp("tars")
    paths = write_scene_tars(folder, SCENES, TARS)
    for path in paths:
        for kind, ending in (("images", ".jpg"), ("labels", ".seg.png")):
            with tarfile.open(path) as tar:
                members = [item for item in tar if item.name.endswith(ending)]
                tar.extractall(folder / kind / path.name, members, filter="data")
            for file in (folder / kind / path.name).glob("*.seg.png"):
                file.rename(file.with_name(file.name.replace(".seg", "")))
    (folder / "tars/broken.tar").write_bytes(paths[0].read_bytes()[:700])
    for config in (IN_TARS, IN_FOLDERS):
        result = run_snakemake(folder, config=fast_config(config))
        assert result.returncode == 0, result.stdout
    return folder


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    found = sorted(folder.glob(pattern))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_manifest_has_each_member_with_its_content(folder, read_rows):
    rows = {row["image_id"]: row for row in read_rows(folder / "results/tars/manifest.csv")}
    assert len(rows) == SCENES
    for path in (folder / "tars").glob("scenes-*.tar"):
        with tarfile.open(path) as tar:
            for item in tar:
                if item.name.endswith(".jpg"):
                    row = rows[f"{path.name}/{item.name}"]
                    assert row["digest"] == digest_of(tar.extractfile(item).read())
                    assert row["path"] == f"tars/{path.name}"
                    assert row["part"] == f"tar {item.offset_data} {item.size} {item.name}"
                    assert row["label"] == row["path"]


def test_the_results_are_those_of_the_same_files_in_folders(folder):
    tars, folders = (folder / f"results/{name}/lightcluster" for name in ("tars", "folders"))
    for pattern, count in (
        ("segmentation/seed-0/*/*/*.png", SCENES),
        ("masks/png/*/*/*.png", SCENES),
        ("segmentation/seed-0/*.csv", 2),
        ("tables/per_image*.csv", 2),
    ):
        found = files(tars, pattern)
        assert len(found) == count
        for name, content in files(folders, pattern).items():
            assert found.pop(name) == content.replace(b"\nfolders,", b"\ntars,")
        assert found == {}


def test_the_damaged_tar_is_reported_and_the_rest_is_used(folder, read_rows):
    (row,) = read_rows(folder / "results/tars/rejected.csv")
    assert row["image_id"] == "broken.tar"
    assert "damaged or truncated tar" in row["reason"]


def test_report_and_gallery_show_images_in_tars(folder):
    tars, folders = (folder / f"results/{name}/lightcluster" for name in ("tars", "folders"))
    for pattern, count in (("gallery/0000/*.jpg", 2 * SCENES), ("report/contact_sheet_1.png", 1)):
        drawn = files(tars, pattern)
        assert len(drawn) == count
        assert drawn == files(folders, pattern)


def test_exports_that_need_the_images_take_them_from_the_tars(folder, tmp_path):
    run = folder / "results/tars/lightcluster/segmentation/seed-0"
    for to in ("yolo", "labelme"):
        done = subprocess.run(
            [sys.executable, "-m", "lightcluster", "export", run, "--to", to,
             "--out", tmp_path / to],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    images = files(folder / "images", "*/*.jpg")
    assert files(tmp_path / "yolo/images", "*/*.jpg") == images
    for name, content in images.items():
        written = json.loads((tmp_path / "labelme" / name).with_suffix(".json").read_text("utf-8"))
        assert b64decode(written["imageData"]) == content


def test_nothing_runs_again_until_a_tar_changes(folder, run_snakemake, fast_config):
    def planned() -> dict[str, int]:
        result = run_snakemake(
            folder, "--dry-run", "--quiet", "host", config=fast_config(IN_TARS), cores=1
        )
        assert result.returncode == 0, result.stdout
        found = re.findall(r"^(\w+) +(\d+)$", result.stdout, flags=re.M)
        return {rule: int(count) for rule, count in found}

    path = folder / "tars/scenes-001.tar"
    os.utime(path)
    assert "index_dataset" not in planned()
    content = path.read_bytes()
    changed = content.replace(b"{}", b"[]", 1)
    assert len(changed) == len(content)
    path.write_bytes(changed)
    try:
        assert planned()["index_dataset"] == 1
    finally:
        path.write_bytes(content)


def test_a_job_indexes_the_images_that_were_planned(folder, run_snakemake, fast_config):
    """On a cluster, each job is a process of its own that reads the configuration again."""
    added = folder / "images/scenes-000.tar/added.jpg"
    added.write_bytes((folder / "images/scenes-000.tar/0000.jpg").read_bytes())
    manifest = folder / "results/folders/manifest/0000.csv"
    before = manifest.read_bytes()
    manifest.unlink()
    job = ("--target-jobs", "index_dataset:shard=0000", "--allowed-rules", "index_dataset")
    result = run_snakemake(
        folder, "--mode", "subprocess", "--nolock", "--force", *job,
        config=fast_config(IN_FOLDERS), cores=1,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert manifest.read_bytes() == before
    added.unlink()
