"""Shapes and types of every value, from the graph inputs and the operators (onnx.shape_inference with data propagation).

What a file claims about its intermediate values and outputs is dropped first: claims made for a batch of 1 would
otherwise survive the freeing of the batch. A value whose shape cannot be inferred has shape None afterwards.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass


def infer_shapes(model: ir.Model) -> ir.Model:
    """Infer in place and return `model`."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.shape = ir.Shape(value.const_value.shape.numpy())
            value.dtype = value.const_value.dtype
    while True:
        # Not strict: an operator that onnx cannot infer leaves its outputs unknown, and `check` names it.
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
        if not _pass_on(model):
            return model


def _pass_on(model: ir.Model) -> bool:
    """Give results of GroupNormalization, of which onnx (1.23) infers nothing, that of their input; return whether any were."""
    found = False
    for node in model.graph:
        if node.op_type != "GroupNormalization" or node.domain != "":
            continue
        (y,), x = node.outputs, node.inputs[0]
        if y.shape is None and x is not None and x.shape is not None:
            y.shape, y.type = x.shape.copy(), x.type
            found = True
    return found
