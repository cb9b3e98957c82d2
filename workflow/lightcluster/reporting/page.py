"""Pages that refer to no other file: templates filled in, pictures as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from PIL import Image

from lightcluster.errors import StoreError

SHEET_QUALITY = 88
"""Of the JPEGs inside a page: a fifth of the bytes of the PNGs beside it."""

STYLE = Path(__file__).with_name("style.css")
"""Of all pages."""


def fill_template(path: Path, **values: Any) -> str:
    """Return a Jinja template filled with values, which are escaped for HTML."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = STYLE.read_text(encoding="utf-8")
    return environment.from_string(path.read_text(encoding="utf-8")).render(style=style, **values)


def embed_png(path: Path) -> str:
    """Return a PNG file as a data URI."""
    return data_uri("png", path.read_bytes())


def embed_jpeg(image: Image.Image, **options: Any) -> str:
    """Return a picture as the data URI of a JPEG, written with Pillow's options."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", optimize=True, **options)
    return data_uri("jpeg", buffer.getvalue())


def embed_sheet(image: Image.Image) -> str:
    """Return a contact sheet as a data URI, as JPEG: it is made of photographs."""
    return embed_jpeg(image, quality=SHEET_QUALITY, subsampling=0)


def embed_sheet_file(path: Path) -> str:
    """Return a contact sheet in a file likewise."""
    with Image.open(path) as image:
        return embed_sheet(image)


def body_of(path: Path) -> str:
    """Return what is between ``<main>`` and ``</main>`` on a page that was made here.

    Raises
    ------
    StoreError
        If the page is missing or damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return text[text.index("<main>") + len("<main>") : text.rindex("</main>")]
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run snakemake to make it") from None


def data_uri(kind: str, content: bytes) -> str:
    """Return a picture of this kind, such as png, as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
