"""Take the pictures of the report and the gallery that the documents show.

They are of the demo: ``make pictures`` runs it and then this.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "results" / "demo" / "lightcluster"
ASSETS = ROOT / "docs" / "assets"
WIDTH = 1280
"""Of the browser's window in CSS pixels, and of the pictures."""


def save(page: Page, name: str, height: float, top: float = 0) -> None:
    """Save a part of a page, over its whole width, as WebP."""
    clip = FloatRect(x=0, y=top, width=WIDTH, height=height)
    taken = page.screenshot(clip=clip, full_page=True)
    with Image.open(io.BytesIO(taken)) as picture:
        picture.convert("RGB").save(ASSETS / f"{name}.webp", quality=80, method=6)


def take_pictures(browser: Browser) -> None:
    """Open the pages of the demo and save what the documents show of them."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
    page.goto((RUN / "report" / "index.html").as_uri())
    classes = page.locator("#classes").bounding_box()
    failures = page.locator("#failures").bounding_box()
    assert classes is not None
    assert failures is not None
    save(page, "report", classes["y"])
    save(page, "report-classes", min(560, failures["y"] - classes["y"]), classes["y"])
    save(page, "report-failures", 700, failures["y"])
    page.goto((RUN / "gallery" / "index.html").as_uri())
    page.locator("html[data-ready]").wait_for()
    page.wait_for_function("[...document.images].slice(0, 20).every(image => image.complete)")
    save(page, "gallery", 760)


if __name__ == "__main__":
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        take_pictures(chromium)
        chromium.close()
