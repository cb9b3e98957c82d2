"""The site as mkdocs builds it: pages are read from where they stand in the repository.

A link such as ``../config/README.md`` thus leads to the same page on the site as in a checkout, and
nothing is copied. Pages of the API are made from the packages that there are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "workflow" / "lightcluster"
NO_LIBRARY = ("cli",)
"""Packages that are used from the command line alone."""

API = "docs/reference/api"
BESIDE = (".png", ".svg")
"""Files that pages show."""


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the packages into the navigation, behind the page on the API."""
    first = f"{API}.md"
    for section in config.nav or []:
        for entries in section.values():
            if isinstance(entries, list) and first in entries:
                packages = [_page(package) for package in _packages()]
                entries[entries.index(first)] = {"Python API": [{"Overview": first}, *packages]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of `docs/` by those of the repository, named as they are in it."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    pages = [ROOT / page for page in _pages(config.nav) if not page.startswith(f"{API}/")]
    linked = [ROOT / "LICENSE", ROOT / "CITATION.cff"]
    shown = [path for folder in ("docs", "resources") for path in (ROOT / folder).rglob("*")
             if path.suffix in (*BESIDE, ".css")]  # fmt: skip
    missed = [path for path in (ROOT / "docs").rglob("*.md") if path not in pages]
    own = [
        _file(str(path.relative_to(ROOT)), config) for path in (*pages, *linked, *shown, *missed)
    ]
    return Files([*theme, *own, *_api(config)])


def _pages(nav: Any) -> list[str]:
    """Return the pages of a navigation, or of a part of it."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in _pages(part)]


def _file(name: str, config: MkDocsConfig) -> File:
    file = File(name, str(ROOT), config.site_dir, config.use_directory_urls)
    file.dest_uri = file.dest_uri.removeprefix("docs/")
    return file


def _packages() -> list[str]:
    folders = (path.parent for path in PACKAGE.glob("*/__init__.py"))
    return sorted(folder.name for folder in folders if folder.name not in NO_LIBRARY)


def _page(package: str) -> str:
    return f"{API}/{package}.md"


def _api(config: MkDocsConfig) -> list[File]:
    """Return a page for each package."""
    pages = []
    for package in _packages():
        text = f"# {package}\n\n::: lightcluster.{package}\n"
        page = File.generated(config, _page(package), content=text)
        page.dest_uri = page.dest_uri.removeprefix("docs/")
        pages.append(page)
    return pages
