"""Files of settings: read as Snakemake reads them, and refused where it would lose something."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lightcluster.config import put_over
from lightcluster.errors import ConfigError
from lightcluster.sections import show


def read_file(path: Path) -> dict[Any, Any]:
    """Return the settings of a YAML or JSON file.

    Raises
    ------
    ConfigError
        If it cannot be read, holds no settings, or gives a key twice.
    """
    text = _read(path)
    try:
        is_json = _is_json(text)
        if problems := list(_repeated_keys(path, text.replace("\t", " ") if is_json else text)):
            raise ConfigError("\n".join(problems))
        content = json.loads(text) if is_json else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else _not_yaml(path, error) from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    if not isinstance(content, Mapping):
        found = "nothing but comments" if content is None else show(content)
        raise ConfigError(f"{path}: must hold keys with their values, found {found}")
    return dict(content)


def merge_files(paths: Sequence[Path]) -> dict[Any, Any]:
    """Return the settings of all files, each put over those before it.

    A section that is empty, as where each of its lines is a comment, changes nothing.

    Raises
    ------
    ConfigError
        As `read_file`.
    """
    merged: dict[Any, Any] = {}
    for path in paths:
        near = path.is_absolute() and path.is_relative_to(Path.cwd())  # Snakemake has them absolute
        merged = put_over(merged, read_file(path.relative_to(Path.cwd()) if near else path))
    return merged


def as_written(merged: Mapping[Any, Any], paths: Sequence[Path]) -> dict[Any, Any]:
    """Return Snakemake's settings after another look at the files that they are from.

    Parameters
    ----------
    merged : mapping
        As Snakemake merged the files and ``--config``: of a key given twice it has seen the second
        alone, and a section without settings is None.
    paths : sequence of Path
        In the order in which they were put over each other. What is no plain file, such as a pipe,
        is read but once and left alone.

    Returns
    -------
    dict
        With the settings that an empty section of a later file took away.

    Raises
    ------
    ConfigError
        As `read_file`.
    """
    return _keep_emptied(merged, merge_files([path for path in paths if path.is_file()]))


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
        raise ConfigError(f"{path}: is no text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def _is_json(text: str) -> bool:
    """Tell whether a file is JSON, in which tabs may indent, but in no text stand as such."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _repeated_keys(path: Path, text: str) -> Iterator[str]:
    """Yield a line for each key that stands twice in the same place of a file."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is not None:
            yield from _repeated(loader, root, path, "", (), set())
    finally:
        loader.dispose()


def _repeated(
    loader: yaml.SafeLoader,
    node: yaml.Node,
    path: Path,
    place: str,
    above: tuple[yaml.Node, ...],
    seen: set[int],
) -> Iterator[str]:
    """Yield those of a node and of all below it; what an anchor names is looked at once."""
    if any(node is other for other in above):
        raise ConfigError(
            f"{path}, line {node.start_mark.line + 1}: an anchor must not contain itself"
        )
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(loader, item, path, place, (*above, node), seen)
        return
    lines: dict[Any, int] = {}
    for key, value in node.value:
        name = f"{place}.{key.value}" if place else str(key.value)
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            identity = loader.construct_object(key)
            if identity in lines:
                yield (
                    f"{path}, line {line}: `{name}` is given again (first in line "
                    f"{lines[identity]}); keep one of the two"
                )
            lines.setdefault(identity, line)
        yield from _repeated(loader, value, path, name, (*above, node), seen)


def _not_yaml(path: Path, error: Exception) -> ConfigError:
    """Return what is wrong with the syntax of a file, with the line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if problem.startswith("found character '\\t'"):
        problem = "a tab; indent with spaces"
    where = f", line {mark.line + 1}" if mark is not None else ""
    return ConfigError(f"{path}{where}: is not YAML ({problem})")
