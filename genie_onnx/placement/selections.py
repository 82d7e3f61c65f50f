"""What selecting operators (Slice, Split, Gather ...) pass on, on a grid of its own instead of that of their source.

    source ─┬─▶ Q/DQ ──▶ other readers                      the source's grid
            └─▶ MaxPool ──▶ Slice ──▶ Q/DQ ──▶ readers      that of the selection

A finer grid behind numbers that are rounded already gains nothing, so everything between the source and the selection reads
floats. The price: what computes the source has to hand out floats, and is no integer kernel in onnxruntime any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx_ir as ir

from genie_onnx.graph.query import WEIGHTED_OPS
from genie_onnx.placement.operators import (
    FUSED_ACTIVATIONS,
    SELECTING_OPS,
    activations,
    computes_in_integers,
    repeated_inputs,
)


def selections(graph: ir.Model) -> list[tuple[ir.Value, ir.Value]]:
    """Return every value that a selecting operator passes on, with the one it selects from, topological."""
    selecting = [node for node in graph.graph if node.domain == "" and node.op_type in SELECTING_OPS]
    return [(v, source) for node in selecting for source in activations(repeated_inputs(node)) for v in activations(node.outputs)]


def float_readers(own: Iterable[ir.Value]) -> frozenset[ir.Node]:
    """Return the nodes that have to read floats for the values `own` to be selected from numbers that nothing has rounded."""
    found: set[ir.Node] = set()
    waiting = list(own)
    while waiting:
        node = waiting.pop().producer()
        if node is None or node in found or not (repeated := activations(repeated_inputs(node))):
            continue
        found.add(node)
        waiting += repeated
    return frozenset(found)


def read_rounded(value: ir.Value, floats: Collection[ir.Node]) -> bool:
    """Whether anybody reads `value` rounded, given the nodes that read `floats`; what nobody reads is there for the user."""
    uses = value.uses()
    return not uses or any(use.node not in floats for use in uses)


def hand_out_floats(graph: ir.Model, own: Collection[str]) -> tuple[str, ...]:
    """Return the nodes with an integer kernel that has to hand out floats for the selections `own` (names), topological."""
    floats = float_readers(v for v, _ in selections(graph) if v.name in own)
    found = set()
    for value in (v for node in floats for v in activations(repeated_inputs(node))):
        node = value.producer()
        while node is not None and node.op_type in FUSED_ACTIVATIONS:
            before = activations(node.inputs)
            node = before[0].producer() if before else None
        if node is not None and node not in floats and (node.op_type in WEIGHTED_OPS or computes_in_integers(node)):
            found.add(node)
    return tuple(str(node.name) for node in graph.graph if node in found)
