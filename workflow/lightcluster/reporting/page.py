"""Pages: templates filled in, and pictures as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

QUALITY = 88
"""Of figures as JPEG."""

FOLDER = Path(__file__).parent
"""Of the templates that others build on, and of the style and the script of all pages."""


def fill_template(path: Path, **values: Any) -> str:
    """Return a Jinja template filled with values, which are escaped for HTML."""
    environment = Environment(
        loader=FileSystemLoader([path.parent, FOLDER]), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style, script = (
        (FOLDER / name).read_text(encoding="utf-8") for name in ("style.css", "page.js")
    )
    return environment.get_template(path.name).render(style=style, script=script, **values)


def embed_file(path: Path) -> str:
    """Return a PNG file as a data URI, as JPEG if that is smaller, as it is for photographs."""
    png = data_uri("png", path.read_bytes())
    with Image.open(path) as image:
        return min(png, embed_jpeg(image, quality=QUALITY, subsampling=0), key=len)


def embed_jpeg(image: Image.Image, **options: Any) -> str:
    """Return a picture as the data URI of a JPEG, written with Pillow's options."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", optimize=True, **options)
    return data_uri("jpeg", buffer.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """Return a picture of this kind, such as png, as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
