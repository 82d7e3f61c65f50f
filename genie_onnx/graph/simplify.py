"""What a normalised graph computes, with less in it: the graph that is quantised.

In: what `normalise` returned. Out: a copy without Transposes that undo each other (`relay`), and with constants a channel in the
layer before them (`fold_affine`). A step of its own, as a file of another tool has all of that, and is compared with what has it.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from genie_onnx.graph.fold_affine import fold_affine
from genie_onnx.graph.names import fix_names
from genie_onnx.graph.pool_pads import absorb_padding
from genie_onnx.graph.relay import cancel_transposes

SIMPLIFIED = frozenset({"Add", "Div", "Mul", "Sub", "Transpose"})
"""Operators of which there may be fewer afterwards."""


def simplify(model: ir.Model) -> ir.Model:
    """Return the simplified copy of a normalised `model`, which is not changed."""
    model = model.clone()
    cancel_transposes(model)
    fold_affine(model)
    absorb_padding(model)  # of pools that had a Transpose before them
    RemoveUnusedNodesPass()(model)
    return fix_names(model)
