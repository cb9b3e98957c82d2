"""The settings of one run, and functions for keys as dotted names."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, model_validator

from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.evaluation.settings import ComparisonSettings, EvaluationSettings
from lightcluster.extraction.backbones.registry import DEFAULT, declaration_of
from lightcluster.methods.registry import METHODS, FitSettings, MethodSections
from lightcluster.reporting.settings import ReportSettings
from lightcluster.sections import lookup, walk

__all__ = [
    "Config",
    "FitSettings",
    "describe_type",
    "lookup",
    "nest",
    "put_over",
    "walk_keys",
]


class Config(MethodSections):
    """All settings of one run."""

    evaluation: EvaluationSettings = EvaluationSettings()
    comparison: ComparisonSettings = ComparisonSettings()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow_choices(cls, raw: Any) -> Any:
        """Add the defaults that depend on the method, the dataset's format and the backbone."""
        if not isinstance(raw, Mapping):
            return raw
        dataset = raw.get("dataset")
        if isinstance(dataset, Mapping) and (form := FORMATS.get(str(dataset.get("format")))):
            raw = put_over(form.follow(dataset), raw)
        backbone = raw.get("backbone", {})
        model = backbone.get("model", DEFAULT.name) if isinstance(backbone, Mapping) else None
        for method in METHODS.values():
            raw = put_over(method.defaults(raw, model == DEFAULT.name), raw)
        return put_over(declaration_of(model).defaults, raw) if isinstance(model, str) else raw


def put_over(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base`, updated recursively by `overrides`.

    None instead of a section, as in YAML if all its lines are comments, changes nothing.

    Parameters
    ----------
    base, overrides : mapping
        Nested sections.

    Returns
    -------
    dict
    """
    result = dict(base)
    for key, value in overrides.items():
        old = result.get(key)
        if not isinstance(old, Mapping):
            result[key] = value
        elif value is not None:
            result[key] = put_over(old, value) if isinstance(value, Mapping) else value
    return result


def walk_keys(
    model: type[BaseModel] = Config, prefix: str = ""
) -> Iterator[tuple[str, typing.Any]]:
    """Yield the dotted name of every configuration key and its pydantic field."""
    return walk(model, prefix)


def describe_type(annotation: object) -> str:
    """Return the type of a field as text for `config/README.md`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin is Annotated:
        return describe_type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " \\| ".join(describe_type(part) for part in arguments)
    if origin is tuple:
        item = describe_type(arguments[0])
        items = {"integer": "integers", "number": "numbers"}.get(item, item)
        return f"list of {items}" if Ellipsis in arguments else f"{len(arguments)} {items}"
    names = {int: "integer", float: "number", str: "text", bool: "true/false", Path: "path"}
    return "none" if annotation is type(None) else names[annotation]  # type: ignore[index]


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values by dotted key to nested sections."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested
