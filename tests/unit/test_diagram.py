"""Drawings of graphs: arrows lead down, boxes are apart, and redundant arrows are left out."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightcluster.diagram import BELOW, HEIGHT, WIDTH, draw, lay_out, reduce_graph


@st.composite
def graphs(draw_from) -> dict[str, list[str]]:
    names = [f"n{number}" for number in range(draw_from(st.integers(1, 12)))]
    return {
        name: draw_from(st.lists(st.sampled_from(names[:number]), unique=True)) if number else []
        for number, name in enumerate(names)
    }


def ancestors(after: dict[str, list[str]], node: str) -> set[str]:
    return set(after[node]).union(*(ancestors(after, other) for other in after[node]))


def test_an_arrow_that_follows_from_others_is_left_out():
    assert reduce_graph({"a": [], "b": ["a"], "c": ["a", "b"]}) == {"a": [], "b": ["a"], "c": ["b"]}


@given(graphs())
def test_what_depends_on_what_stays_the_same(after):
    reduced = reduce_graph(after)
    for node in after:
        assert ancestors(reduced, node) == ancestors(after, node)
        for other in reduced[node]:
            rest = {**reduced, node: [one for one in reduced[node] if one != other]}
            assert other not in ancestors(rest, node)


@given(graphs())
def test_arrows_lead_down_and_boxes_are_apart(after):
    diagram = lay_out(after)
    width, height = diagram.size
    for (above, below), points in diagram.lines.items():
        assert points[0] == diagram.boxes[above]
        assert points[-1] == diagram.boxes[below]
        steps = [b[1] - a[1] for a, b in pairwise(points)]
        assert steps == [HEIGHT + BELOW] * len(steps)
    for (x, y), (other_x, other_y) in combinations(diagram.boxes.values(), 2):
        assert abs(x - other_x) > WIDTH or abs(y - other_y) > HEIGHT
    for x, y in diagram.boxes.values():
        assert WIDTH / 2 < x < width - WIDTH / 2
        assert HEIGHT / 2 < y < height - HEIGHT / 2


def test_a_line_passes_beside_boxes():
    diagram = lay_out({"a": [], "b": ["a"], "c": ["b"], "d": ["a", "c"]})
    passed = diagram.lines["a", "d"][1:-1]
    assert len(passed) == 2
    for x, y in passed:
        for box_x, box_y in diagram.boxes.values():
            assert y != box_y or abs(x - box_x) > WIDTH / 2


def test_few_lines_cross():
    after = {"a": [], "b": [], "c": ["b"], "d": ["a"]}  # as given they do
    diagram = lay_out(after)
    assert (diagram.boxes["a"][0] < diagram.boxes["b"][0]) == (
        diagram.boxes["d"][0] < diagram.boxes["c"][0]
    )


def test_the_drawing_is_xml_that_names_every_node():
    svg = draw({"a<b": [], "c": ["a<b"]}, "a & b", {"a<b": "#fff", "c": "#000"}, {"#fff": "white"})
    root = ET.fromstring(svg)
    name = "{http://www.w3.org/2000/svg}"
    assert [text.text for text in root.iter(f"{name}text")] == ["a<b", "c", "white"]
    assert root.find(f"{name}title").text == "a & b"


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        reduce_graph({"a": ["b"], "b": ["a"]})
