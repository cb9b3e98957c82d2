"""The report: which images it shows, in which colours, and the page that contains it all."""

from __future__ import annotations

import base64
import functools
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from builders import (
    on_screens,
    write_classes,
    write_level_masks,
    write_manifest,
    write_patch_scores,
    write_pixel_masks,
    write_png,
)
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.labels import IGNORED
from lightcluster.datasets.manifest import (
    Rejection,
    Row,
    Sample,
    gather_csv,
    write_line,
    write_rows,
)
from lightcluster.digests import digest_file
from lightcluster.errors import StoreError
from lightcluster.evaluation.comparison import Figure, main_rows, make_comparison
from lightcluster.evaluation.counting import ImageCounts, count_confusion
from lightcluster.evaluation.mask_counts import STAGES, MaskTotals, count_masks
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.evaluation.published import read_published
from lightcluster.evaluation.tables import Conditions, make_tables
from lightcluster.masks.patches import read_level_masks
from lightcluster.regions.painting import LabelledRegion, save_indexed
from lightcluster.regions.palette import write_palette
from lightcluster.reporting.choice import choose_images, level_agreement
from lightcluster.reporting.comparison import plot_comparison
from lightcluster.reporting.contact_sheet import GAP, MARGIN, ColourKey
from lightcluster.reporting.dataset_page import write_dataset_page
from lightcluster.reporting.figures import save_figure
from lightcluster.reporting.lines import class_lines
from lightcluster.reporting.overlays import CELL, MISSED, overlay_classes
from lightcluster.reporting.overview import OVERVIEW, read_overview
from lightcluster.reporting.report import report
from lightcluster.reporting.strips import MaskFolders
from lightcluster.reporting.summary import summary_lines
from lightcluster.reporting.tables import Score, of_protocol, read_table
from lightcluster.shards import Shards

NAMES = ["plain.png", "quo\"te's.png", "new\nline.png", "<script>alert(1)</script>.png", "ü.png"]
SIZES = [(40, 60), (60, 40), (50, 50), (40, 60), (48, 64)]
EMPTY = 1
"""The image in which nothing was found."""

CLASSES = {0: "background", 1: "cat", 2: "<b>dog</b>"}


def tables_of(seeds=(0, 1), protocols=("maskcontrast",)):
    """Tables of a run whose clusters 1 and 2 are the classes 2 and 1."""
    counts = np.array([[900, 20, 10], [5, 10, 90], [5, 80, 5]], np.int64)
    total = int(counts.sum())
    by_seed = {
        seed: ImageCounts(
            segmentation=counts + seed,
            random=counts[:, ::-1].copy(),
            oracle=np.vstack([np.diag(counts.sum(axis=0)), np.zeros((1, 3), np.int64)]),
            ignored=total,
        )
        for seed in seeds
    }
    by_class = np.array([[360, 20, 20], [40, 120, 40]])
    of_masks = MaskTotals(by_class, np.array([4, 4, 4]), 0.7, 0.6, 0)
    return make_tables(
        (dict.fromkeys(STAGES, of_masks), 0), dict.fromkeys(("original", "centre"), by_seed), 4,
        tuple(CLASSES.values()), 0,
        Conditions("<i>odd</i>", "one", [*protocols], False, "crf", "it"),
    )  # fmt: skip


def count(folder: Path, shard: str) -> None:
    """Count masks and clusters of a shard against the truth."""
    manifest, classes = folder / "manifest" / f"{shard}.csv", folder / "classes.csv"
    count_confusion(
        manifest, classes, {0: folder / "segmentation" / shard},
        folder / "counts" / "classes" / shard,
        clusters=lambda *_: 3, classes="auto", background=0, ignore=255,
        protocols=["maskcontrast"], stego_squash=False,
    )  # fmt: skip
    count_masks(
        manifest, classes,
        *(folder / name / f"{shard}.npz" for name in ("merged", "scores", "pixel")),
        folder / "counts" / "masks" / f"{shard}.npz",
        background=0, ignore=255, upsampling="nearest", threshold=0.5,
    )  # fmt: skip


def write_inputs(tmp_path: Path) -> Path:
    """Write the files of a run on five images in two shards; the last has no label."""
    draw = np.random.default_rng(0)
    parts = []
    for shard, members in enumerate((range(3), range(3, 5))):
        name, sizes, labels, images, votes, scores, masks = f"{shard:04d}", {}, {}, {}, {}, {}, {}
        outputs, regions = {}, []
        for number in members:
            image_id, size = NAMES[number], SIZES[number]
            images[image_id] = write_png(
                tmp_path / "images" / f"{number}.png", draw.integers(0, 256, (*size, 3), np.uint8)
            )
            truth = np.zeros(size, np.uint8)
            truth[10:30, 10:30] = 1 + number % 2
            outputs[image_id], sizes[image_id] = f"{number}.png", size
            votes[image_id] = draw.random((3, 4, 5)) > 0.5
            scores[image_id] = votes[image_id].mean(axis=0)
            found = np.zeros_like(truth) if number == EMPTY else (truth > 0)
            truth[:4, :4] = 255  # ignored
            if number < 4:
                labels[image_id] = write_png(tmp_path / "labels" / f"{number}.png", truth)
            masks[image_id] = found > 0
            save_indexed(
                found.astype(np.uint16), tmp_path / "segmentation" / name / f"{number}.png"
            )
            if number != EMPTY:
                box = ["10", "10", "30", "30"]
                regions.append([image_id, "1", "1", f"{0.9 - number / 10:.4f}", "400", *box])
        parts.append(tmp_path / "manifest" / f"{name}.csv")
        write_manifest(parts[-1], sizes, labels=labels, images=images, outputs=outputs)
        write_level_masks(tmp_path / "merged" / f"{name}.npz", votes)
        write_patch_scores(tmp_path / "scores" / f"{name}.npz", scores)
        write_pixel_masks(tmp_path / "pixel" / f"{name}.npz", masks)
        refused = [Rejection("<u>broken</u>.jpg", "image", "is truncated")] * (not shard)
        write_tables_of_shard(tmp_path, name, regions, refused)
    write_colours(tmp_path)
    gather_csv(parts, tmp_path / "manifest.csv")
    write_classes(tmp_path / "classes.csv", CLASSES)
    for part in parts:
        count(tmp_path, part.stem)
    (tmp_path / "tables").mkdir()
    tables = tables_of()
    for name in ("metrics", "per_class", "matching"):
        getattr(tables, name).to_csv(tmp_path / "tables" / f"{name}.csv", index=False)
    return tmp_path


@pytest.fixture
def inputs(tmp_path):
    """The files of a run, which a test may change."""
    return write_inputs(tmp_path)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """``pages(kind)``: the folder of a page to look at, which is written once for all tests."""

    @functools.cache
    def written(kind: str) -> Path:
        inputs = write_inputs(tmp_path_factory.mktemp("inputs"))
        if kind == "several runs":
            return make_dataset_page(inputs)
        labelled, masks = kind != "unlabelled", kind != "without masks"
        return make(inputs, "report", labelled=labelled, masks=masks, counts=labelled)

    return written


def write_tables_of_shard(
    folder: Path, name: str, regions: list[list[str]], refused: list[Rejection]
) -> None:
    """Write the regions and the rejected images of a shard."""
    (folder / "segmentation").mkdir(exist_ok=True)
    with (folder / "segmentation" / f"{name}.csv").open("w", encoding="utf-8") as file:
        for line in ([field.name for field in fields(LabelledRegion)], *regions):
            write_line(file, line)
    write_rows(folder / "manifest" / f"{name}.rejected.csv", refused, Rejection)


def write_colours(folder: Path) -> None:
    names = ["background", "cluster 1", "cluster 2"]
    write_palette(folder / "segmentation" / "classes.csv", names, [None, 4, 0], "regions")


def make(
    folder: Path,
    name: str,
    *,
    labelled: bool = True,
    samples: int = 5,
    per_image: Path | None = None,
    masks: bool = True,
    gallery: bool = False,
    called: dict[int, str] | None = None,
    counts: bool = False,
) -> Path:
    report(
        folder / "manifest.csv",
        MaskFolders(*(folder / name for name in MaskFolders._fields)) if masks else None,
        folder / "segmentation",
        folder / name,
        dataset="<i>odd</i>",
        run="one",
        every_shard=Shards(2),
        rejected=folder / "manifest",
        palette=folder / "segmentation" / "classes.csv",
        regions=folder / "segmentation" if masks else None,
        tables=folder / "tables" if labelled else None,
        per_image=per_image,
        classes_file=folder / "classes.csv" if labelled else None,
        ignore=255,
        samples=samples,
        seed=0,
        failures=2,
        max_pixels=10_000,
        config={"clustering": {"k_image": 2}},
        gallery=gallery,
        called=called,
        counts=folder / "counts" if counts else None,
    )
    return folder / name


def test_a_labelled_run_has_contact_sheets_figures_and_a_page(pages):
    written = {path.name for path in pages("labelled").iterdir()}
    assert written == {
        "contact_sheet_1.png",
        "stages.png",
        "classes.png",
        "confusion.png",
        "per_class.png",
        "index.html",
        "overview.json",
    }


def test_an_unlabelled_run_has_no_scores(pages):
    folder = pages("unlabelled")
    assert {path.name for path in folder.iterdir()} == {
        "contact_sheet_1.png", "index.html", "overview.json"
    }  # fmt: skip
    assert "mIoU" not in (folder / "index.html").read_text(encoding="utf-8")


def test_the_page_needs_no_other_file_and_escapes_names(pages):
    page = page_of(pages("labelled"))
    assert "alert(1)</script>" not in page
    assert "<i>odd" not in page
    assert "&lt;i&gt;odd&lt;/i&gt;" in page
    assert "<u>broken" not in page
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", page)
    assert len([source for source in sources if source.startswith("data:image/")]) > 50
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"url\(\s*[\"']?http", page)


def test_each_protocol_has_a_table_of_its_own_and_the_first_is_drawn(inputs):
    for names in (("stego", "maskcontrast"), ("coco_things",)):
        tables = tables_of(protocols=names)
        for name in ("metrics", "per_class", "matching"):
            getattr(tables, name).to_csv(inputs / "tables" / f"{name}.csv", index=False)
        page = (make(inputs, "-".join(names)) / "index.html").read_text(encoding="utf-8")
        headings = re.findall(r"<h3>Classes, protocol (\w+)</h3>", page)
        assert tuple(headings) == names
        lines = [
            row for row in re.findall(r"<tr><th scope=.row.>([^<]+)", page) if "Hungarian" in row
        ]
        expected = {"stego": 1, "maskcontrast": 2, "coco_things": 1}
        assert len(lines) == sum(expected[name] for name in names)
        crops = re.findall(r"crop: ([^;]+);", page)[1:]  # the first is that of the masks
        assert crops == ["centre 320" if name == "stego" else "none" for name in names]
    summary = summary_lines(tables_of(protocols=("stego", "maskcontrast")).metrics)
    assert [line for line in summary if "(count-Hungarian" in line]
    assert [line for line in summary if "(IoU-Hungarian" in line]
    assert summary[-1].endswith("protocols stego, maskcontrast")


def test_scores_of_images_by_themselves_stand_apart(inputs, pages):
    path = inputs / "per_image_summary.csv"
    path.write_text("seed,value\n0,0.51\n1,0.55\nmean,0.53\nsd,0.0283\n", encoding="utf-8")
    with_images = make(inputs, "with", per_image=path) / "index.html"
    assert "53.0 ± 2.8" in with_images.read_text(encoding="utf-8")
    assert "per_image" not in page_of(pages("labelled"))


def test_the_same_inputs_give_the_same_pictures(inputs, pages):
    one, other = pages("labelled"), make(inputs, "other", counts=True)
    for name in ("contact_sheet_1.png", "stages.png", "per_class.png"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_contact_sheets_have_eight_rows_a_page(tmp_path, inputs):
    rows = [
        Row(f"{number}.png", inputs / "images/0.png", None, "0.png", 40, 60) for number in range(17)
    ]
    ids = [row.image_id for row in rows]
    vote, mask = np.ones((3, 2, 3), bool), np.ones((40, 60), bool)
    folder = tmp_path / "many"
    sizes = dict.fromkeys(ids, (40, 60))
    images = dict.fromkeys(ids, inputs / "images/0.png")
    part = folder / "manifest" / "0000.csv"
    write_manifest(part, sizes, images=images, outputs=dict.fromkeys(ids, "0.png"))
    gather_csv([part], folder / "manifest.csv")
    write_level_masks(folder / "merged/0000.npz", dict.fromkeys(ids, vote))
    write_patch_scores(folder / "scores/0000.npz", dict.fromkeys(ids, vote[0] * 1.0))
    write_pixel_masks(folder / "pixel/0000.npz", dict.fromkeys(ids, mask))
    save_indexed(mask.astype(np.uint16), folder / "segmentation/0000/0.png")
    for name in Shards(2):
        write_tables_of_shard(folder, name, [], [])
    write_colours(folder)
    made = make(folder, "report", labelled=False, samples=17)
    assert len(list(made.glob("contact_sheet_*.png"))) == 3


def test_a_cluster_has_its_own_colour_and_the_truth_that_of_the_matched_cluster(inputs):
    """Cluster 1 is matched to class 2: both have the first colour, on images that are grey."""

    def colours(folder: Path) -> set[tuple[int, int, int]]:
        with Image.open(folder / "contact_sheet_1.png") as page:
            return {tuple(colour) for _, colour in page.convert("RGB").getcolors(2**20)}

    manifest = inputs / "manifest.csv"
    for path in (*inputs.glob("labels/*.png"), *inputs.glob("images/*.png")):
        before = digest_file(path)
        value = 2 if path.parent.name == "labels" else 128
        write_png(path, np.full_like(np.asarray(Image.open(path)), value))
        manifest.write_text(manifest.read_text().replace(before, digest_file(path)))
    for path in inputs.glob("segmentation/*/*.png"):
        save_indexed(np.full_like(np.asarray(Image.open(path)), 1), path)
    labelled, unlabelled = colours(make(inputs, "a")), colours(make(inputs, "b", labelled=False))
    grey = np.full((9, 9, 3), 128, np.uint8)
    tinted = {
        number: tuple(overlay_classes(grey, np.full((9, 9), number))[4, 4].tolist())
        for number in (1, 2)
    }

    def near(wanted: tuple[int, ...], found: set[tuple[int, int, int]]) -> bool:
        """Tell whether a colour is found, but for rounding."""
        return any(max(abs(a - b) for a, b in zip(wanted, one, strict=True)) <= 1 for one in found)

    for found in (labelled, unlabelled):
        assert near(tinted[1], found)
        assert not near(tinted[2], found)


def test_classes_are_drawn_in_the_colours_of_their_clusters():
    key = ColourKey(("sky", "car", "mug", "<b>"), np.array([2, UNMATCHED, 0, 2]), "")
    assert key.class_values.tolist() == [2, 5, 0, 7]  # 4 clusters, then classes without one
    truth = np.array([[0, 1, 2], [3, IGNORED, 0]], np.uint16)
    assert key.values_of(truth).tolist() == [[2, 5, 0], [7, IGNORED, 2]]
    assert [key.describe(value) for value in (0, 1, 2, 3, 5, 7, IGNORED)] == [
        "mug (cluster 0)", "cluster 1 (no class)", "sky (cluster 2)", "mug (cluster 3)",
        "car (no cluster)", "<b> (no cluster)", "no ground truth (ignored)",
    ]  # fmt: skip


LABEL = LabelFile(Path("l"))


def samples(count: int, labelled: int = 10**6) -> list[Sample]:
    return [
        Sample(
            "0000",
            Row(f"{number}.jpg", Path("i"), LABEL if number < labelled else None, "o", 1, 1),
        )
        for number in range(count)
    ]


def test_the_choice_of_images_is_fixed_and_hardly_moved_by_new_ones():
    chosen = choose_images(samples(100), 16, seed=0)
    assert chosen == choose_images(reversed(samples(100)), 16, seed=0)
    assert chosen != choose_images(samples(100), 16, seed=1)
    more = choose_images(samples(105), 16, seed=0)
    assert len({s.row.image_id for s in chosen} & {s.row.image_id for s in more}) >= 11


def test_images_with_labels_are_shown_first():
    chosen = choose_images(samples(100, labelled=4), 6, seed=0)
    assert sum(sample.row.label is not None for sample in chosen) == 4


def test_the_summary_names_masks_and_classes_with_floor_and_ceiling():
    lines = summary_lines(tables_of().metrics)
    assert lines[1] == (
        "refined mask: 74.2 fg/bg mIoU, foreground IoU by image 70.0, recall by class 76.2, "
        "boundary F 60.0"
    )
    (classes,) = [line for line in lines if "IoU-Hungarian" in line]
    assert re.search(
        r"classes: \d\d\.\d ± \d\.\d mIoU .*random labels .*oracle labels 100", classes
    )


# ---- the page ------------------------------------------------------------------------------------


def page_of(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def test_what_one_wants_first_comes_first(pages):
    page = page_of(pages("labelled"))
    order = ["overview", "examples", "classes", "failures", "scores", "rejected", "settings"]
    assert re.findall(r'<section id="(\w+)"', page) == order
    assert re.findall(r'<li><a href="#(\w+)"', page) == order
    facts = re.findall(r"<dt>([^<]+)</dt><dd>([\d,]+)", page)
    assert facts[:5] == [
        ("Images", "5"), ("Rejected", "1"), ("Regions", "4"), ("Empty masks", "1"), ("Classes", "2")
    ]  # fmt: skip


def test_the_headline_is_the_score_of_the_first_protocol_between_its_bounds(pages):
    headline = read_overview(pages("labelled") / OVERVIEW).headline
    assert headline is not None
    metrics = read_table(pages("labelled").parent / "tables" / "metrics.csv")
    line = class_lines(of_protocol(metrics, "maskcontrast"), ["iou_hungarian"])[0]
    assert str(headline.score) == str(line.miou)
    assert str(headline.bounds["floor"]) == str(Score(line.floor.mean))
    assert str(headline.bounds["ceiling"]) == str(Score(line.ceiling.mean))


def test_without_labels_the_headline_is_the_agreement_of_the_levels(pages):
    folder = pages("unlabelled")
    headline = read_overview(folder / OVERVIEW).headline
    agreements = [
        level_agreement(masks.votes_of(number))
        for path in sorted((folder.parent / "merged").glob("*.npz"))
        for masks in [read_level_masks(path)]
        for number in range(len(masks.image_id))
    ]
    assert headline.value == pytest.approx(np.mean(agreements))
    assert headline.ceiling == 1
    assert "not how accurate" in page_of(folder)


def test_the_classes_have_their_regions_names_and_matched_classes(inputs):
    page = page_of(make(inputs, "report", called={1: "<b>pet</b>"}, counts=True))
    row = page[page.index('data-value="&lt;b&gt;pet') :]
    row = row[: row.index("</tr>")]
    # Four regions of 400 pixels; every image has one, and so every crop is of another image.
    total = sum(height * width for height, width in SIZES)
    assert f"<td>4</td><td>4</td><td>{100 * 1600 / total:.1f} %</td>" in row
    assert '<td class="text">&lt;b&gt;dog&lt;/b&gt;</td>' in row
    assert row.count("<img ") == 4
    assert page.count('class="crops"') == 2


def test_names_of_other_images_in_the_table_of_regions_are_refused(inputs):
    table = inputs / "segmentation" / "0000.csv"
    table.write_text(table.read_text().replace("plain.png", "other.png"), encoding="utf-8")
    with pytest.raises(StoreError, match=r"contains images that are not in"):
        make(inputs, "report")


def colours_at(source: str) -> np.ndarray:
    """Return the pixels of a data URI."""
    _, _, encoded = source.partition(",")
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_failure_shows_what_was_missed(inputs):
    """The object of the empty mask is orange, and the rest of the image is not tinted."""
    path, manifest = inputs / "images" / f"{EMPTY}.png", inputs / "manifest.csv"
    before = digest_file(path)
    write_png(path, np.full((*SIZES[EMPTY], 3), 128, np.uint8))
    manifest.write_text(manifest.read_text().replace(before, digest_file(path)))
    page = page_of(make(inputs, "report", counts=True))
    worst = page[page.index("The mask is wrong") :]
    assert worst.index("quo&#34;te") < worst.index("IoU of the foreground 0 %")
    source = re.search(r'data-stage="errors"[^>]*src="([^"]+)"', worst)[1]
    pixels = colours_at(source)
    height, width = (side / size for side, size in zip(pixels.shape, SIZES[EMPTY], strict=False))
    inside = pixels[round(20 * height), round(20 * width)]
    outside = pixels[round(50 * height), round(35 * width)]
    tinted = 0.4 * 128 + 0.6 * np.array(MISSED)
    np.testing.assert_allclose(inside, tinted, atol=12)
    np.testing.assert_allclose(outside, 128, atol=12)


def test_a_run_without_masks_shows_its_segmentation_and_the_truth(pages):
    page = page_of(pages("without masks"))
    assert 'data-stage="segmentation"' in page
    assert "levels" not in page
    assert "Empty masks" not in page
    assert 'data-stage="refined mask"' not in page
    with Image.open(pages("without masks") / "contact_sheet_1.png") as sheet:
        assert sheet.width == 2 * MARGIN + 3 * CELL[1] + 2 * GAP


# ---- several runs on one page --------------------------------------------------------------------


def make_dataset_page(
    inputs: Path, *, labelled: bool = True, runs: tuple[str, ...] = ("one", "two")
) -> Path:
    """Write the page of some runs, all with the files of `inputs`, the second one without masks."""
    folder = inputs / "results" / "data"
    for run in runs:
        shutil.copytree(inputs / "segmentation", folder / run / "segmentation" / "seed-0")
        shutil.copytree(inputs / "tables", folder / run / "tables")
        masks = run != "two"
        made = inputs / f"report-{masks}"
        if not made.is_dir():
            make(inputs, made.name, labelled=labelled, masks=masks, gallery=not masks)
        shutil.copytree(made, folder / run / "report")
    shutil.copy(inputs / "manifest.csv", folder)
    table = folder / "comparison" / "comparison.csv"
    table.parent.mkdir()
    if labelled:
        metrics = {run: read_table(folder / run / "tables" / "metrics.csv") for run in runs}
        figures = [*read_published("voc2012")][:2]
        scores = {
            Figure(row["protocol"], row["stage"], row["metric"]): np.full(3, 0.5)
            for row in main_rows("one", metrics["one"])
        }
        rows = make_comparison(metrics, dict.fromkeys(runs, scores), figures)
        rows.to_csv(table, index=False)
        save_figure(plot_comparison(rows), table.with_suffix(".png"))
    write_dataset_page(
        folder, {run: folder / run / "segmentation" / "seed-0" for run in runs},
        folder / "manifest.csv", table.parent / "index.html", table.parent / "pictures",
        dataset="data", comparison=table if labelled else None,
        classes_file=inputs / "classes.csv" if labelled else None, ignore=255, samples=3, seed=0,
        max_pixels=10_000,
    )  # fmt: skip
    return table.parent


def test_the_page_of_a_dataset_compares_its_runs_and_links_to_them(pages):
    folder = pages("several runs")
    page = page_of(folder)
    assert page.index('id="runs"') < page.index('id="comparison"') < page.index('id="images"')
    links = re.findall('href="(\\.\\./[^"]*)"', page)
    assert links == [
        "../one/report/index.html", "../two/report/index.html", "../two/gallery/index.html"
    ]  # fmt: skip
    assert all((folder / link).is_file() for link in links if "report" in link)
    assert "+0.0 (+0.0 to +0.0)" in page
    assert page.count("published") >= 2
    assert "<i>odd</i>" not in page
    shown = re.findall('src="([^"]*)"', page)
    assert "data:" not in page
    assert all((folder / source).is_file() for source in shown)
    used = {source for source in shown if source.startswith("pictures/")}
    assert used == {f"pictures/{path.name}" for path in (folder / "pictures").iterdir()}


@pytest.mark.thorough
def test_the_page_of_many_runs_stays_small(inputs):
    runs = ("one", *(f"r{number}" for number in range(39)))
    assert (make_dataset_page(inputs, runs=runs) / "index.html").stat().st_size < 200_000


def test_without_labels_the_page_has_no_scores(inputs):
    page = page_of(make_dataset_page(inputs, labelled=False))
    assert "Comparison" not in page
    assert "Side by side" in page
    assert "clusters, in arbitrary order" in page
    assert "agreement of the three levels" in page


def test_a_damaged_report_is_named(tmp_path):
    overview = tmp_path / "two" / "report" / OVERVIEW
    overview.parent.mkdir(parents=True)
    for text in ("{", "[]", '{"headline": null}'):
        overview.write_text(text)
        with pytest.raises(StoreError, match=r"two/report/overview\.json: cannot be read"):
            read_overview(overview)


# ---- in a browser --------------------------------------------------------------------------------


@contextmanager
def opened(
    browser: Browser, folder: Path, width: int = 1400, scheme: str = "light"
) -> Iterator[Page]:
    """Open a page; see that its pictures load, that it fits, and that nothing went wrong."""
    complaints, requests = [], []
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(300_000)  # the machine may be busy
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: complaints.append("a file name opened a dialog"))
    page.goto((folder / "index.html").as_uri())
    page.locator("img").evaluate_all("images => images.forEach(i => i.loading = 'eager')")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    widths = page.locator("img").evaluate_all("images => images.map(i => i.naturalWidth)")
    assert widths
    assert all(widths)
    assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    yield page
    page.close()
    assert complaints == []
    assert all(url.startswith(("data:", folder.as_uri())) for url in requests)


def test_images_go_through_their_stages(browser, pages):
    with opened(browser, pages("labelled")) as page:
        viewer = page.locator("#examples .viewer")
        figures = viewer.locator("figure")
        assert figures.count() == 5

        def shown(of: Locator) -> list[list[str]]:
            return of.locator("figure").evaluate_all(
                "all => all.map(f => [...f.querySelectorAll('img')]"
                ".filter(i => i.offsetParent !== null).map(i => i.dataset.stage))"
            )

        assert shown(viewer) == [["image", "segmentation"]] * 5
        others = shown(page.locator("#failures"))
        viewer.get_by_label("Show").select_option("category level")
        assert shown(viewer) == [["image", "category level"]] * 5
        viewer.get_by_label("Show").select_option("ground truth")
        assert sorted(shown(viewer)) == [["image"], *[["image", "ground truth"]] * 4]
        assert viewer.locator("figure.lacking .now").inner_text() == "no ground truth"
        assert shown(page.locator("#failures")) == others
        viewer.get_by_label("Show").select_option("dataset level")
        figures.nth(0).locator(".pair").click()
        button = figures.nth(0).get_by_role("button")
        assert shown(viewer)[:2] == [["image", "category level"], ["image", "dataset level"]]
        assert button.inner_text().startswith("category level")
        button.press("ArrowLeft")
        button.press("ArrowLeft")
        assert shown(viewer)[0] == ["image", "disagreement"]  # round the corner
        button.press("Enter")
        assert shown(viewer)[0] == ["image", "dataset level"]


def test_failures_show_what_was_missed_at_first(browser, pages):
    with opened(browser, pages("labelled")) as page:
        stages = page.locator("#failures .now").all_inner_texts()
        assert stages == ["disagreement"] * 3 + ["errors"] * 2


def test_tables_are_sorted_by_their_heads(browser, inputs, pages):
    with opened(browser, make_dataset_page(inputs, runs=("one", "two", "b", "a"))) as page:
        table = page.locator("#runs table")

        def column(number: int) -> list[str]:
            return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()

        head = table.get_by_role("columnheader", name="run")
        assert column(1) == ["one", "two", "b", "a"]
        head.get_by_role("button").click()
        assert column(1) == ["a", "b", "one", "two"]
        assert head.get_attribute("aria-sort") == "ascending"
        head.get_by_role("button").press("Enter")
        assert column(1) == ["two", "one", "b", "a"]
        regions = table.get_by_role("columnheader", name="regions")
        for direction in ("descending", "ascending"):
            regions.get_by_role("button").click()
            assert column(7) == ["4", "4", "4", "–"]  # what there is not is last in either order
            assert regions.get_attribute("aria-sort") == direction
        assert head.get_attribute("aria-sort") is None
    with opened(browser, pages("labelled")) as page:
        table = page.locator("#scores table").last

        def values() -> list[float]:
            cells = table.locator("tbody td:nth-child(2)").all_inner_texts()
            return [float(text.split()[0]) for text in cells]

        before = values()
        assert before == sorted(before, reverse=True)
        table.get_by_role("columnheader", name="IoU").get_by_role("button").click()
        table.get_by_role("columnheader", name="IoU").get_by_role("button").click()
        assert values() == before[::-1]


def test_on_paper_nothing_is_folded_away(browser, pages):
    with opened(browser, pages("labelled")) as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert not page.locator("nav").is_visible()
        assert not page.locator(".viewer label").first.is_visible()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#settings pre").is_visible()
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == "rgb(255, 255, 255)"


OVERFLOWING = """
() => {
  const clips = (element) => getComputedStyle(element).overflowX !== "visible";
  const within = (element) => element && (clips(element) || within(element.parentElement));
  return [...document.querySelectorAll("body *:not(.unseen, .skip)")].filter((element) => {
    const { left, right, width } = element.getBoundingClientRect();
    const outside = width && (left < -1 || right > document.documentElement.clientWidth + 1);
    return (outside && !within(element.parentElement))
      || (clips(element) && element.scrollWidth > element.clientWidth + 1);
  }).map((element) => `${element.className || element.tagName} ${element.ariaLabel}`);
}
"""
"""Names the elements that are cut off by the screen, or by a parent that can be scrolled."""

SCROLLED = re.compile(r"(scroll|beside) |PRE ")
"""What may be scrolled sideways, on a small screen."""


@pytest.mark.parametrize("kind", ["labelled", "unlabelled", "several runs"])
def test_nothing_is_cut_off_on_screens_of_any_width(browser, pages, kind):
    with opened(browser, pages(kind)) as page:
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        for width in range(320, 1601, 80):
            page.set_viewport_size({"width": width, "height": 800})
            found = page.evaluate(OVERFLOWING)
            if width < 960 or kind == "several runs":  # any number of them
                found = [name for name in found if not SCROLLED.match(name)]
            assert found == [], width


def test_the_regions_of_a_class_are_shown_in_lines_where_a_table_is_narrow(browser, pages):
    """A class has up to four pictures, each of another image; here, all are of one."""
    with opened(browser, pages("labelled"), 1200) as page:
        page.locator(".crops").evaluate_all(
            "all => all.forEach(one => { while (one.childElementCount && one.childElementCount < 4)"
            " one.append(one.firstChild.cloneNode()); })"
        )
        page.locator("#classes tbody th a, #classes tbody th").first.evaluate(
            "head => head.append(' with a name of a length that people do choose at times')"
        )
        assert page.evaluate(OVERFLOWING) == []


@pytest.mark.parametrize(
    ("kind", "width", "scheme"),
    on_screens(["labelled", "unlabelled", "without masks", "several runs"]),
)
def test_axe_finds_nothing(browser, pages, kind, width, scheme):
    with opened(browser, pages(kind), width, scheme) as page:
        found = Axe().run(page, options={"preload": False})
        assert found.violations_count == 0, found.generate_report()
