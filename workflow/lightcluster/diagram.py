"""Drawing of a directed acyclic graph as SVG, with each node below those that it depends on.

The layout follows Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical
system structures" (1981).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from html import escape
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression

WIDTH, HEIGHT = 168, 34
"""Size of a box in pixels."""

BETWEEN, BELOW = 22, 44
"""Gaps between neighbouring boxes, and between layers, in pixels."""

LINE = 26
"""Width that a line takes in a layer which it crosses."""

SWEEPS = 40
Edge = tuple[str, str]


@dataclass(frozen=True)
class Diagram:
    """Positions of boxes and lines.

    Attributes
    ----------
    boxes : dict of str to (float, float)
        Centre of the box of each node, in pixels.
    lines : dict of (str, str) to list of (float, float)
        Points of the line from one node to another, including the ends.
    size : (float, float)
        Width and height of the drawing.
    """

    boxes: dict[str, tuple[float, float]]
    lines: dict[Edge, list[tuple[float, float]]]
    size: tuple[float, float]


def reduce_graph(after: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the transitive reduction of a graph, without edges that follow from others.

    Parameters
    ----------
    after : mapping of str to sequence of str
        The nodes on which each node depends.

    Returns
    -------
    dict of str to list of str

    Raises
    ------
    CycleError
        If the graph has a cycle.
    """
    above: dict[str, set[str]] = {}
    for node in TopologicalSorter(after).static_order():
        above[node] = set(after[node]).union(*(above[other] for other in after[node]))
    return {
        node: [other for other in dict.fromkeys(needed)
               if not any(other in above[third] for third in needed)]
        for node, needed in after.items()
    }  # fmt: skip


def lay_out(after: Mapping[str, Sequence[str]]) -> Diagram:
    """Compute the layout of a graph, deterministically.

    Parameters
    ----------
    after : mapping of str to sequence of str
        The nodes on which each node depends.

    Returns
    -------
    Diagram
    """
    layer = _layers(after)
    rows: list[list[str]] = [[] for _ in range(max(layer.values()) + 1)]
    for node, number in layer.items():
        rows[number].append(node)
    chains: dict[Edge, list[str]] = {}
    for node, needed in after.items():
        for other in needed:
            passed = [f"{other}>{node}>{at}" for at in range(layer[other] + 1, layer[node])]
            for at, name in enumerate(passed, layer[other] + 1):
                rows[at].append(name)
            chains[other, node] = [other, *passed, node]
    edges = [edge for chain in chains.values() for edge in pairwise(chain)]
    rows = _order(rows, edges)
    x = _places(rows, edges, set(after))
    half = {name: WIDTH / 2 if name in after else 0 for name in x}
    left = min(x[name] - half[name] for name in x) - BETWEEN
    right = max(x[name] + half[name] for name in x) + BETWEEN
    point = {
        name: (round(x[name] - left), round(BELOW / 2 + HEIGHT / 2 + number * (HEIGHT + BELOW)))
        for number, row in enumerate(rows)
        for name in row
    }
    return Diagram(
        {node: point[node] for node in after},
        {edge: [point[name] for name in chain] for edge, chain in chains.items()},
        (round(right - left), len(rows) * (HEIGHT + BELOW)),
    )


def _layers(after: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the layer of each node, below all its dependencies; sources are as low as possible."""
    layer: dict[str, int] = {}
    for node in TopologicalSorter(after).static_order():
        layer[node] = 1 + max((layer[other] for other in after[node]), default=-1)
    for node in after:
        below = [layer[other] for other, needed in after.items() if node in needed]
        if not after[node] and below:
            layer[node] = min(below) - 1
    return {node: layer[node] for node in after}


def _order(rows: list[list[str]], edges: Sequence[Edge]) -> list[list[str]]:
    """Order each row by the positions of the neighbours, to reduce crossings."""
    up, down = _neighbours(edges)
    best, fewest = rows, _crossings(rows, down)
    for sweep in range(SWEEPS):
        rows = [list(row) for row in rows]
        numbers = range(1, len(rows)) if sweep % 2 == 0 else range(len(rows) - 2, -1, -1)
        for number in numbers:
            near = up if sweep % 2 == 0 else down
            beside = rows[number - 1 if sweep % 2 == 0 else number + 1]
            place = {name: at for at, name in enumerate(beside)}
            now = {name: at for at, name in enumerate(rows[number])}
            scale = max(len(beside) - 1, 1) / max(len(now) - 1, 1)

            def mean(
                name: str,
                near: Mapping[str, list[str]] = near,
                place: Mapping[str, int] = place,
                now: Mapping[str, int] = now,
                scale: float = scale,
            ) -> float:
                places = [place[other] for other in near.get(name, ())]
                return sum(places) / len(places) if places else now[name] * scale

            rows[number].sort(key=mean)
        crossings = _crossings(rows, down)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _neighbours(edges: Sequence[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    up: dict[str, list[str]] = {}
    down: dict[str, list[str]] = {}
    for above, below in edges:
        up.setdefault(below, []).append(above)
        down.setdefault(above, []).append(below)
    return up, down


def _crossings(rows: Sequence[Sequence[str]], down: Mapping[str, Sequence[str]]) -> int:
    count = 0
    for row, following in pairwise(rows):
        place = {name: at for at, name in enumerate(following)}
        ends = [(at, place[to]) for at, name in enumerate(row) for to in down.get(name, ())]
        count += sum((a - c) * (b - d) < 0 for at, (a, b) in enumerate(ends) for c, d in ends[:at])
    return count


def _places(
    rows: Sequence[Sequence[str]], edges: Sequence[Edge], boxes: set[str]
) -> dict[str, float]:
    """Return horizontal positions that are close to the neighbours, without overlapping boxes."""
    up, down = _neighbours(edges)
    offsets = [
        np.cumsum([0.0, *((_room(a, boxes) + _room(b, boxes)) / 2 for a, b in pairwise(row))])
        for row in rows
    ]
    x = {
        name: float(at - offset[-1] / 2)
        for row, offset in zip(rows, offsets, strict=True)
        for name, at in zip(row, offset, strict=True)
    }
    ordered = list(zip(rows, offsets, strict=True))
    for sweep in range(SWEEPS):
        downwards, last = sweep % 2 == 0, sweep >= SWEEPS - 4
        for row, offset in ordered if downwards else reversed(ordered):
            wanted = []
            for name in row:
                near = [*up.get(name, ()) * (downwards or last),
                        *down.get(name, ()) * (last or not downwards)]  # fmt: skip
                wanted.append(float(np.mean([x[other] for other in near])) if near else x[name])
            weights = [1.0 if name in boxes else 3.0 for name in row]  # to straighten lines
            placed = isotonic_regression(np.array(wanted) - offset, weights=weights).x + offset
            x.update(zip(row, map(float, placed), strict=True))
    return x


def _room(name: str, boxes: set[str]) -> float:
    return WIDTH + BETWEEN if name in boxes else LINE


def draw(
    after: Mapping[str, Sequence[str]],
    title: str,
    colors: Mapping[str, str],
    legend: Mapping[str, str],
) -> str:
    """Return a drawing of a graph as SVG.

    Parameters
    ----------
    after : mapping of str to sequence of str
        The nodes on which each node depends.
    title : str
        Description for screen readers.
    colors : mapping of str to str
        Colour of each node's box.
    legend : mapping of str to str
        Meaning of each colour.

    Returns
    -------
    str
    """
    diagram = lay_out(after)
    return "\n".join(_svg(diagram, title, colors, legend)) + "\n"


def _svg(
    diagram: Diagram, title: str, colors: Mapping[str, str], legend: Mapping[str, str]
) -> Iterator[str]:
    width, height = diagram.size
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + HEIGHT}" '
        f'width="{width}" height="{height + HEIGHT}" role="img" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">'
    )
    yield f"<title>{escape(title)}</title>"
    yield '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>'
    yield (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0.5 8 4 0 7.5z" fill="#78909c"/></marker>'
    )
    for points in diagram.lines.values():
        path = "".join(_path(points))
        yield f'<path d="{path}" fill="none" stroke="#78909c" marker-end="url(#head)"/>'
    for name, (x, y) in diagram.boxes.items():
        yield (
            f'<rect x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" '
            f'rx="6" fill="{colors[name]}" stroke="#455a64"/>'
        )
        yield (
            f'<text x="{x}" y="{y + 4}" text-anchor="middle" fill="#102027">{escape(name)}</text>'
        )
    at = BETWEEN
    for color, meaning in legend.items():
        yield (
            f'<rect x="{at}" y="{height + 4}" width="16" height="16" rx="3" fill="{color}" '
            'stroke="#455a64"/>'
        )
        yield f'<text x="{at + 22}" y="{height + 16}" fill="#102027">{escape(meaning)}</text>'
        at += 22 + 8 * len(meaning) + BETWEEN
    yield "</svg>"


def _path(points: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Yield the commands of a line from the bottom of one box to the top of another."""
    x, y = points[0][0], points[0][1] + HEIGHT // 2
    yield f"M{x} {y}"
    for number, (next_x, center) in enumerate(points[1:], 1):
        last = number == len(points) - 1
        top = center - HEIGHT // 2
        half = (y + top) // 2
        yield f"C{x} {half} {next_x} {half} {next_x} {top}"
        if not last:
            yield f"V{center + HEIGHT // 2}"
        x, y = next_x, center + HEIGHT // 2
