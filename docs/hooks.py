"""The site as mkdocs builds it: pages are read from where they stand in the repository.

A link such as ``../config/README.md`` thus leads to the same page on the site as in a checkout, and
nothing is copied. Pages of the API are made from the packages that there are, and the page of the
commands from their help.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from lightcluster.cli import app

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "workflow" / "lightcluster"
NO_LIBRARY = ("cli",)
"""Packages that are used from the command line alone."""

REST = "modules"
"""Name of the page of the modules that are in no package."""

API = "docs/reference/api"
COMMANDS = "docs/reference/commands.md"
BESIDE = (".png", ".svg", ".webp", ".ipynb")
"""Files that pages show or link to."""


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the packages into the navigation, behind the page on the API."""
    first = f"{API}.md"
    for section in config.nav or []:
        for entries in section.values():
            if isinstance(entries, list) and first in entries:
                packages = [_page(package) for package in (*_packages(), REST)]
                entries[entries.index(first)] = {"Python API": [{"Overview": first}, *packages]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of `docs/` by those of the repository, named as they are in it."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    made = {COMMANDS: _commands(), **{_page(name): _api(name) for name in _packages()}}
    made[_page(REST)] = _rest()
    pages = [ROOT / page for page in _pages(config.nav) if page not in made]
    linked = [ROOT / "LICENSE", ROOT / "CITATION.cff"]
    shown = [path for folder in ("docs", "resources") for path in (ROOT / folder).rglob("*")
             if path.suffix in (*BESIDE, ".css")]  # fmt: skip
    missed = [path for path in (ROOT / "docs").rglob("*.md") if path not in pages]
    own = [
        _file(str(path.relative_to(ROOT)), config) for path in (*pages, *linked, *shown, *missed)
    ]
    generated = [File.generated(config, name, content=text) for name, text in made.items()]
    return Files([*theme, *map(_placed, own + generated)])


def _pages(nav: Any) -> list[str]:
    """Return the pages of a navigation, or of a part of it."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in _pages(part)]


def _file(name: str, config: MkDocsConfig) -> File:
    return File(name, str(ROOT), config.site_dir, config.use_directory_urls)


def _placed(file: File) -> File:
    """Return a file whose page does not stand in a folder `docs` of the site."""
    file.dest_uri = file.dest_uri.removeprefix("docs/")
    return file


def _packages() -> list[str]:
    folders = (path.parent for path in PACKAGE.glob("*/__init__.py"))
    return sorted(folder.name for folder in folders if folder.name not in NO_LIBRARY)


def _page(package: str) -> str:
    return f"{API}/{package}.md"


def _api(package: str) -> str:
    return f"# {package}\n\n::: lightcluster.{package}\n"


def _rest() -> str:
    """Return the page of the modules that are in no package."""
    modules = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem[0] != "_")
    parts = [f"## {name}\n\n::: lightcluster.{name}\n    options:\n      heading_level: 3\n"
             for name in modules]  # fmt: skip
    return "\n".join(["# Other modules\n", *parts])


def _commands() -> str:
    """Return the help of all commands, their examples as such."""
    command = typer.main.get_command(app)
    context = click.Context(command, info_name="lightcluster")
    text = get_docs_for_click(obj=command, ctx=context, name="lightcluster", title="Commands")
    return re.sub(r"^Example: (.*)$", r"```console\n$ \1\n```", text, flags=re.M)
