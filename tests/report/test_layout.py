"""Boxes do not overlap, edges go from a block to a later one, long networks fold into columns."""

from __future__ import annotations

import re

import pytest

from genie_onnx.report.layout import BOX, PAGE, Drawing, layout


def blocks(*links: tuple[str, str]) -> list[dict[str, list[str]]]:
    """Blocks by (inputs, outputs), a letter a value."""
    return [{"inputs": list(inputs), "outputs": list(outputs)} for inputs, outputs in links]


def chain(length: int) -> list[dict[str, list[str]]]:
    return [{"inputs": [f"v{k}"], "outputs": [f"v{k + 1}"]} for k in range(length)]


def ends(path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """The first point of an SVG path and its last, where it ends in C or V."""
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", path)]
    last = re.search(r"H([\d.]+)V([\d.]+)$", path)
    return (numbers[0], numbers[1]), (float(last[1]), float(last[2])) if last else (numbers[-2], numbers[-1])


def overlapping(drawing: Drawing) -> list[tuple[int, int]]:
    width, height = BOX
    return [
        (a.index, b.index)
        for a in drawing.boxes
        for b in drawing.boxes
        if a.index < b.index and abs(a.x - b.x) < width and abs(a.y - b.y) < height
    ]


def test_branches_lie_side_by_side() -> None:
    drawing = layout(blocks(("x", "a"), ("a", "b"), ("a", "c"), ("bc", "d")))
    a, b, c, d = drawing.boxes
    assert a.y < b.y == c.y < d.y
    assert b.x + BOX[0] < c.x
    assert a.x == d.x == (b.x + c.x) / 2
    assert {(edge.source, edge.target, edge.value) for edge in drawing.edges} == {
        (0, 1, "a"),
        (0, 2, "a"),
        (1, 3, "b"),
        (2, 3, "c"),
    }


@pytest.mark.parametrize("length", [1, 5, 60])
def test_every_edge_joins_its_boxes(length: int) -> None:
    drawing = layout(chain(length))
    assert len(drawing.boxes) == length
    assert len(drawing.edges) == length - 1
    for edge in drawing.edges:
        source, target = drawing.boxes[edge.source], drawing.boxes[edge.target]
        assert ends(edge.path) == ((source.x + BOX[0] / 2, source.y + BOX[1]), (target.x + BOX[0] / 2, target.y))


def test_sixty_blocks_fit_on_a_screen() -> None:
    drawing = layout(chain(60))
    assert overlapping(drawing) == []
    assert drawing.width <= PAGE[0]
    assert drawing.height <= PAGE[1]
    assert all(box.x >= 0 and box.x + BOX[0] <= drawing.width for box in drawing.boxes)
    assert all(box.y >= 0 and box.y + BOX[1] <= drawing.height for box in drawing.boxes)
    order = sorted(drawing.boxes, key=lambda box: (box.x, box.y))
    assert [box.index for box in order] == list(range(60))


def test_a_long_edge_passes_beside_the_boxes() -> None:
    drawing = layout(blocks(("x", "a"), ("a", "b"), ("b", "c"), ("ca", "d")))
    (long,) = [edge for edge in drawing.edges if (edge.source, edge.target) == (0, 3)]
    passing = [tuple(map(float, point)) for point in re.findall(r"L(\S+?) ([\d.]+)", long.path)]
    assert len(passing) >= 2
    for box in drawing.boxes[1:3]:
        assert all(not box.x <= x <= box.x + BOX[0] for x, y in passing if box.y <= y - BOX[1] <= box.y)


def test_branches_that_do_not_cross_are_not_crossed() -> None:
    # two chains side by side: listed in turns, drawn straight
    drawing = layout(blocks(("x", "a"), ("a", "b"), ("a", "c"), ("c", "e"), ("b", "d"), ("ed", "f")))
    _, b, c, e, d, _ = drawing.boxes
    assert (b.x < c.x) == (d.x < e.x)


def test_short_networks_are_one_column() -> None:
    assert len({box.x for box in layout(chain(15)).boxes}) == 1
    assert len({box.x for box in layout(chain(16)).boxes}) == 2


def test_wide_networks_are_folded_less() -> None:
    fan = [("x", "a"), *(("a", chr(ord("b") + k)) for k in range(6))]
    drawing = layout(blocks(*fan, ("bcdefg", "h"), *((chr(ord("h") + k), chr(ord("i") + k)) for k in range(15))))
    assert overlapping(drawing) == []
    assert len({box.y for box in drawing.boxes}) == 18


def test_an_empty_network() -> None:
    assert layout([]).boxes == ()
