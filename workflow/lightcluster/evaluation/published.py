"""Published figures of other systems, to stand beside measured ones: ``resources/published.csv``.

They are quoted, not measured here. What is not known of a figure is empty: its backbone, its
source, the protocol it was measured by, or what it owes to labels and to training (``hygiene``).
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lightcluster.errors import StoreError
from lightcluster.evaluation.settings import BenchmarkName
from lightcluster.paths import require_file

PUBLISHED = Path(__file__).parents[1].joinpath("resources").resolve() / "published.csv"

Hygiene = Literal["training-free", "not training-free", "supervised saliency", "label leak"]
"""Allowed caveats of a published figure; in the file, several are joined by ``; ``."""


class PublishedFigure(BaseModel):
    """One figure of another system.

    Attributes
    ----------
    system : str
    variant : str
        Which of the system's figures, where there are several.
    backbone : str
    dataset : BenchmarkName
    images : str
        Which split or list of it.
    protocol : {"maskcontrast", "stego", "coco_things", ""}
    metric : {"miou", "pixel_accuracy"}
    value : float
        Per cent.
    sd : float or None
        Standard deviation, where it was published.
    source : str
    hygiene : tuple of Hygiene
        Empty where it is not known, which is no praise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str = Field(min_length=1)
    variant: str
    backbone: str
    dataset: BenchmarkName
    images: str
    protocol: Literal["maskcontrast", "stego", "coco_things", ""]
    metric: Literal["miou", "pixel_accuracy"]
    value: float = Field(gt=0, le=100)
    sd: float | None = Field(ge=0, le=100)
    source: str
    hygiene: tuple[Hygiene, ...]

    @field_validator("sd", mode="before")
    @classmethod
    def _empty_is_none(cls, text: Any) -> Any:
        return None if text == "" else text

    @field_validator("hygiene", mode="before")
    @classmethod
    def _split(cls, text: Any) -> Any:
        return tuple(text.split("; ")) if text else ()

    @property
    def name(self) -> str:
        """The system with what distinguishes its figures."""
        details = ", ".join(filter(None, [self.backbone, self.variant]))
        return f"{self.system} ({details})" if details else self.system


def read_published(dataset: str, path: Path = PUBLISHED) -> list[PublishedFigure]:
    """Return the published figures of a benchmark.

    Parameters
    ----------
    dataset : str
        A `config.BenchmarkName`; for ``none`` there are none.
    path : Path

    Returns
    -------
    list of PublishedFigure
        In the order of the file.

    Raises
    ------
    StoreError
        If the file cannot be read, or a line of it is not valid or stands twice.
    """
    figures: list[PublishedFigure] = []
    seen: set[tuple[str, ...]] = set()
    try:
        with require_file(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for line in reader:
                figure = PublishedFigure.model_validate(line)
                key = (figure.name, figure.dataset, figure.protocol, figure.metric)
                if key in seen:
                    raise ValueError(f"{figure.name} stands twice")
                seen.add(key)
                figures.append(figure)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StoreError(
            f"{path}, line {reader.line_num}: {place} = {first['input']!r}: {first['msg']}"
        ) from None
    except (OSError, ValueError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be used ({error})") from None
    return [figure for figure in figures if figure.dataset == dataset]
