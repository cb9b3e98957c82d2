"""The report: which images it shows, in which colours, and the page that holds it all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from builders import write_classes, write_manifest, write_patch_masks, write_pixel_masks, write_png
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.manifest import Row, Sample, gather_csv
from lightcluster.digests import digest_file
from lightcluster.errors import StoreError
from lightcluster.evaluation.comparison import Figure, main_rows, make_comparison
from lightcluster.evaluation.counting import ImageCounts
from lightcluster.evaluation.mask_counts import STAGES, MaskTotals
from lightcluster.evaluation.published import read_published
from lightcluster.evaluation.tables import Conditions, make_tables
from lightcluster.regions.painting import save_indexed
from lightcluster.reporting.choice import choose_images
from lightcluster.reporting.comparison import plot_comparison
from lightcluster.reporting.contact_sheet import GAP, MARGIN
from lightcluster.reporting.dataset_page import write_dataset_page
from lightcluster.reporting.figures import save_figure
from lightcluster.reporting.overlays import CELL, overlay_classes
from lightcluster.reporting.page import body_of
from lightcluster.reporting.report import report
from lightcluster.reporting.summary import summary_lines
from lightcluster.reporting.tables import read_table

NAMES = ["plain.png", "quo\"te's.png", "new\nline.png", "<script>alert(1)</script>.png", "ü.png"]
SIZES = [(40, 60), (60, 40), (50, 50), (40, 60), (48, 64)]
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


@pytest.fixture
def inputs(tmp_path):
    """The files of a run on five images in two shards; the last has no label."""
    draw = np.random.default_rng(0)
    parts = []
    for shard, members in enumerate((range(3), range(3, 5))):
        name, sizes, labels, images, votes, scores, masks = f"{shard:04d}", {}, {}, {}, {}, {}, {}
        outputs = {}
        for number in members:
            image_id, size = NAMES[number], SIZES[number]
            images[image_id] = write_png(
                tmp_path / "images" / f"{number}.png", draw.integers(0, 256, (*size, 3), np.uint8)
            )
            truth = np.zeros(size, np.uint8)
            truth[10:30, 10:30] = 1 + number % 2
            if number < 4:
                labels[image_id] = write_png(tmp_path / "labels" / f"{number}.png", truth)
            outputs[image_id], sizes[image_id] = f"{number}.png", size
            masks[image_id] = truth > 0
            votes[image_id] = draw.random((3, 4, 5)) > 0.5
            scores[image_id] = votes[image_id].mean(axis=0)
            save_indexed(
                (truth > 0).astype(np.uint16), tmp_path / "segmentation" / name / f"{number}.png"
            )
        parts.append(tmp_path / "manifest" / f"{name}.csv")
        write_manifest(parts[-1], sizes, labels=labels, images=images, outputs=outputs)
        write_patch_masks(tmp_path / "patch" / f"{name}.npz", votes, scores)
        write_pixel_masks(tmp_path / "pixel" / f"{name}.npz", masks)
    gather_csv(parts, tmp_path / "manifest.csv")
    write_classes(tmp_path / "classes.csv", CLASSES)
    (tmp_path / "tables").mkdir()
    tables = tables_of()
    for name in ("metrics", "per_class", "matching"):
        getattr(tables, name).to_csv(tmp_path / "tables" / f"{name}.csv", index=False)
    return tmp_path


def make(
    folder: Path,
    name: str,
    *,
    labelled: bool = True,
    samples: int = 5,
    per_image: Path | None = None,
    masks: bool = True,
    gallery: bool = False,
) -> Path:
    report(
        folder / "manifest.csv",
        folder / "patch" if masks else None,
        folder / "pixel" if masks else None,
        folder / "segmentation",
        folder / name,
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
    )
    return folder / name


def test_a_labelled_run_has_contact_sheets_figures_and_a_page(inputs):
    written = {path.name for path in make(inputs, "report").iterdir()}
    assert written == {
        "contact_sheet_1.png",
        "stages.png",
        "classes.png",
        "per_class.png",
        "index.html",
    }


def test_an_unlabelled_run_has_no_scores(inputs):
    folder = make(inputs, "report", labelled=False)
    assert {path.name for path in folder.iterdir()} == {"contact_sheet_1.png", "index.html"}
    assert "mIoU" not in (folder / "index.html").read_text(encoding="utf-8")


def test_the_page_needs_no_other_file_and_escapes_names(inputs):
    page = (make(inputs, "report") / "index.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page
    assert "<i>odd" not in page
    assert "&lt;i&gt;odd&lt;/i&gt;" in page
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", page)
    # Three figures, a contact sheet, and eight stages of five images and of two failures; one image
    # of them, at most two, has no truth.
    assert 4 + 7 * 8 - 2 <= len([s for s in sources if s.startswith("data:image/")]) < 4 + 7 * 8
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"url\(\s*[\"']?http", page)


def test_each_protocol_has_a_table_of_its_own_and_the_first_is_drawn(inputs):
    for names in (("stego", "maskcontrast"), ("coco_things",)):
        tables = tables_of(protocols=names)
        for name in ("metrics", "per_class", "matching"):
            getattr(tables, name).to_csv(inputs / "tables" / f"{name}.csv", index=False)
        page = (make(inputs, "-".join(names)) / "index.html").read_text(encoding="utf-8")
        headings = re.findall(r"<h2>Classes, protocol (\w+)</h2>", page)
        assert tuple(headings) == names
        lines = [row for row in re.findall(r"<tr><th>([^<]+)", page) if "Hungarian" in row]
        expected = {"stego": 1, "maskcontrast": 2, "coco_things": 1}
        assert len(lines) == sum(expected[name] for name in names)
        crops = re.findall(r"crop: ([^;]+);", page)[1:]  # the first is that of the masks
        assert crops == ["centre 320" if name == "stego" else "none" for name in names]
    summary = summary_lines(tables_of(protocols=("stego", "maskcontrast")).metrics)
    assert [line for line in summary if "(count-Hungarian" in line]
    assert [line for line in summary if "(IoU-Hungarian" in line]
    assert summary[-1].endswith("protocols stego, maskcontrast")


def test_scores_of_images_by_themselves_stand_apart(inputs):
    path = inputs / "per_image_summary.csv"
    path.write_text("seed,value\n0,0.51\n1,0.55\nmean,0.53\nsd,0.0283\n", encoding="utf-8")
    with_images = make(inputs, "with", per_image=path) / "index.html"
    assert "53.0 ± 2.8" in with_images.read_text(encoding="utf-8")
    without = make(inputs, "without") / "index.html"
    assert "per_image" not in without.read_text(encoding="utf-8")


def test_the_same_inputs_give_the_same_pictures(inputs):
    one, other = make(inputs, "one"), make(inputs, "other")
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
    write_patch_masks(
        folder / "patch/0000.npz", dict.fromkeys(ids, vote), dict.fromkeys(ids, vote[0] * 1.0)
    )
    write_pixel_masks(folder / "pixel/0000.npz", dict.fromkeys(ids, mask))
    save_indexed(mask.astype(np.uint16), folder / "segmentation/0000/0.png")
    made = make(folder, "report", labelled=False, samples=17)
    assert len(list(made.glob("contact_sheet_*.png"))) == 3


def test_a_cluster_is_drawn_in_the_colour_of_its_class(inputs):
    """Cluster 1 is matched to class 2, whose colour must be seen, and cluster 1's own not."""

    def colours(folder: Path) -> set[tuple[int, int, int]]:
        with Image.open(folder / "contact_sheet_1.png") as page:
            return {tuple(colour) for _, colour in page.convert("RGB").getcolors(2**20)}

    manifest = inputs / "manifest.csv"
    for path in (*inputs.glob("labels/*.png"), *inputs.glob("images/*.png")):
        before, value = digest_file(path), 0 if path.parent.name == "labels" else 128
        write_png(path, np.full_like(np.asarray(Image.open(path)), value))
        manifest.write_text(manifest.read_text().replace(before, digest_file(path)))
    labelled, unlabelled = colours(make(inputs, "a")), colours(make(inputs, "b", labelled=False))
    grey = np.full((9, 9, 3), 128, np.uint8)
    tinted = {
        number: tuple(overlay_classes(grey, np.full((9, 9), number))[4, 4].tolist())
        for number in (1, 2)
    }

    def near(wanted: tuple[int, ...], found: set[tuple[int, int, int]]) -> bool:
        """Tell whether a colour is found, but for rounding."""
        return any(max(abs(a - b) for a, b in zip(wanted, one, strict=True)) <= 1 for one in found)

    assert near(tinted[2], labelled)
    assert near(tinted[1], unlabelled)
    assert not near(tinted[1], labelled)


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


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (apt-get install chromium)")
def test_the_page_works_in_a_real_browser(inputs):
    with in_a_browser(make(inputs, "report") / "index.html", pictures=50) as page:
        figures = page.locator(".viewer figure")
        assert figures.count() == 7

        def shown() -> list[list[str]]:
            return figures.evaluate_all(
                "all => all.map(f => [...f.querySelectorAll('img')]"
                ".filter(i => i.offsetParent !== null).map(i => i.dataset.stage))"
            )

        assert shown() == [["segmentation"]] * 7
        page.get_by_label("category level").check()
        assert shown() == [["category level"]] * 7
        page.get_by_label("ground truth").check()
        assert shown().count(["image"]) in (1, 2)  # where there is no label
        assert shown().count(["ground truth"]) == 7 - shown().count(["image"])
        page.get_by_label("image", exact=True).check()
        figures.nth(0).click()
        assert shown()[:2] == [["dataset level"], ["image"]]
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert shown()[0] in (["ground truth"], ["segmentation"])  # round the corner
        page.emulate_media(media="print")
        assert not page.locator(".viewer .stages").is_visible()


@contextmanager
def in_a_browser(path: Path, pictures: int) -> Iterator[Page]:
    """Open a page, see that so many pictures load, and at the end that nothing went wrong."""
    complaints, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: complaints.append("a file name opened a dialog"))
        page.goto(path.as_uri())
        widths = page.locator("img").evaluate_all("images => images.map(i => i.naturalWidth)")
        assert len(widths) > pictures
        assert all(widths)
        yield page
        browser.close()
    assert complaints == []
    assert all(url.startswith(("data:", "file://")) for url in requests)
    assert [url for url in requests if url.startswith("file://")] == [path.as_uri()]


# ---- several runs on one page --------------------------------------------------------------------


def make_dataset_page(inputs: Path, *, labelled: bool = True) -> Path:
    """Write the page of two runs: the one of `inputs`, and one of a method without masks."""
    folder = inputs / "results" / "data"
    for run in ("one", "two"):
        shutil.copytree(inputs / "segmentation", folder / run / "segmentation" / "seed-0")
        shutil.copytree(inputs / "tables", folder / run / "tables")
        made = make(
            inputs, f"report-{run}", labelled=labelled, masks=run == "one", gallery=run == "two"
        )
        made.rename(folder / run / "report")
    shutil.copy(inputs / "manifest.csv", folder)
    table = folder / "comparison" / "comparison.csv"
    if labelled:
        table.parent.mkdir()
        metrics = {
            run: read_table(folder / run / "tables" / "metrics.csv") for run in ("one", "two")
        }
        figures = [*read_published("voc2012")][:2]
        scores = {
            Figure(row["protocol"], row["stage"], row["metric"]): np.full(3, 0.5)
            for row in main_rows("one", metrics["one"])
        }
        rows = make_comparison(metrics, {"one": scores, "two": scores}, figures)
        rows.to_csv(table, index=False)
        save_figure(plot_comparison(rows), table.with_suffix(".png"))
    write_dataset_page(
        folder, {run: folder / run / "segmentation" / "seed-0" for run in ("one", "two")},
        folder / "manifest.csv", folder / "page.html", dataset="data",
        comparison=table if labelled else None,
        classes_file=inputs / "classes.csv" if labelled else None, ignore=255, samples=3, seed=0,
        max_pixels=10_000,
    )  # fmt: skip
    return folder / "page.html"


def test_a_run_without_masks_shows_its_segmentation_and_the_truth(inputs):
    page = (make(inputs, "report", masks=False) / "index.html").read_text(encoding="utf-8")
    assert 'data-stage="segmentation"' in page
    assert "level agree" not in page
    assert 'data-stage="refined mask"' not in page
    with Image.open(inputs / "report" / "contact_sheet_1.png") as sheet:
        assert sheet.width == 2 * MARGIN + 3 * CELL[1] + 2 * GAP


def test_the_page_of_a_dataset_compares_its_runs_and_holds_each_of_them(inputs):
    page = make_dataset_page(inputs).read_text(encoding="utf-8")
    assert page.count("<main>") == 1
    assert page.index("Comparison") < page.index("Side by side") < page.index('id="run-one"')
    assert page.index('id="run-one"') < page.index('id="run-two"')
    assert re.findall('href="([^"]*gallery[^"]*)"', page) == ["../two/gallery/index.html"]
    assert "+0.0 (+0.0 to +0.0)" in page
    assert page.count("published") >= 2
    assert "<i>odd</i>" not in page
    assert 'src="data:image' in page
    assert not re.findall(r"(?:src|href)=\"(?!data:|#run-|\.\./two/gallery)", page)


def test_without_labels_the_page_holds_the_runs_alone(inputs):
    page = make_dataset_page(inputs, labelled=False).read_text(encoding="utf-8")
    assert "Comparison" not in page
    assert "Side by side" in page
    assert "clusters, in arbitrary order" in page


def test_a_damaged_report_is_named(inputs):
    page = make_dataset_page(inputs)
    report_page = page.parent / "two" / "report" / "index.html"
    report_page.write_text("<main>")
    with pytest.raises(StoreError, match=r"two/report/index\.html: cannot be read"):
        body_of(report_page)


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (apt-get install chromium)")
def test_the_viewers_of_a_dataset_do_not_disturb_each_other(inputs):
    with in_a_browser(make_dataset_page(inputs), pictures=60) as page:
        one, two = (page.locator(".viewer").nth(number) for number in range(2))
        two.get_by_label("ground truth").check()
        chosen = [viewer.locator("input:checked").get_attribute("value") for viewer in (one, two)]
        assert chosen == ["segmentation", "ground truth"]
