"""A folder of photographs without labels and classes: everything but the evaluation is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lightcluster.datasets.scenes import SceneStyle, render_scene

NAMES = [f"scene {index}.png" for index in range(5)]


@pytest.fixture(scope="module")
def run(tmp_path_factory, run_snakemake, fast_config) -> tuple[Path, str]:
    """The folder of the run and what snakemake said."""
    folder = tmp_path_factory.mktemp("unlabelled")
    (folder / "images").mkdir()
    for index, name in enumerate(NAMES):
        image, _ = render_scene(1, index, SceneStyle(height=72, width=96))
        Image.fromarray(image).save(folder / "images" / name)
    config = fast_config(
        {
            "dataset": {"name": "photos", "format": "folder", "images": "images"},
            "labelling": {"classes": "auto", "seeds": [0, 1]},
            "report": {"segmentations": "all"},
        }
    )
    result = run_snakemake(folder, config=config)
    assert result.returncode == 0, result.stdout
    return folder / "results" / "photos" / "lightcluster", result.stdout


def test_every_image_has_a_segmentation_for_each_seed_and_a_mask(run):
    folder, _ = run
    for made in ("segmentation/seed-0", "segmentation/seed-1", "masks/png"):
        assert sorted(path.name for path in folder.glob(f"{made}/*/*.png")) == NAMES


def test_the_clusters_have_a_table_of_colours(run, read_rows):
    folder, _ = run
    rows = read_rows(folder / "segmentation" / "seed-0" / "classes.csv")
    assert [row["id"] for row in rows] == [str(number) for number in range(11)]
    assert rows[0]["name"] == "background"


def test_there_is_a_report_with_contact_sheets_and_without_scores(run):
    folder, _ = run
    assert (folder / "report" / "index.html").stat().st_size > 10_000
    assert (folder / "report" / "contact_sheet_1.png").exists()
    assert not (folder / "report" / "classes.png").exists()


def test_the_gallery_has_every_image_and_class_and_no_truth(run):
    folder, said = run
    assert "results/photos/lightcluster/gallery/index.html" in said
    assert (folder / "gallery" / "index.html").stat().st_size < 10_000
    assert '"../gallery/index.html"' in (folder / "report" / "index.html").read_text("utf-8")
    scripts = sorted((folder / "gallery" / "data").glob("part-*.js"))
    text = "".join(path.read_text("utf-8") for path in scripts)
    assert all(json.dumps(name) in text for name in NAMES)
    facts = (folder / "gallery" / "data" / "classes.js").read_text("utf-8")
    known = json.loads(facts.removeprefix("gallery.know(").removesuffix(");\n"))
    assert [cluster["id"] for cluster in known["clusters"]] == [*range(1, 11)]
    assert {cluster["match"] for cluster in known["clusters"]} == {None}
    assert (known["truth"], known["measure"]) == (None, None)
    drawn = (folder / "gallery" / "0000").glob("[!.]*")
    assert len(list(drawn)) == 4 * len(NAMES) + 1


def test_nothing_is_evaluated(run):
    folder, said = run
    assert not (folder / "tables").exists()
    assert not (folder / "counts").exists()
    assert not (folder.parent / "classes.csv").exists()
    assert "count_masks" not in said


def test_the_summary_names_the_report_and_no_scores(run):
    _, said = run
    assert "5 images of dataset 'photos'" in said
    assert "results/photos/lightcluster/report/index.html" in said
    assert "metrics.csv" not in said
