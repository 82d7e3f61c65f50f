"""Does a file have the form that its target asks for? Read off the nodes, as the target's own importer would.

What a compiler that is not at hand would refuse is found here: zero points and types of codes, biases, where values are clipped,
opset, open shapes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from genie_onnx.targets import Form, Target

_STORED = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "signed": TensorProto.INT8}


def broken_rules(proto: onnx.ModelProto, target: Target) -> list[str]:
    """Return a sentence for everything in `proto` that `target` does not admit."""
    if target.form.style == "float":
        coded = sorted({node.op_type for node in proto.graph.node} & {"QuantizeLinear", "DequantizeLinear"})
        return [f"a float model has {' and '.join(coded)}"] if coded else []
    return [
        *_grids(proto, target),
        *_biases(proto, target.form),
        *_clips(proto, target.form),
        *_frame(proto, target),
    ]


def _grids(proto: onnx.ModelProto, target: Target) -> Iterator[str]:
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    wanted = _STORED[target.form.values]
    for node in proto.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero_point = (tensors[name] for name in node.input[1:3])
        steps = numpy_helper.to_array(scale)
        if not (np.isfinite(steps).all() and (steps > 0).all()):
            yield f"'{node.name}' has a scale that is not above 0"
        if target.constraints.scales == "power-of-two" and (np.frexp(steps)[0] != 0.5).any():
            yield f"'{node.name}' has a scale that is no power of two"
        if node.op_type == "QuantizeLinear" and zero_point.data_type != wanted:
            stored, other = (TensorProto.DataType.Name(kind) for kind in (zero_point.data_type, wanted))
            yield f"'{node.name}' stores {stored}, not {other}"
        if target.form.values == "int8" and numpy_helper.to_array(zero_point).any():
            yield f"'{node.name}' has a zero point, and target {target.name} takes none"


def _biases(proto: onnx.ModelProto, form: Form) -> Iterator[str]:
    if form.bias == "int32":
        return
    codes = {tensor.name for tensor in proto.graph.initializer if tensor.data_type == TensorProto.INT32}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in codes:
            yield f"'{node.name}' reads INT32 codes; biases have to be floats"


def _clips(proto: onnx.ModelProto, form: Form) -> Iterator[str]:
    if form.clip == "codes":
        return
    quantizers = {node.output[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    for node in proto.graph.node:
        if node.op_type == "Clip" and node.input[0] in quantizers:
            yield f"'{node.name}' clips integers"


def _frame(proto: onnx.ModelProto, target: Target) -> Iterator[str]:
    opset = next(entry.version for entry in proto.opset_import if entry.domain == "")
    limit = target.form.largest_opset
    if target.form.opset not in (None, opset):
        yield f"opset {opset} is not {target.form.opset}"
    if limit is not None and opset > limit:
        yield f"opset {opset} is above {limit}"
    if target.form.batch == "fixed":
        for value in proto.graph.input:
            if any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
                yield f"input '{value.name}' has open dimensions"
