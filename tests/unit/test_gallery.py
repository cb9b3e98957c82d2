"""The gallery of a run: what it is drawn from, and the page in a real browser."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
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
    write_region_maps,
)
from PIL import Image
from playwright.sync_api import Browser, Page
from typer.testing import CliRunner

from lightcluster.cli import app
from lightcluster.datasets.manifest import Rejection, gather_manifest, write_rows
from lightcluster.errors import StoreError
from lightcluster.evaluation.counting import count_confusion
from lightcluster.evaluation.mask_counts import count_masks
from lightcluster.evaluation.matching import Match, best_matches
from lightcluster.exports.segmentation import open_segmentation
from lightcluster.names.file import read_names, read_table
from lightcluster.names.run import given_names, open_named
from lightcluster.places import NAMES as NAMES_FILE
from lightcluster.regions.components import find_components
from lightcluster.regions.painting import LabelledRegion, save_indexed
from lightcluster.regions.palette import palette, write_palette
from lightcluster.reporting.gallery.drawing import (
    RECORDS,
    THUMB_BYTES,
    Drawn,
    Found,
    Records,
    ShownRegion,
    draw_gallery,
    draw_image,
    encode_map,
    encode_thumb,
    read_records,
    regions_of_values,
    shrink_to,
)
from lightcluster.reporting.gallery.sample import Candidate, draw_sample
from lightcluster.reporting.gallery.writing import (
    Cluster,
    Example,
    image_iou,
    parts_of,
    write_gallery,
)
from lightcluster.shards import Shards

EVIL = "<img src=x onerror=alert(1)>.png"
EMPTY, WHOLE, LARGE = "empty.png", "ü/日本 #1 100%.png", "large?.png"
NAMES = [EVIL, "quo\"te's & </script><script>alert(2)</script>.png", EMPTY, WHOLE, LARGE]
SIZES = [(60, 90), (90, 60), (60, 60), (64, 96), (150, 200)]
SHARDS = {"0000": NAMES[:3], "0001": NAMES[3:]}
CLASSES = {0: "background", 1: "cat", 2: "<b>dog</b>"}
CONFIDENCE = [0.9, 0.2, 0.5, 0.7, 0.4]
CLUSTERS = [1, 1, 2, 2, 1]
"""Of the two regions of the first image and of one in each of the others that has some."""


# ---- functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("highest", [0, 1, 5, 255, 256, 65_535])
def test_a_map_is_read_from_red_and_green(highest):
    values = np.arange(6, dtype=np.int64).reshape(2, 3) * highest // 5
    with Image.open(io.BytesIO(encode_map(values))) as picture:
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
    np.testing.assert_array_equal(red + 256 * green, values)
    assert not blue.any()


def test_pictures_are_made_smaller_and_never_larger():
    assert shrink_to((3000, 1000), 1280) == (1280, 427)
    assert shrink_to((1000, 4000), 1280) == (320, 1280)
    assert shrink_to((50, 70), 1280) == (50, 70)
    image = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    found = Found(np.zeros((1500, 2000), np.int32), [], np.zeros((1500, 2000), bool))
    view, thumb, overlay = draw_image(image, found, (1500, 2000))
    assert (view.size, thumb.size, overlay.size) == ((1280, 960), (240, 180), (240, 180))
    assert len(encode_thumb(thumb)) <= THUMB_BYTES
    assert not np.asarray(overlay)[..., 3].any()


def test_without_masks_all_of_a_cluster_is_a_region():
    label, regions = regions_of_values(np.array([[7, 7, 0], [0, 0, 7]], np.uint16))
    np.testing.assert_array_equal(label, [[2, 2, 1], [1, 1, 2]])
    assert regions == [
        ShownRegion(0, None, 3, 0, 0, 2, 3), ShownRegion(7, None, 3, 0, 0, 2, 3)
    ]  # fmt: skip


def test_a_cluster_is_matched_with_what_it_overlaps_most():
    counts = np.array([[90, 0, 0], [10, 30, 5], [0, 10, 0], [0, 0, 0]])
    cat, dog = CLASSES[1], CLASSES[2]
    names = ("background", cat, dog)
    assert best_matches(counts, names) == [
        Match("background", 0.9), Match(cat, 30 / 55), Match(cat, 10 / 40), None
    ]  # fmt: skip
    assert image_iou(counts, np.array([0, 1, 1, 2])) == pytest.approx((0.9 + 40 / 55 + 0) / 3)
    assert image_iou(np.zeros((2, 2), np.int64), np.zeros(2, np.int64)) is None


def test_typical_and_doubtful_are_the_two_ends_and_none_is_shown_twice():
    def filled(confidence: list[float | None]) -> dict:
        cluster = Cluster("cluster 1", "", "#800000", examples=2)
        for number, value in enumerate(confidence):
            region = ShownRegion(1, value, 1 + number, 0, 0, 1, 1)
            cluster.add(Example("0000", number, (10, 10), region))
        return cluster.summary(1, 3, None)

    def numbers(examples: list[Example]) -> list[int]:
        return [example.number for example in examples]

    made = filled([0.5, 0.1, 0.9, 0.1, 0.7])
    assert (numbers(made["typical"]), numbers(made["doubtful"])) == ([2, 4], [1, 3])
    assert (made["regions"], made["confidence"]) == (5, 0.46)
    made = filled([0.5, 0.1, 0.9])
    assert (numbers(made["typical"]), numbers(made["doubtful"])) == ([2, 0], [1])
    made = filled([None, None, None])
    assert (numbers(made["typical"]), made["doubtful"], made["confidence"]) == ([2, 1], [], None)


def test_data_is_cut_into_parts_of_a_bounded_size():
    items = [["x" * 400_000, number] for number in range(7)]
    parts = list(parts_of(items))
    assert [first for first, _ in parts] == [0, 3, 6]
    assert [item for _, text in parts for item in json.loads(text)] == items
    assert list(parts_of([])) == []


def candidates(number: int, clusters: int) -> list[Candidate]:
    """Make images of which every tenth is empty; cluster *n* is in every *n*-th of the others."""
    draw = np.random.default_rng(0)
    return [
        Candidate(
            f"{n}.jpg",
            frozenset(c for c in range(1, clusters + 1) if n % 10 and n % c == 0),
            float(draw.random()) if n % 10 else None,
        )
        for n in range(number)
    ]


def test_a_sample_has_every_class_the_empty_and_the_doubtful():
    every = candidates(1000, 40)
    chosen = [every[n] for n in draw_sample(every, 200)]
    assert len({one.image_id for one in chosen}) == 200
    for cluster in range(1, 41):
        there = sum(cluster in one.clusters for one in every)
        assert sum(cluster in one.clusters for one in chosen) >= min(there, 6)
    assert sum(not one.clusters for one in chosen) >= 10
    confidence = sorted(one.confidence for one in every if one.confidence is not None)
    doubtful = [
        one for one in chosen if one.confidence is not None and one.confidence < confidence[90]
    ]
    assert len(doubtful) >= 10
    assert confidence[0] in [one.confidence for one in chosen]


def test_a_sample_does_not_depend_on_the_order_nor_grow_over_the_limit():
    every = candidates(300, 8)
    names = [every[n].image_id for n in draw_sample(every, 50)]
    turned = every[::-1]
    assert sorted(turned[n].image_id for n in draw_sample(turned, 50)) == sorted(names)
    for count in (0, 1, 2, 299, 300, 1000):
        assert len(draw_sample(every, count)) == min(count, 300)
    one_kind = [Candidate(f"{n}", frozenset(), None) for n in range(20)]
    assert len(draw_sample(one_kind, 7)) == 7


# ---- a gallery of five images --------------------------------------------------------------------


def make(
    dataset: Path, *, masks: bool = True, labelled: bool = True, limit: int | None = None
) -> Path:
    """Write the gallery of `NAMES`, in two shards, in the folder of a run; the last has no label.

    Of each shard, no more images than `limit` are shown.
    """
    draw = np.random.default_rng(0)
    folder = dataset / "one"
    folder.mkdir(parents=True)
    clusters, confidences = iter(CLUSTERS), iter(CONFIDENCE)
    classes = write_classes(folder / "classes.csv", CLASSES) if labelled else None
    gallery, counts = folder / "gallery", folder / "counts"
    segmentation = folder / "segmentation" / "seed-0"
    for shard, names in SHARDS.items():
        images, labels, outputs, sizes = {}, {}, {}, {}
        found, votes, scores, table = {}, {}, {}, []
        for name in names:
            number = NAMES.index(name)
            size = sizes[name] = SIZES[number]
            pixels = draw.integers(0, 256, (*size, 3), np.uint8)
            images[name] = write_png(folder / "images" / f"{number}.png", pixels)
            mask = np.zeros(size, bool)
            if name != EMPTY:
                mask[10:30, 10 : 30 + 2 * number] = True
            if number == 0:
                mask[40:50, 60:80] = True
            truth = np.zeros(size, np.uint8)
            truth[10:30, 10:30] = 1 + number % 2
            truth[-3:] = 255
            if number < 4 and labelled:
                labels[name] = write_png(folder / "labels" / f"{number}.png", truth)
            outputs[name], found[name] = f"{number}.png", mask
            votes[name] = np.zeros((3, 4, 5), bool)
            votes[name][: number % 4, : number % 5] = True
            scores[name] = votes[name].mean(axis=0)
            regions = find_components(mask, 0.0)
            of_region = [0]
            for row in range(len(regions.area)):
                of_region.append(next(clusters))
                box = map(int, regions.box[row])
                area = int(regions.area[row])
                table.append(
                    LabelledRegion(name, row + 1, of_region[-1], next(confidences), area, *box)
                )
            painted = np.array(of_region, np.uint16)[regions.label]
            save_indexed(painted, segmentation / shard / f"{number}.png")
        manifest = write_manifest(
            dataset / "manifest" / f"{shard}.csv", sizes, labels=labels, images=images,
            outputs=outputs,
        )  # fmt: skip
        write_rows(manifest.with_suffix(".rejected.csv"), [
            Rejection("<b>broken</b>.jpg", "image", "no image <i>"), Rejection(EVIL, "label", "odd")
        ] if shard == "0000" else [], Rejection)  # fmt: skip
        with (folder / f"{shard}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(LabelledRegion.__dataclass_fields__))
            writer.writeheader()
            writer.writerows(asdict(region) for region in table)
        merged = write_level_masks(folder / "merged" / f"{shard}.npz", votes)
        patch = write_patch_scores(folder / "scores" / f"{shard}.npz", scores)
        pixel = write_pixel_masks(folder / "pixel" / f"{shard}.npz", found)
        maps = write_region_maps(folder / "maps" / f"{shard}.npz", found, 0.0)
        draw_gallery(
            manifest, segmentation / shard, gallery / shard,
            region_maps=maps if masks else None, table=folder / f"{shard}.csv" if masks else None,
            merged=merged if masks else None, scores=patch if masks else None,
            pixel_masks=pixel if masks else None,
            classes_file=classes, ignore=255, max_pixels=100_000, images=limit,
        )  # fmt: skip
        if classes is not None:
            count_confusion(
                manifest, classes, {0: segmentation / shard},
                counts / "classes" / shard,
                clusters=lambda *_: 3, classes="auto", background=0, ignore=255,
                protocols=["maskcontrast"], stego_squash=False,
            )  # fmt: skip
            count_masks(
                manifest, classes, merged, patch, pixel, counts / "masks" / f"{shard}.npz",
                background=0, ignore=255, upsampling="nearest", threshold=0.5,
            )  # fmt: skip
    gather_manifest(
        Shards(len(SHARDS)).paths(dataset / "manifest", ".csv"), dataset / "manifest.csv"
    )
    values = ["background" if masks else "cluster 0", "cluster 1", "cluster 2"]
    write_palette(segmentation / "classes.csv", values, [None, 3, 2], "regions")
    if labelled:
        # Of clusters 1 and 2, each is matched to the class that has the number of the other.
        lines = [
            f"maskcontrast,iou_hungarian,0,{n},{CLASSES[m]}" for n, m in ((0, 0), (1, 2), (2, 1))
        ]
        (folder / "matching.csv").write_text(
            "\n".join(["protocol,matching,seed,cluster,class", *lines, ""]), "utf-8"
        )
    write_page(gallery, masks=masks, counts=counts if labelled else None, classes_file=classes)
    return gallery


def write_page(
    gallery: Path, *, masks: bool = True, counts: Path | None = None,
    classes_file: Path | None = None,
) -> None:  # fmt: skip
    """Write the page of what is drawn, with the names that there are."""
    folder = gallery.parent
    named = open_named(folder)
    write_gallery(
        gallery, Shards(len(SHARDS)), folder.parent / "manifest",
        named.segmentation / "classes.csv", gallery / "index.html", gallery / "data",
        dataset="<i>odd</i>", run="one", seed=0, given=given_names(named.segmentation),
        clustering=named.fingerprint(), masks=masks, counts=counts, frame="original",
        classes_file=classes_file, matching=folder / "matching.csv" if classes_file else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("gallery"))


def test_the_records_say_what_was_found_in_each_image(gallery):
    shards = [read_records(gallery / shard) for shard in SHARDS]
    assert [shard.images for shard in shards] == [3, 2]
    one, other = [shard.drawn for shard in shards]
    assert [record.image_id for record in one + other] == NAMES
    assert [record.size for record in one + other] == SIZES
    assert [record.labelled for record in one + other] == [0, 1, 2, 0, None]
    assert [region.confidence for record in one + other for region in record.regions] == CONFIDENCE
    first = one[0]
    assert first.foreground == pytest.approx((20 * 20 + 10 * 20) / (60 * 90), abs=1e-4)
    assert first.regions[1] == ShownRegion(1, 0.2, 200, 40, 60, 50, 80)
    # Of four rows of five patches, number % 5 rows are of some levels but not of all.
    assert [record.agreement for record in one + other] == [1.0, 0.75, 0.5, 1.0, 1.0]
    (gallery / "broken").mkdir()
    (gallery / "broken" / RECORDS).write_text("[{}]")
    with pytest.raises(StoreError, match=RECORDS):
        read_records(gallery / "broken")
    shutil.rmtree(gallery / "broken")


def test_the_same_inputs_give_the_same_bytes(gallery, tmp_path):
    again = make(tmp_path)
    files = sorted(path.relative_to(gallery) for path in gallery.rglob("*") if path.is_file())
    assert len(files) == 4 * len(NAMES) + 2 + 1 + 9
    for file in files:
        assert (gallery / file).read_bytes() == (again / file).read_bytes(), file


def test_nothing_of_a_name_is_html(gallery):
    page = (gallery / "index.html").read_text("utf-8")
    assert "<i>odd" not in page
    assert "&lt;i&gt;odd" in page
    parts = [(gallery / "data" / f"part-000{number}.js").read_text("utf-8") for number in range(3)]
    assert json.dumps(EVIL) in parts[0]
    assert "<b>broken" in parts[2]


def test_the_iou_is_that_of_the_mask_or_without_masks_of_the_classes(gallery, tmp_path):
    def iou(folder: Path) -> dict[str, float | None]:
        found = {}
        for shard in range(2):
            text = (folder / "data" / f"part-000{shard}.js").read_text("utf-8")
            for name, *values in json.loads(text[text.index(", [") + 2 : text.rindex(")")]):
                found[name] = values[-2]
        return found

    masks = iou(gallery)
    assert masks[EVIL] == pytest.approx(400 / 600, abs=1e-4)
    assert (masks[EMPTY], masks[LARGE]) == (0.0, None)
    classes = iou(make(tmp_path, masks=False))
    assert classes[LARGE] is None
    assert 0 < classes[EVIL] < 1


@pytest.mark.parametrize("masks", [True, False])
def test_a_sample_is_drawn_with_the_scores_of_its_own_images(gallery, tmp_path, masks):
    sampled = make(tmp_path / "sampled", masks=masks, limit=1)
    whole = gallery if masks else make(tmp_path / "whole", masks=False)

    def lines(folder: Path) -> dict[str, list]:
        texts = [path.read_text("utf-8") for path in sorted((folder / "data").glob("part-*.js"))]
        return {
            name: values
            for text in texts if text.startswith("gallery.add")
            for name, *values in json.loads(text[text.index(", [") + 2 : text.rindex(")")])
        }  # fmt: skip

    few, every = lines(sampled), lines(whole)
    assert len(few) == 2
    assert few == {name: every[name] for name in few}
    assert [read_records(sampled / shard).images for shard in SHARDS] == [3, 2]
    assert len(list(sampled.glob("*/*.jpg"))) == 4
    rejected = (sampled / "data" / "part-0002.js").read_text("utf-8")
    assert "<b>broken" in rejected


# ---- the page in a browser -----------------------------------------------------------------------


@contextmanager
def opened(
    browser: Browser, gallery: Path, address: str = "", width: int = 1400, scheme: str = "light"
) -> Iterator[Page]:
    """Open the page, and see at the end that nothing went wrong and nothing came from elsewhere."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(300_000)  # the machine may be busy
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append("a name opened a dialog"))
    page.on("requestfailed", lambda request: complaints.append(f"not found: {request.url}"))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((gallery / "index.html").as_uri() + address)
    page.locator("html[data-ready]").wait_for()
    yield page
    assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    page.close()
    assert complaints == []
    assert all(url.startswith(("data:", gallery.as_uri())) for url in requests)


def shown(page: Page) -> list[str]:
    return page.locator(".grid .card b").all_inner_texts()


def assert_accessible(page: Page) -> None:
    found = Axe().run(page, options={"preload": False})  # it would read the style as a file
    assert found.violations_count == 0, found.generate_report()


def test_images_are_filtered_sorted_and_searched(browser, gallery):
    with opened(browser, gallery) as page:
        assert shown(page) == NAMES
        assert page.locator("#count").inner_text() == "5 of 5 images"
        sizes = page.locator(".grid img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert len(sizes) == 10
        assert all(sizes)
        page.get_by_label("Class").select_option("2")
        assert shown(page) == [NAMES[1], WHOLE]
        page.get_by_label("Sort by").select_option("confidence")
        page.get_by_label("Order").select_option("down")
        assert shown(page) == [WHOLE, NAMES[1]]
        page.get_by_label("Class").select_option("")
        assert shown(page) == [WHOLE, EVIL, NAMES[1], LARGE, EMPTY]  # without confidence: last
        page.get_by_label("Order").select_option("")
        page.get_by_label("Sort by").select_option("agreement")
        assert shown(page)[:2] == [EMPTY, NAMES[1]]
        page.get_by_label("Sort by").select_option("iou")
        assert (shown(page)[0], shown(page)[-1]) == (EMPTY, LARGE)
        assert "IoU 67 %" in page.locator(".card", has_text=EVIL).inner_text()
        page.get_by_label("Sort by").select_option("foreground")
        assert shown(page)[0] == EMPTY
        page.get_by_label("Show").select_option("nothing")
        assert shown(page) == [EMPTY]
        page.get_by_label("Show").select_option("rejected")
        assert shown(page) == ["<b>broken</b>.jpg", EVIL]
        assert "no image <i>" in page.locator(".card.refused").inner_text()
        page.get_by_label("Show").select_option("")
        page.get_by_label("Name", exact=True).fill("日本")
        assert shown(page) == [WHOLE]
        page.get_by_label("Name", exact=True).fill("nowhere")
        assert page.locator("main").inner_text() == "No image is like this."
        page.reload()  # all of it stands in the address
        page.locator("html[data-ready]").wait_for()
        assert page.get_by_label("Name", exact=True).input_value() == "nowhere"
        assert page.get_by_label("Sort by").input_value() == "foreground"


def layer_of(page: Page) -> str | None:
    return page.locator("dialog canvas").get_attribute("data-layer")


def pixel(page: Page, x: float, y: float) -> list[int]:
    """Return the colour of the layer at a place, of its width and height."""
    return page.locator("dialog canvas").evaluate(
        "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData("
        "Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data]",
        [x, y],
    )


def wait_for(page: Page, key: str) -> None:
    page.locator(f'dialog[data-ready="{key}"]').wait_for()


@pytest.mark.parametrize("width", [1400, 400])
def test_an_image_is_looked_at_in_all_layers(browser, gallery, width):
    with opened(browser, gallery, width=width) as page:
        page.locator(".card").first.click()
        wait_for(page, "0000/0")
        assert page.locator("dialog h2").inner_text() == EVIL
        assert page.locator("dialog .frame img").evaluate("one => one.naturalWidth") == 90
        layers = page.locator("dialog fieldset label").all_inner_texts()
        assert [name.strip() for name in layers] == [
            "image", "dataset level", "category level", "image level", "score", "mask",
            "segmentation", "truth",
        ]  # fmt: skip
        inside, outside = (20 / 90, 20 / 60), (2 / 90, 2 / 60)
        assert layer_of(page) == "segmentation"
        assert pixel(page, *inside)[:3] == palette()[1].tolist()
        page.get_by_label("mask").check()
        assert pixel(page, *inside)[3] == 0
        assert pixel(page, *outside)[3] > 100
        page.get_by_label("truth").check()
        assert pixel(page, *inside)[:3] == palette()[2].tolist()  # of the cluster of class 1
        assert pixel(page, 0.5, 0.99)[:3] == [255, 255, 255]  # ignored
        page.get_by_label("image", exact=True).check()
        assert not page.locator("dialog canvas").is_visible()

        def at(x: float, y: float) -> dict[str, float]:
            box = page.locator("dialog .frame img").bounding_box()
            return {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}

        page.mouse.move(**at(*inside))
        words = "cluster 1, best match cat, IoU "
        tip = page.locator("dialog .tip").inner_text()
        assert tip.startswith(words)
        assert tip.endswith("confidence 0.90\ntruth: cat")
        page.mouse.move(**at(0.5, 0.2))
        assert page.locator("dialog .tip").inner_text().startswith("no region")
        regions = page.locator("dialog .regions li")
        assert regions.count() == 2
        assert "confidence 0.20, 3.7 % of the image" in regions.nth(1).inner_text()
        regions.nth(1).get_by_role("link").focus()
        assert page.locator("dialog .said").inner_text().endswith("confidence 0.20")
        page.locator("dialog").get_by_label("Next image").click()
        wait_for(page, "0000/1")
        page.locator("dialog").get_by_label("Close").click()
        assert not page.locator("dialog").is_visible()


def test_all_of_it_goes_from_the_keyboard(browser, gallery):
    with opened(browser, gallery) as page:
        press = page.keyboard.press
        press("/")
        page.keyboard.type("png")
        press("Enter")
        press("ArrowRight")
        press("ArrowRight")
        press("ArrowLeft")
        focused = "document.activeElement.innerText"
        assert page.evaluate(focused).startswith("quo")
        press("End")
        assert page.evaluate(focused).startswith(LARGE)
        press("Home")
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid"
        press("Enter")
        wait_for(page, "0000/0")
        for _ in range(30):  # the focus stays in the dialog, or goes to the browser's own
            press("Tab")
            assert page.evaluate(
                "document.activeElement === document.body"
                " || document.getElementById('dialog').contains(document.activeElement)"
            )
        press("8")
        assert layer_of(page) == "truth"
        press("ArrowUp")
        assert layer_of(page) == "segmentation"
        press("ArrowDown")
        assert layer_of(page) == "truth"
        press("ArrowRight")
        wait_for(page, "0000/1")
        assert layer_of(page) == "truth"
        press("ArrowLeft")
        wait_for(page, "0000/0")
        press("Escape")
        assert not page.locator("dialog").is_visible()
        assert page.evaluate(focused).startswith("<img src")


def test_each_class_has_a_page(browser, gallery):
    with opened(browser, gallery) as page:
        page.get_by_role("link", name="Classes").click()
        assert page.locator(".classes h2").count() == 2
        page.get_by_role("link", name="cluster 1, best match").click()
        heading = page.locator(".class h2").inner_text()
        assert heading.startswith("cluster 1, best match cat, IoU 0.")
        assert "3 regions in 2 images" in page.locator(".class").inner_text()
        crops = page.locator(".class .crop")
        assert [text.strip() for text in crops.all_inner_texts()] == [
            "confidence 0.90", "confidence 0.40", "confidence 0.20"
        ]  # fmt: skip
        # The middle of the region is in the middle of its crop.
        window, box = (crops.nth(2).locator(part).bounding_box() for part in (".window", ".box"))
        for side, length in (("x", "width"), ("y", "height")):
            middles = [place[side] + place[length] / 2 for place in (window, box)]
            assert abs(middles[0] - middles[1]) < 0.2 * window[length]
        crops.nth(1).click()
        wait_for(page, "0001/1")
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Its images").click()
        assert shown(page) == [EVIL, LARGE]
        page.go_back()
        assert page.locator(".class h2").inner_text() == heading
    with opened(browser, gallery, "#view=class&class=2") as page:
        assert page.locator(".class h2").inner_text().startswith("cluster 2")
    for address in ("#view=class&class=99", "#image=nowhere/7&sort=odd", "#%%%=&view=<b>"):
        with opened(browser, gallery, address):
            pass


def test_without_masks_and_truth_what_there_is_not_is_not_shown(browser, tmp_path):
    plain = make(tmp_path, masks=False, labelled=False)
    with opened(browser, plain, "#image=0000/0") as page:
        wait_for(page, "0000/0")
        layers = page.locator("dialog fieldset label").all_inner_texts()
        assert [name.strip() for name in layers] == ["image", "segmentation"]
        assert "confidence" not in page.locator("dialog").inner_text()
        page.keyboard.press("Escape")
        assert page.get_by_label("Sort by").locator("option").all_inner_texts() == ["name"]
        page.get_by_role("link", name="Classes").click()
        assert page.locator(".classes h2").all_inner_texts() == [
            "cluster 0", "cluster 1", "cluster 2"
        ]  # fmt: skip


def names_command(gallery: Path, *options: str | Path) -> str:
    done = CliRunner().invoke(
        app, ["names", str(gallery.parent), *map(str, options)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def called(page: Page, cluster: int) -> str:
    return page.locator(f'[data-called="{cluster}"]').inner_text()


def test_names_are_edited_downloaded_and_applied(browser, tmp_path):
    run = make(tmp_path / "it's odd", labelled=False)
    downloaded = tmp_path / "names.csv"
    with opened(browser, run) as page:
        page.get_by_role("link", name="Classes").click()
        assert page.locator(".status").inner_text() == "No changes."
        assert page.get_by_role("button", name="Discard changes").is_disabled()
        page.get_by_label("Name of cluster 1").fill(' "Käse",\u00a0\u200bgrün ')
        assert called(page, 1) == '"Käse", grün (cluster 1)'
        page.keyboard.press("Enter")
        page.keyboard.type('"Käse", grün')
        assert page.locator('[data-effect="2"]').inner_text() == "One class with cluster 1."
        assert page.locator(".status").inner_text() == "2 names are changed and not applied yet."
        page.reload()  # the browser has kept them
        page.locator("html[data-ready]").wait_for()
        page.locator(".classes").wait_for()
        assert called(page, 2) == '"Käse", grün (cluster 2)'
        page.get_by_role("link", name="(cluster 2)").click()
        page.get_by_label("cluster 2 is background").check()
        assert called(page, 2) == "background (cluster 2)"
        assert page.get_by_label("Name of cluster 2").input_value() == "background"
        page.get_by_role("link", name="Images", exact=True).click()
        options = page.locator("select[name=class] option").all_inner_texts()
        assert options[1:] == ['"Käse", grün (cluster 1) (2)', "background (cluster 2) (2)"]
        page.go_back()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download names.csv").click()
        assert download.value.suggested_filename == "names.csv"
        download.value.save_as(downloaded)
        page.get_by_text("How to name classes").click()
        command = page.locator(".naming code").inner_text()
        assert_accessible(page)
    words = shlex.split(command)
    assert words == ["lightcluster", "names", str(run.parent), "--apply", "names.csv"]
    clustering = open_named(run.parent).fingerprint()
    assert read_table(downloaded).names == {1: '"Käse", grün', 2: "background"}
    assert read_table(downloaded).clustering == clustering
    names_command(run, "--apply", downloaded)
    assert read_names(run.parent / NAMES_FILE) == {1: '"Käse", grün', 2: "background"}
    segmentation = open_segmentation(run.parent / "segmentation" / "seed-0")
    assert [category.name for category in segmentation.categories] == ['"Käse", grün']

    write_page(run)
    with opened(browser, run, "#view=classes") as page:  # now they are given, not changed
        assert page.locator(".status").inner_text() == "No changes."
        assert called(page, 1) == '"Käse", grün (cluster 1)'
        assert page.get_by_label("cluster 2 is background").is_checked()
        page.get_by_label("cluster 2 is background").uncheck()
        page.get_by_label("Name of cluster 1").fill("")
        assert called(page, 1) == "cluster 1"
        page.get_by_role("button", name="Discard changes").click()
        assert called(page, 1) == '"Käse", grün (cluster 1)'
        assert page.get_by_label("Name of cluster 1").input_value() == '"Käse", grün'
        page.get_by_label("Name of cluster 1").fill("")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download names.csv").click()
        download.value.save_as(downloaded)
    output = names_command(run, "--apply", downloaded)
    assert "cluster 1: no name, was '\"Käse\", grün'" in output
    assert read_names(run.parent / NAMES_FILE) == {2: "background"}


def test_names_that_were_not_applied_are_said_when_the_clusters_have_changed(browser, tmp_path):
    run = make(tmp_path, labelled=False)
    context = browser.new_context()
    address = f"{(run / 'index.html').as_uri()}#view=classes"
    page = context.new_page()
    page.goto(address)
    page.get_by_label("Name of cluster 1").fill("cat")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download names.csv").click()
    download.value.save_as(tmp_path / "names.csv")
    for path in (run.parent / "segmentation").rglob("*.png"):
        with Image.open(path) as picture:
            values = np.asarray(picture)
        save_indexed(np.array([0, 2, 1], np.uint16)[values], path)
    with pytest.raises(StoreError, match="are of other clusters"):
        names_command(run, "--apply", tmp_path / "names.csv")
    assert not (run.parent / NAMES_FILE).exists()
    write_page(run)
    page.reload()
    warning = page.locator(".naming .warning")
    assert "cat (cluster 1)" in warning.inner_text()
    assert called(page, 1) == "cluster 1"
    page.get_by_label("Name of cluster 2").fill("cat")
    assert not warning.is_visible()
    context.close()


def test_a_browser_that_keeps_nothing_says_so(browser, gallery):
    page = browser.new_page()
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('refused'); }})"
    )
    page.goto(f"{(gallery / 'index.html').as_uri()}#view=classes")
    assert "download the names before you close" in page.locator(".warning").inner_text()
    page.get_by_label("Name of cluster 1").click()  # browsers ask only who has touched the page
    page.keyboard.type("cat")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.goto("about:blank")
    assert asked == ["beforeunload"]
    page.close()


@pytest.mark.parametrize(
    ("address", "width", "scheme"),
    on_screens(["", "#show=rejected", "#view=classes", "#view=class&class=1", "#image=0000/0"]),
)
def test_axe_finds_nothing(browser, gallery, address, width, scheme):
    with opened(browser, gallery, address, width, scheme) as page:
        if "image" in address:
            wait_for(page, "0000/0")
        assert_accessible(page)


@pytest.mark.thorough
def test_five_thousand_images_are_as_quick_to_open_as_a_few(browser, gallery, tmp_path):
    many = tmp_path / "many"
    shards, images = 4, 1250
    for shard in range(shards):
        folder = many / f"{shard:04d}"
        folder.mkdir(parents=True)
        records = []
        for number in range(images):
            for suffix in ("jpg", "png"):
                os.link(gallery / "0000" / f"0-thumb.{suffix}", folder / f"{number}-thumb.{suffix}")
            regions = [ShownRegion(1 + number % 2, 0.5, 9, 0, 0, 3, 3)] * 5
            name = f"{shard}-{number} " + "long name " * 12
            records.append(Drawn(name, (60, 90), (60, 90), None, 0.5, 0.1, regions))
        (folder / RECORDS).write_text(json.dumps(asdict(Records(30 * images, records))))
        write_rows(tmp_path / f"{folder.name}.rejected.csv", [], Rejection)
    table = tmp_path / "palette.csv"
    names = ["background", "cluster 1", "cluster 2"]
    write_palette(table, names, [None, 1, 1], "regions")
    write_gallery(
        many, Shards(shards), tmp_path, table, many / "index.html", many / "data",
        dataset="many", run="one", seed=0, given={}, clustering="a", masks=True, counts=None,
        frame="original", classes_file=None, matching=None,
    )  # fmt: skip
    sizes = [path.stat().st_size for path in (many / "data").iterdir()]
    assert max(sizes) < 5_000_000
    (tmp_path / "blank").mkdir()
    (tmp_path / "blank" / "index.html").write_text("<!DOCTYPE html><html data-ready><p>Blank</p>")
    times = {}
    for folder in (tmp_path / "blank", many):
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            with opened(browser, folder) as page:
                taken.append(time.perf_counter() - start)
                if folder == many:
                    assert page.locator("#count").inner_text() == "5,000 of 5,000 images"
                    assert "5,000 of 150,000 images" in page.locator("h1").inner_text()
                    assert page.locator(".card").count() <= 180  # the others come as one scrolls
                    for number in (119, 179):
                        page.locator("#more").scroll_into_view_if_needed()
                        page.locator(".card").nth(number).wait_for(state="attached")
        times[folder.name] = min(taken)
    assert times["many"] < 60 * times["blank"]


def test_maps_stand_in_the_scripts_of_images(gallery):
    text = (gallery / "0000" / "0.js").read_text("utf-8")
    shard, number, detail = json.loads(f"[{text[len('gallery.detail(') : text.rindex(')')]}]")
    assert (shard, number) == ("0000", 0)
    assert set(detail) == {"regions", "mask", "levels", "score", "truth", "list"}
    content = base64.b64decode(detail["regions"].partition(",")[2])
    with Image.open(io.BytesIO(content)) as picture:
        assert np.unique(np.asarray(picture.convert("RGB"))[..., 0]).tolist() == [0, 1, 2]
