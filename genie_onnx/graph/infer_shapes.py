"""Shapes and types of every value, from the graph inputs and the operators (onnx.shape_inference with data propagation).

What a file claims about its intermediate values and outputs is dropped first: claims made for a batch of 1 would
otherwise survive the freeing of the batch. A value whose shape cannot be inferred has shape None afterwards.

Data propagation writes out what a Range of constants counts, number by number (onnx 1.23: gigabytes and hours for some bytes of
file), so a Range longer than any network has use for is refused before.
"""

from __future__ import annotations

import math

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from genie_onnx.errors import ModelError
from genie_onnx.graph.query import constant

LONGEST_RANGE = 2**24  # numbers: some seconds and 1 GB; anchors and positions of detectors are 10^5


def infer_shapes(model: ir.Model) -> ir.Model:
    """Infer in place and return `model`. Raises ModelError for a Range of more than LONGEST_RANGE numbers."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.shape = ir.Shape(value.const_value.shape.numpy())
            value.dtype = value.const_value.dtype
    _check_ranges(model)
    while True:
        # Not strict: an operator that onnx cannot infer leaves its outputs unknown, and `check` names it.
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
        if not _pass_on(model):
            return model


def _check_ranges(model: ir.Model) -> None:
    for node in model.graph:
        known = [constant(v) for v in node.inputs] if node.op_type == "Range" and node.domain == "" else []
        numbers = [float(a.reshape(())) for a in known if a is not None and a.size == 1]
        if len(numbers) != 3 or not all(map(math.isfinite, numbers)) or numbers[2] == 0:
            continue
        start, limit, delta = numbers
        if (limit - start) / delta > LONGEST_RANGE:
            count = (limit - start) / delta
            raise ModelError(
                f"Range '{node.name}': it counts from {start:g} to {limit:g} by {delta:g}, which is {count:.3g} numbers; "
                f"up to {LONGEST_RANGE} are supported. Export the model without it"
            )


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
