"""The gallery of many images in Chromium: how long it takes to open, by the clock, and its files.

The images are those of a finished run, over and over, as hard links.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from harness import console
from playwright.sync_api import sync_playwright

from lightcluster.datasets.manifest import Rejection, write_rows
from lightcluster.reporting.gallery.drawing import RECORDS, Records, read_records
from lightcluster.reporting.gallery.writing import write_gallery
from lightcluster.shards import Shards

OF_A_SHARD = 250


def write_many(run: Path, folder: Path, images: int) -> Path:
    """Write a gallery of so many images from that of a run; return it."""
    drawn = [
        (shard, number, one)
        for shard in sorted((run / "gallery").glob("[0-9]*"))
        for number, one in enumerate(read_records(shard).drawn)
    ]
    gallery, shards = folder / "gallery", Shards(-(-images // OF_A_SHARD))
    for place, shard in enumerate(shards):
        (gallery / shard).mkdir(parents=True)
        records = []
        for number in range(min(OF_A_SHARD, images - place * OF_A_SHARD)):
            source, of_source, one = drawn[(place * OF_A_SHARD + number) % len(drawn)]
            for suffix in (".jpg", "-thumb.jpg", "-thumb.png"):
                os.link(source / f"{of_source}{suffix}", gallery / shard / f"{number}{suffix}")
            records.append(replace(one, image_id=f"{shard}/{number:06d}-{one.image_id}"))
        text = json.dumps(Records(len(records), records), default=vars)
        (gallery / shard / RECORDS).write_text(text, "utf-8")
        write_rows(folder / f"{shard}.rejected.csv", [], Rejection)
    write_gallery(
        gallery, shards, folder, run / "segmentation" / "seed-0" / "classes.csv",
        gallery / "index.html", gallery / "data", dataset="many", run="one", seed=0, given={},
        clustering="a", masks=True, counts=None, frame="original", classes_file=None,
        matching=None,
    )  # fmt: skip
    return gallery


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run with masks.")],
    images: Annotated[int, typer.Option()] = 5000,
    repeat: Annotated[int, typer.Option()] = 5,
) -> None:
    run = run.resolve()
    with TemporaryDirectory(dir=run) as temporary, sync_playwright() as playwright:
        gallery = write_many(run, Path(temporary), images)
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for view in ("images", "classes"):
            taken = []
            for _ in range(repeat):
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                start = time.perf_counter()
                page.goto(f"{(gallery / 'index.html').as_uri()}#view={view}")
                page.locator("html[data-ready]").wait_for()
                page.locator("main img").first.evaluate("image => image.decode()")
                taken.append(time.perf_counter() - start)
                page.close()
            console.print(f"{view}: {sorted(taken)[repeat // 2]:.2f} s (median of {repeat}; "
                          f"{min(taken):.2f} to {max(taken):.2f})")  # fmt: skip
        browser.close()
        sizes = [path.stat().st_size for path in (gallery / "data").iterdir()]
        console.print(
            f"{images} images: data {sum(sizes) / 1e6:.1f} MB, largest file {max(sizes) / 1e6:.2f} "
            f"MB; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        )


if __name__ == "__main__":
    typer.run(main)
