"""Blocks as a drawing: layers from top to bottom, folded into columns where there are many.

A block's layer is the longest way to it from the input. An edge that passes layers gets a place in each of them, so that every
piece of an edge joins neighbouring layers and no box is crossed. Within a layer, places are ordered by the mean position of
what they are fed by (K. Sugiyama, S. Tagawa, M. Toda: Methods for visual understanding of hierarchical system structures, 1981).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOX = (178, 46)  # width and height of a block, pixels
LANE = 18  # width of an edge that passes a layer
ACROSS, DOWN = 14, 24  # between places of a layer, between layers
PAGE = (1036, 1064)  # width and height that there is room for
GUTTER = 40  # between columns
MARGIN = 8


@dataclass(frozen=True)
class Box:
    """Where block `index` is: its upper left corner."""

    index: int
    x: float
    y: float


@dataclass(frozen=True)
class Edge:
    """A value from one block to another: an SVG path."""

    path: str
    value: str
    source: int
    target: int


@dataclass(frozen=True)
class Drawing:
    """Everything in pixels of a picture of this size."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class _Place:
    """Something in a layer: a block, or an edge that passes."""

    block: int | None
    edge: int | None = None

    @property
    def width(self) -> float:
        return LANE if self.block is None else BOX[0]


def layout(blocks: Sequence[Mapping[str, Sequence[str]]]) -> Drawing:
    """Return the drawing of `blocks`, in topological order, each with the names of its `inputs` and `outputs`."""
    links = _links(blocks)
    layer_of = _layers(len(blocks), links)
    rows = [[_Place(k) for k, at in enumerate(layer_of) if at == layer] for layer in range(max(layer_of, default=-1) + 1)]
    chains = []
    for number, (source, target, _) in enumerate(links):
        passing = [_Place(None, number) for _ in range(layer_of[source] + 1, layer_of[target])]
        for row, place in zip(rows[layer_of[source] + 1 :], passing, strict=False):
            row.append(place)
        chains.append([_Place(source), *passing, _Place(target)])
    _order(rows, chains, layer_of, links)
    corners, gutters, size = _coordinates(rows)
    edges = []
    for (source, target, value), chain in zip(links, chains, strict=True):
        layers = range(layer_of[source], layer_of[target] + 1)
        middles = [(corners[at][0] + at[1].width / 2, corners[at][1]) for at in zip(layers, chain, strict=True)]
        pieces = [_piece(a, b, gutters[layer]) for layer, a, b in zip(layers[1:], middles, middles[1:], strict=False)]
        edges.append(Edge(f"M{middles[0][0]:g} {middles[0][1] + BOX[1]:g}" + "".join(pieces), value, source, target))
    boxes = tuple(Box(k, *corners[layer_of[k], _Place(k)]) for k in range(len(blocks)))
    return Drawing(*size, boxes, tuple(edges))


def _links(blocks: Sequence[Mapping[str, Sequence[str]]]) -> list[tuple[int, int, str]]:
    """Return (from, to, value) once for each pair of blocks; what is no block's output is the network's input."""
    maker = {value: k for k, block in enumerate(blocks) for value in block["outputs"]}
    found: dict[tuple[int, int], str] = {}
    for target, block in enumerate(blocks):
        for value in block["inputs"]:
            if value in maker:
                found.setdefault((maker[value], target), value)
    return [(source, target, value) for (source, target), value in found.items()]


def _layers(count: int, links: Sequence[tuple[int, int, str]]) -> list[int]:
    layer_of = [0] * count
    for source, target, _ in sorted(links, key=lambda link: link[1]):
        layer_of[target] = max(layer_of[target], layer_of[source] + 1)
    return layer_of


def _order(
    rows: list[list[_Place]],
    chains: Sequence[Sequence[_Place]],
    layer_of: Sequence[int],
    links: Sequence[tuple[int, int, str]],
) -> None:
    """Sort every layer by the mean position of what its places are fed by, from top to bottom."""
    feeds: dict[tuple[int, _Place], list[_Place]] = {}
    for (source, *_), chain in zip(links, chains, strict=True):
        for k, place in enumerate(chain[1:]):
            feeds.setdefault((layer_of[source] + 1 + k, place), []).append(chain[k])
    for layer in range(1, len(rows)):
        above = {place: position for position, place in enumerate(rows[layer - 1])}

        def mean(place: _Place, layer: int = layer, above: Mapping[_Place, int] = above) -> float:
            positions = [above[fed] for fed in feeds.get((layer, place), ())]
            return sum(positions) / len(positions) if positions else 0.0

        rows[layer].sort(key=mean)


def _coordinates(
    rows: Sequence[Sequence[_Place]],
) -> tuple[dict[tuple[int, _Place], tuple[float, float]], list[float], tuple[float, float]]:
    """Return the upper left corner of every place, for each layer the middle of the gutter left of its column, and the size of
    the whole; layers are centred in their column."""
    widths = [sum(place.width for place in row) + ACROSS * (len(row) - 1) for row in rows]
    length = _column_length(widths)
    columns = math.ceil(len(rows) / length)
    corners: dict[tuple[int, _Place], tuple[float, float]] = {}
    gutters = []
    left = float(MARGIN)
    for column in range(columns):
        mine = range(column * length, min((column + 1) * length, len(rows)))
        widest = max(widths[layer] for layer in mine)
        for layer in mine:
            gutters.append(left - GUTTER / 2)
            x = left + (widest - widths[layer]) / 2
            for place in rows[layer]:
                corners[layer, place] = (x, MARGIN + (layer - column * length) * (BOX[1] + DOWN))
                x += place.width + ACROSS
        left += widest + GUTTER
    return corners, gutters, (left - GUTTER + MARGIN, 2 * MARGIN + length * (BOX[1] + DOWN) - DOWN)


def _column_length(widths: Sequence[float]) -> int:
    """Return how many layers of these widths a column has: all, where the drawing is then no larger than PAGE, else so many that
    it has to be shrunk the least for that."""

    def shrunk(length: int) -> float:
        widest = [max(widths[first : first + length]) for first in range(0, len(widths), length)]
        width = sum(widest) + GUTTER * (len(widest) - 1) + 2 * MARGIN
        return min(1.0, PAGE[0] / width, PAGE[1] / (length * (BOX[1] + DOWN)))

    return max(range(len(widths), 0, -1), key=shrunk, default=1)


def _piece(a: tuple[float, float], b: tuple[float, float], gutter: float) -> str:
    """Return the path on from place a to b in the next layer, each given by the middle of its top; where that is at the head of
    the next column, through the gutter between."""
    (x, y), (u, v) = (a[0], a[1] + BOX[1]), b
    if v > y:
        # a passing edge goes straight down beside the boxes of its layer
        return f"L{x:g} {y:g}C{x:g} {y + DOWN / 2:g} {u:g} {v - DOWN / 2:g} {u:g} {v:g}"
    return f"L{x:g} {y + MARGIN / 2:g}H{gutter:g}V{v - MARGIN / 2:g}H{u:g}V{v:g}"
