"""Outputs whose entries stand in an order that the numbers of an image decide: the k best boxes, what is not suppressed.

    scores -> TopK -> best, indices       boxes, indices -> Gather -> boxes of the best

Two networks that are as good as the same may hand such entries out in another order: they cannot be compared place by place.
"""

from __future__ import annotations

import onnx_ir as ir

CHOOSE = frozenset({"TopK", "NonMaxSuppression", "NonZero", "Unique", "Compress"})


def in_chosen_order(model: ir.Model) -> frozenset[str]:
    """Return the names of the outputs of `model` that a node of CHOOSE has to do with."""
    chosen: set[ir.Value] = set()
    for node in model.graph:
        if node.op_type in CHOOSE or not chosen.isdisjoint(node.inputs):
            chosen.update(node.outputs)
    return frozenset(str(output.name) for output in model.graph.outputs if output in chosen)
