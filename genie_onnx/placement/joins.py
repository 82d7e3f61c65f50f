"""Concats of operands of very different range: no layer that reads one is rounded.

    p (0 .. 900) ─┐
                  ├─▶ Concat ─▶ Conv        all of q would be one code of the grid of p, and the weights for p are as small
    q (0 .. 1)   ─┘

Grids of their own for p and q would not do: the weights that read them have one scale for each row, and differ as much. So the
layer computes in float, which every target can have.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from genie_onnx.graph.query import WEIGHTED_OPS
from genie_onnx.placement.operators import activations, repeated_inputs


def joins(graph: ir.Model) -> list[tuple[ir.Value, tuple[ir.Value, ...]]]:
    """Return what every Concat of several computed values makes, with these, topological."""
    found = []
    for node in graph.graph:
        operands = tuple(dict.fromkeys(activations(node.inputs)))
        if node.domain == "" and node.op_type == "Concat" and len(operands) > 1:
            found.append((node.outputs[0], operands))
    return found


def layers_behind(graph: ir.Model, names: Collection[str]) -> dict[str, str]:
    """Return the layers that read one of the joined values `names`, or what repeats numbers of one, with the reason."""
    origin = {value: str(value.name) for value, _ in joins(graph) if value.name in names}
    found = {}
    for node in graph.graph:
        data = node.inputs[0] if node.inputs else None
        if node.domain == "" and node.op_type in WEIGHTED_OPS:
            if data in origin:
                found[str(node.name)] = f"it reads '{origin[data]}', whose operands are too different for one grid"
        elif (first := next((origin[v] for v in repeated_inputs(node) if v in origin), None)) is not None:
            for value in activations(node.outputs):
                origin.setdefault(value, first)
    return found
