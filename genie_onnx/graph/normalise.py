"""A user's graph in the one form that the rest of the package works on.

In: what `load` returned. Out: a copy that computes the same and in which

    every constant is an initializer (Constant nodes, Identities and whole constant subgraphs are folded),
    no node is dead, no optional output is unused, nothing is left of training,
    pads are numbers (no auto_pad), the batch is the symbolic dimension N,
    every node has a unique name, every value a shape, and nodes stand in topological order.

Values that survive keep the user's names.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

from genie_onnx.graph.bypass import bypass
from genie_onnx.graph.fold_constants import fold_constants
from genie_onnx.graph.inference_mode import inference_mode
from genie_onnx.graph.names import fix_names


def normalise(model: ir.Model) -> ir.Model:
    """Return the canonical copy of `model`; `model` itself is not changed."""
    model = model.clone()
    TopologicalSortPass()(model)
    inference_mode(model)
    bypass(model)
    fold_constants(model)
    RemoveUnusedNodesPass()(model)
    return fix_names(model)
