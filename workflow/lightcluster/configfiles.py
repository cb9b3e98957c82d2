"""Reading configuration files as Snakemake does, but rejecting what it would silently lose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lightcluster.config import put_over
from lightcluster.errors import ConfigError
from lightcluster.sections import show


def read_file(path: Path) -> dict[Any, Any]:
    """Return the settings in a YAML or JSON file.

    Raises
    ------
    ConfigError
        If the file cannot be read, contains no settings, or gives a key twice.
    """
    text = _read(path)
    try:
        is_json = _is_json(text)
        if problems := list(_json_mistakes(path, text) if is_json else _mistakes(path, text)):
            raise ConfigError("\n".join(problems))
        content = json.loads(text) if is_json else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else _not_yaml(path, error) from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    if not isinstance(content, Mapping):
        found = "nothing but comments" if content is None else show(content)
        raise ConfigError(f"{path}: must contain keys with values, found {found}")
    return dict(content)


def merge_files(paths: Sequence[Path]) -> dict[Any, Any]:
    """Return the merged settings of all files; later files override earlier ones.

    An empty section, for example one with only comments, changes nothing.

    Raises
    ------
    ConfigError
        As for `read_file`, about all files.
    """
    merged: dict[Any, Any] = {}
    problems: list[str] = []
    for path in paths:
        near = path.is_absolute() and path.is_relative_to(Path.cwd())  # Snakemake's are absolute
        try:
            content = read_file(path.relative_to(Path.cwd()) if near else path)
        except ConfigError as error:
            problems.append(str(error))
        else:
            merged = put_over(merged, content)
    if problems:
        raise ConfigError("\n".join(problems))
    return merged


def as_written(merged: Mapping[Any, Any], paths: Sequence[Path]) -> dict[Any, Any]:
    """Check the files that Snakemake has merged, and restore settings that it lost.

    Parameters
    ----------
    merged : mapping
        Files and ``--config`` as merged by Snakemake, which uses the last of duplicate keys and
        sets an empty section to None.
    paths : sequence of Path
        In the order of merging. Pipes and other special files are skipped, because they can be
        read only once.

    Returns
    -------
    dict
        `merged`, with the settings that an empty section of a later file removed.

    Raises
    ------
    ConfigError
        As for `read_file`.
    """
    return _keep_emptied(merged, merge_files([path for path in paths if path.is_file()]))


def check_arguments(arguments: Iterable[str]) -> None:
    """Reject duplicate options on Snakemake's command line, of which it ignores all but the last.

    Parameters
    ----------
    arguments : iterable of str
        Arguments of the command, such as ``sys.argv``.

    Raises
    ------
    ConfigError
        If ``--configfile`` or ``--config`` is given more than once, or if a value after
        ``--config`` has duplicate keys.
    """
    problems: list[str] = []
    options: list[str] = []
    given = ""
    for argument in arguments:
        option, sign, first = argument.partition("=")
        if argument.startswith("-"):
            given = _OPTIONS.get(option, "")
            options += [given] * bool(given)
            argument = first if sign else ""
        if given == "--config" and argument:
            key, _, value = argument.partition("=")
            with suppress(yaml.YAMLError, RecursionError):  # Snakemake takes it as text
                problems += _mistakes("--config", f"{key}: {value}", yaml.BaseLoader)
    for option in dict.fromkeys(options):
        if options.count(option) > 1:
            what = "files" if option == "--configfile" else "settings"
            problems.append(
                f"{option} is given more than once, and only the last one would be used; give all "
                f"{what} after a single {option}"
            )
    if problems:
        raise ConfigError("\n".join(problems))


_OPTIONS = {
    "--configfile": "--configfile",
    "--configfiles": "--configfile",
    "--config": "--config",
    "-C": "--config",
}


def _keep_emptied(merged: Mapping[Any, Any], of_files: Mapping[Any, Any]) -> dict[Any, Any]:
    kept = dict(merged)
    for key, value in kept.items():
        before = of_files.get(key)
        if isinstance(before, Mapping):
            if value is None:
                kept[key] = before
            elif isinstance(value, Mapping):
                kept[key] = _keep_emptied(value, before)
    return kept


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def _is_json(text: str) -> bool:
    """Return whether a file is JSON, in which tabs may be used for indentation."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _json_mistakes(path: Path, text: str) -> Iterator[str]:
    """Yield the mistakes in a JSON file, with line numbers if it is also valid YAML."""
    try:
        yield from list(_mistakes(path, text.replace("\t", " ")))
    except yaml.YAMLError:  # for example a long key, or one whose colon is in the next line
        repeated: list[str] = []
        json.loads(text, object_pairs_hook=lambda pairs: repeated.extend(_twice(pairs)))
        yield from (
            f"{path}: `{key}` is given twice in the same section; keep one of them"
            for key in dict.fromkeys(repeated)
        )


def _twice(pairs: list[tuple[str, Any]]) -> Iterator[str]:
    """Yield each duplicate key."""
    seen = set[str]()
    for key, _ in pairs:
        if key in seen:
            yield key
        seen.add(key)


def _mistakes(
    path: Path | str, text: str, kind: type[yaml.BaseLoader | yaml.SafeLoader] = yaml.SafeLoader
) -> Iterator[str]:
    """Yield a message for each duplicate key, and for each number that YAML reads as another.

    For example, ``010`` is read as 8, and ``1:30`` as 90.
    """
    loader = kind(text)
    try:
        root = loader.get_single_node()
        if root is not None:
            yield from _within(loader, root, path, "", (), set())
    finally:
        loader.dispose()


def _within(
    loader: yaml.BaseLoader | yaml.SafeLoader,
    node: yaml.Node,
    path: Path | str,
    place: str,
    above: tuple[yaml.Node, ...],
    seen: set[int],
) -> Iterator[str]:
    """Yield the mistakes in a node and all its descendants; aliased nodes are checked once."""
    line = node.start_mark.line + 1
    if any(node is other for other in above):
        raise ConfigError(f"{path}, line {line}: an anchor must not contain itself")
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        if disguise := _disguise(node, loader):
            yield f"{path}, line {line}: {f'{place} = ' * bool(place)}{disguise}"
        return
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _within(loader, item, path, place, (*above, node), seen)
        return
    lines: dict[Any, int] = {}
    for key, value in node.value:
        name = f"{place}.{key.value}" if place else str(key.value)
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            merges = key.tag == "tag:yaml.org,2002:merge"
            identity = _MERGE if merges else loader.construct_object(key)
            if identity in lines:
                yield (
                    f"{path}, line {line}: `{name}` is given twice (first in line "
                    f"{lines[identity]}); keep one of them"
                )
            lines.setdefault(identity, line)
        yield from _within(loader, value, path, name, (*above, node), seen)


_MERGE = object()
"""Stands for the key ``<<``, which cannot be constructed; to merge several nodes, give a list."""


def _disguise(node: yaml.ScalarNode, loader: yaml.BaseLoader | yaml.SafeLoader) -> str | None:
    """Return a message about a number that YAML reads differently than written; None otherwise."""
    text = str(node.value)
    if node.tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
        return None
    if ":" in text:
        return f"{text}: YAML reads this as {loader.construct_object(node)}, in base 60; " + (
            "write the number, or put the text in quotes"
        )
    if re.fullmatch(r"[-+]?0[0-7_]+", text) and loader.construct_object(node) != int(text):
        return f"{text}: YAML reads numbers that start with 0 in base 8, here as " + (
            f"{loader.construct_object(node)}; write the intended number without the 0"
        )
    return None


def _not_yaml(path: Path, error: Exception) -> ConfigError:
    """Return an error about the syntax of a file, with the line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if "integer string conversion" in problem:
        return ConfigError(f"{path}: contains a number with thousands of digits")
    if problem.startswith("found character '\\t'"):
        problem = "a tab; indent with spaces"
    where = f", line {mark.line + 1}" if mark is not None else ""
    return ConfigError(f"{path}{where}: is not YAML ({problem})")
