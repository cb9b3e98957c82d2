"""Pages that refer to no other file: templates filled in, pictures as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from PIL import Image


def fill_template(path: Path, **values: Any) -> str:
    """Return a Jinja template filled with values, which are escaped for HTML."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(path.read_text(encoding="utf-8")).render(**values)


def embed_png(path: Path) -> str:
    """Return a PNG file as a data URI."""
    return _data_uri("png", path.read_bytes())


def embed_jpeg(image: Image.Image, **options: Any) -> str:
    """Return a picture as the data URI of a JPEG, written with Pillow's options."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", optimize=True, **options)
    return _data_uri("jpeg", buffer.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
