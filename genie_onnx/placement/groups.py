"""Values that share one grid because operators only repeat numbers between them (Reshape, MaxPool, Concat ...).

full            a group is everything connected by repeating operators, as far as it feeds a quantised layer
layer-inputs    only values that a layer reads are rounded, and what repeats numbers between two of those
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import onnx_ir as ir

from genie_onnx.placement.operators import activations, is_activation, repeated_inputs

AVERAGES = frozenset({"AveragePool", "GlobalAveragePool"})


def connected(
    nodes: Sequence[ir.Node],
    members: Collection[ir.Value],
    shared: Collection[ir.Node] = frozenset(),
    own: Collection[ir.Value] = frozenset(),
    masked: Mapping[ir.Value, ir.Value] = MappingProxyType({}),
) -> list[list[ir.Value]]:
    """Return `members` in groups joined by repeating operators, in the order of `members` (groups by their first).

    The nodes `shared` compute new numbers, but write them on the grid of what they read. The selections `own` are
    not joined with what they are selected from. What reads a value that is `masked` (masks) repeats the one behind the mask.
    """
    parent = {v: v for v in members}

    def find(v: ir.Value) -> ir.Value:
        while parent[v] is not v:
            parent[v] = v = parent[parent[v]]
        return v

    for node in nodes:
        repeated = tuple(node.inputs[:1]) if node in shared else repeated_inputs(node)
        repeated = tuple(masked.get(v, v) for v in repeated if v is not None)
        written = [v for v in node.outputs if v not in own]
        joined = [v for v in (*repeated, *written) if v in parent] if repeated else []
        for a, b in pairwise(joined):
            parent[find(b)] = find(a)
    groups: dict[ir.Value, list[ir.Value]] = {}
    for v in members:
        groups.setdefault(find(v), []).append(v)
    return list(groups.values())


def averages(nodes: Iterable[ir.Node]) -> frozenset[ir.Node]:
    """Return those of `nodes` that are average pools."""
    return frozenset(node for node in nodes if node.op_type in AVERAGES and node.domain == "")


def joined(graph: ir.Model, names: Collection[str]) -> list[list[str]]:
    """Return the names of values in groups joined by operators that repeat numbers, topological."""
    values = [v for v in (*graph.graph.inputs, *(v for node in graph.graph for v in node.outputs)) if v.name in names]
    return [[str(v.name) for v in group] for group in connected(list(graph.graph), values, averages(graph.graph))]


def between(nodes: Sequence[ir.Node], asked: Collection[ir.Value]) -> set[ir.Value]:
    """Return `asked` and the values that repeat numbers of one asked value on their way to another."""
    repeats = set(asked)
    for node in nodes:
        inputs = repeated_inputs(node)
        if inputs and all(v in repeats for v in inputs):
            repeats.update(activations(node.outputs))
    wanted = set(asked)
    for node in reversed(nodes):
        if any(v in wanted for v in node.outputs):
            wanted.update(v for v in repeated_inputs(node) if v is not None and v in repeats)
    return wanted


def roots(group: Sequence[ir.Value], floats: Collection[ir.Node] = frozenset()) -> list[ir.Value]:
    """Return the values of a group that are not mere repetitions of others of it as they are rounded; `floats` read others."""
    members = set(group)
    return [v for v in group if not _repeats(v, members, floats)]


def _repeats(value: ir.Value, members: set[ir.Value], floats: Collection[ir.Node]) -> bool:
    node = value.producer()
    inputs = repeated_inputs(node) if node is not None and node not in floats else ()
    return bool(inputs) and all(v is not None and is_activation(v) and v in members for v in inputs)
