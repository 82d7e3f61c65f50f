"""Values that are masked before a maximum is taken: the mask's number is not rounded, as it never comes through.

    x ─▶ Where(mask, x, -65504) ─▶ Transpose ─▶ MaxPool ─▶ y          x and y share a grid, and nothing between has one

y has numbers of x alone, so it belongs on the grid of x; that of the mask, far below, would leave both a code or two. Where a
window has nothing but the mask in it, y has that number, and its grid shows it.
"""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.graph.query import attribute, constant
from genie_onnx.placement.operators import is_activation, repeated_inputs

_MAXIMA = frozenset({"GlobalMaxPool", "MaxPool"})


def masked(graph: ir.Model) -> dict[ir.Value, ir.Value]:
    """Return every value that has numbers of a mask in it and goes to maxima alone, with the one it masks."""
    found: dict[ir.Value, ir.Value] = {}
    for node in graph.graph:
        source = _source(node)
        repeated = repeated_inputs(node)
        if source is None and node.op_type not in _MAXIMA and len(repeated) == 1 and repeated[0] in found:
            source = found[repeated[0]]
        if source is not None:
            found.update((value, source) for value in node.outputs)
    for value in reversed(tuple(found)):
        uses = value.uses()
        if (
            not uses
            or value.is_graph_output()
            or any(u.node.op_type not in _MAXIMA and u.node.outputs[0] not in found for u in uses)
        ):
            found.pop(value)
    return found


def _source(node: ir.Node) -> ir.Value | None:
    """Return what a Pad, or a Where, fills up with a negative constant."""
    if node.domain != "":
        return None
    if node.op_type == "Pad" and attribute(node, "mode", "constant") == "constant" and len(node.inputs) > 2:
        operands = (node.inputs[0], node.inputs[2])
    elif node.op_type == "Where":
        operands = (node.inputs[1], node.inputs[2])
    else:
        return None
    for source, number in (operands, operands[::-1]):
        array = constant(number)
        if source is not None and is_activation(source) and array is not None and array.size and float(array.max()) < 0:
            return source
    return None
