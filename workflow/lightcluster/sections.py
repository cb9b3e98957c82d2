"""Configuration sections, and error messages about invalid settings.

Messages describe what is allowed for a key from its declaration, so that all keys are explained in
the same way, without messages of libraries.
"""

from __future__ import annotations

import datetime
import difflib
import re
import reprlib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ErrorType

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
"""Name of a folder: without separators, leading dots and characters that are special to shells."""

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""A seed that numpy, torch and faiss accept."""

Share = Annotated[float, Field(ge=0, le=1)]

Spread = Annotated[float, Field(ge=0.001, le=1)]
"""A standard deviation of values in [0, 1], used as a divisor."""

Word = Annotated[str, StringConstraints(min_length=1, max_length=1000)]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")

A_NAME = "a name of at most 80 letters, digits, '_', '.' and '-' that starts with a letter or digit"

QUOTED = ", in quotes if it reads as a number, a date, or yes or no"
"""Added to the description of a name if the value was not text."""

LARGEST, SMALLEST = 10**9, 1e-12
"""Default limits of the absolute value of numbers other than 0; no useful setting exceeds them."""

_NOTHING = ("null", "Null", "NULL", "~")
"""YAML's spellings of null, which Snakemake's ``--config`` passes as text."""


class Section(BaseModel):
    """A group of settings; unknown keys are rejected, and values are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: Any) -> Any:
        """Accept YAML's spellings of null; reject booleans for numbers, and impossible paths."""
        kinds = set(_leaves(cls.model_fields[info.field_name].annotation))
        if type(None) in kinds and isinstance(value, str) and value in _NOTHING:
            return None
        given = value if isinstance(value, list | tuple) else [value]
        foreign = (bytes, bytearray) if bool in kinds else (bytes, bytearray, bool)
        switched = any(isinstance(item, foreign) for item in given)
        nowhere = Path in kinds and isinstance(value, str) and not _could_exist(value)
        if switched or nowhere or (isinstance(value, str) and "\0" in value):
            raise PydanticCustomError(_PLAIN, "")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _in_reach(cls, value: Any, info: Any) -> Any:
        """Reject extreme numbers if the declaration has no limit."""
        field = cls.model_fields[info.field_name]
        limits = _limits(field.metadata, field.annotation)
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, int | float):
                continue
            if abs(number) > LARGEST and not {"le", "lt"} & set(limits):
                raise PydanticCustomError("large", f"at most {LARGEST:,} is allowed")
            if 0 < abs(number) < SMALLEST:
                raise PydanticCustomError("small", f"at least {SMALLEST} is allowed")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _each_once(cls, value: Any, info: Any) -> Any:
        """Reject duplicate entries in lists of variable length, which are all used as sets."""
        if isinstance(value, tuple) and _item_of_list(cls.model_fields[info.field_name].annotation):
            for item in value:
                if value.count(item) > 1:
                    raise PydanticCustomError(
                        "repeated",
                        "{item} is given more than once",
                        {"item": show(item)},
                    )
        return value


def _could_exist(path: str) -> bool:
    """Return whether file systems can have this path."""
    parts = path.encode(errors="surrogateescape").split(b"/")
    return bool(path.strip()) and len(path) < 4096 and max(map(len, parts)) < 256


_PLAIN = "plain"
"""Type of an error that is explained only by what is allowed."""


def is_name(value: object) -> bool:
    """Return whether a value is a valid `Name`."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def section_of(field: Any) -> type[BaseModel] | None:
    """Return the model of a field that is a section; None for any other field."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name of every key of a model, and its pydantic field."""
    for name, field in model.model_fields.items():
        if inner := section_of(field):
            yield from walk(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def lookup(settings: BaseModel, key: str) -> Any:
    """Return the value of a dotted key, in JSON types."""
    *sections, name = key.split(".")
    for section in sections:
        settings = getattr(settings, section)
    return settings.model_dump(mode="json", include={name})[name]


def tidy(raw: Mapping[Any, Any], model: type[BaseModel]) -> dict[Any, Any]:
    """Return settings with ``{}`` for each empty section.

    Parameters
    ----------
    raw : mapping
        As read from YAML, where a section with only comments is None.
    model : type of Section
        The model of the settings.

    Returns
    -------
    dict
    """
    tidied = dict(raw)
    for name, field in model.model_fields.items():
        if (inner := section_of(field)) and name in tidied:
            value = {} if tidied[name] is None else tidied[name]
            tidied[name] = tidy(value, inner) if isinstance(value, Mapping) else value
    return tidied


def find_mistakes(raw: Mapping[Any, Any], model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return a message for every mistake in settings.

    Parameters
    ----------
    raw : mapping
        As read from YAML.
    model : type of Section
        The model of the settings.
    prefix : str
        Text before each key, such as ``runs.mine.``.

    Returns
    -------
    list of str
        Each with the key, the value found and what is allowed.
    """
    problems: list[str] = []
    sound = _known_keys(tidy(raw, model), model, model, "", prefix, problems)
    try:
        model.model_validate(sound)
    except ValidationError as error:
        return [*_explain(error, sound, model, prefix), *problems]
    return problems


def _known_keys(
    raw: Mapping[Any, Any],
    section: type[BaseModel],
    model: type[BaseModel],
    place: str,
    prefix: str,
    problems: list[str],
) -> dict[str, Any]:
    """Return the keys that the model has; add a message to `problems` for each other key."""
    sound: dict[str, Any] = {}
    for key, value in raw.items():
        field = section.model_fields.get(key) if isinstance(key, str) else None
        full = f"{place}{key}" if isinstance(key, str) else f"{place}{show(key)}"
        if field is None:
            hint = suggest(full, value, model) if isinstance(key, str) else "; keys must be text"
            problems.append(f"{prefix}{_short(full)}: unknown key{hint}")
        elif not (inner := section_of(field)):
            sound[key] = value
        elif isinstance(value, Mapping):
            sound[key] = _known_keys(value, inner, model, f"{full}.", prefix, problems)
        else:
            example = next(iter(inner.model_fields))
            problems.append(
                f"{prefix}{full} = {show(value)}: must be a group of keys with their values, such "
                f"as `{full.rpartition('.')[2]}: {{{example}: …}}`"
            )
    return sound


def suggest(key: str, value: object, model: type[BaseModel]) -> str:
    """Return a hint for an unknown key: how to nest it, the most similar key, or all keys."""
    known = [name for name, _ in walk(model)] + list(model.model_fields)
    section, _, last = key.rpartition(".")
    if key in known:  # a dotted name instead of a key in its section
        return f"; write it in its section, as {_nested(key, value)}"
    if near := _nearest(section, last, known):
        return f"; did you mean {near}?"
    here = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == section]
    return f"; allowed here: {', '.join(dict.fromkeys(here))}" if here else ""


def _nearest(section: str, last: str, known: list[str]) -> str | None:
    """Return the most similar known key, if there is one."""
    siblings = {
        name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section
    }
    everywhere = {name.rpartition(".")[2]: name for name in known}
    if last in everywhere:
        return everywhere[last]
    for names in (siblings, everywhere):
        if near := difflib.get_close_matches(last, names, n=1, cutoff=0.6):
            return names[near[0]]
    return None


def _nested(key: str, value: object) -> str:
    """Return a dotted key and its value as nested YAML."""
    text = show_yaml(value)
    for part in reversed(key.split(".")):
        text = f"{{{part}: {text}}}"
    return f"`{text[1:-1]}`"


def _explain(
    error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel], prefix: str
) -> list[str]:
    """Return a message for each invalid key: its name, the value found and what is allowed."""
    built_in = {*typing.get_args(ErrorType), "path_type", _PLAIN}
    reasons: dict[str, list[str]] = {}
    culprits: dict[str, list[object]] = {}
    absent = set[str]()
    for item in error.errors():
        key, rest = _split_location(item["loc"], model)
        reasons.setdefault(key, [])
        if item["type"] == "missing":
            absent.add(key)
        elif item["type"] == "value_error":
            reasons[key].append(str(item["ctx"]["error"]))
        elif item["type"] not in built_in:
            reasons[key].append(item["msg"])
        elif any(isinstance(part, int) for part in rest):
            culprits.setdefault(key, []).append(item["input"])
    lines = []
    fields = dict(walk(model))
    for key, own in reasons.items():
        found = _look_up(raw, key)
        if key not in fields:  # of a section as a whole
            lines += [f"{prefix}{key}: {reason}" for reason in own or ["is missing"]]
            continue
        if key in absent and found is None:
            lines.append(f"{prefix}{key}: is missing; it must be {allowed(fields[key])}")
            continue
        if own:
            lines.append(f"{prefix}{key} = {show(found)}: {' and '.join(dict.fromkeys(own))}")
            continue
        wrong = dict.fromkeys(show(item) for item in culprits.get(key, []))
        within = f"{' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not allowed; " * bool(
            wrong
        )
        empty = ", or left out for its default" if found is None else ""
        if _takes_names(fields[key]) and found is not None and not isinstance(found, str):
            empty = QUOTED
        lines.append(
            f"{prefix}{key} = {show(found)}: {within}must be {allowed(fields[key])}{empty}"
        )
    return lines


def _split_location(
    location: tuple[int | str, ...], model: type[BaseModel]
) -> tuple[str, tuple[int | str, ...]]:
    """Return the dotted key of a pydantic location, and the location within its value."""
    section, names = model, list[str]()
    for depth, part in enumerate(location):
        field = section.model_fields.get(str(part))
        if field is None:
            return ".".join(names), location[depth:]
        names.append(str(part))
        inner = section_of(field)
        if inner is None:
            return ".".join(names), location[depth + 1 :]
        section = inner
    return ".".join(names), ()


def _look_up(raw: Any, key: str) -> Any:
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, Mapping) else None
    return raw


# ---- what is allowed, in words ---------------------------------------------------------------


def allowed(field: Any) -> str:
    """Return a description of the values that a key allows, from its declaration."""
    text = _in_words(field.annotation, field.metadata)
    if isinstance(field.default, tuple) and field.default:
        text += f", such as {show_yaml(list(field.default))}"
    return text


def _in_words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    limits = _limits(metadata)
    if origin is Annotated:
        return _in_words(arguments[0], [*metadata, *arguments[1:]])
    if origin is Literal:
        return _either(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        kinds = sorted(arguments, key=lambda kind: kind is type(None))
        return _either(_in_words(kind, metadata) for kind in kinds)
    if item := _item_of_list(annotation):
        return f"a list of one or more {_plural(_in_words(item))}"
    if origin is tuple:
        return f"a list of {len(arguments)} {_plural(_in_words(arguments[0]))}"
    if origin is dict:
        return "a group of names with their values"
    if annotation in (int, float):
        number = "a whole number" if annotation is int else "a number"
        return f"{number}{_range(limits)}"
    if annotation is str:
        return A_NAME if "pattern" in limits else "text (in quotes if it reads as a number)"
    return _WORDS.get(annotation, "of another kind")


_WORDS: dict[Any, str] = {bool: "true or false", Path: "a path", type(None): "none"}


def _plural(words: str) -> str:
    """Return the plural of a description, for the entries of a list."""
    singular = re.fullmatch(r"an? ((?:whole )?number|path)(.*)", words)
    return f"{singular[1]}s{singular[2]}" if singular else f"of {' and '.join(words.split(' or '))}"


def _either(parts: Iterable[str]) -> str:
    *others, last = parts
    return f"{', '.join(others)} or {last}" if others else last


def _range(limits: Mapping[str, Any]) -> str:
    """Return a description of the limits of a number."""
    if "ge" in limits and "le" in limits:
        return f" from {limits['ge']} to {limits['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    parts = [f"{word} {limits[sign]}" for sign, word in words.items() if sign in limits]
    return f" {' and '.join(parts)}" if parts else ""


def _limits(metadata: Iterable[Any], annotation: Any = None) -> dict[str, Any]:
    """Return the limits in the metadata and the annotation of a field."""
    found: dict[str, Any] = {}
    for limit in metadata:
        found |= _limits(limit.metadata) if hasattr(limit, "metadata") else {}
        for name in ("ge", "gt", "le", "lt", "min_length", "pattern"):
            if getattr(limit, name, None) is not None:
                found[name] = getattr(limit, name)
    if typing.get_origin(annotation) is Annotated:
        inner, *more = typing.get_args(annotation)
        return found | _limits(more, inner)
    for part in typing.get_args(annotation):
        found |= _limits((), part)
    return found


def _takes_names(field: Any) -> bool:
    """Return whether a field is a `Name`."""
    return str in _leaves(field.annotation) and "pattern" in _limits(
        field.metadata, field.annotation
    )


def _item_of_list(annotation: Any) -> Any:
    """Return the item type of a list of variable length; None for any other type."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and len(arguments) == 2 and arguments[1] is ...:
        return arguments[0]
    return None


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the plain types that a value or a list entry may have."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from _leaves(arguments[0])
    elif origin is Literal:
        yield from map(type, arguments)
    elif origin is not None:
        for part in arguments:
            yield from _leaves(part)
    else:
        yield annotation


# ---- values as they are shown ----------------------------------------------------------------

_repr = reprlib.Repr()
_repr.maxstring, _repr.maxother, _repr.maxlong = 100, 100, 40
_repr.maxlist, _repr.maxdict, _repr.maxlevel = 8, 4, 3


def show(value: object) -> str:
    """Return a value as one short line, with YAML's words for booleans and null."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, datetime.date):  # YAML parses 2026-01-31 as a date
        return str(value)
    text = _repr.repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 120 else f"{text[:120]}…"


def show_yaml(value: object) -> str:
    """Return a value as one short line of YAML."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    except yaml.YAMLError:
        return show(value)
    text = re.sub(r"\n\.\.\.\n$", "", text).strip()
    return text if len(text) <= 60 and "\n" not in text else "…"


def _short(key: str) -> str:
    """Return any key in a short, printable form."""
    shown = key if key.isprintable() and key.strip() == key != "" else repr(key)
    return shown if len(shown) <= 120 else f"{shown[:120]}…"


def shorten(names: Sequence[str], most: int = 5) -> str:
    """Return names of any number, length and content as one line."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*map(_short, names[:most]), *more])
