"""Models in FLOAT16 or BFLOAT16 become float32.

    every tensor, value, input and output of half precision -> FLOAT,  Cast(to = half) -> Cast(to = FLOAT)

The weights are the same numbers: float32 holds every number of either type. What the model computes is what it was trained
to compute, without the rounding of each intermediate result. Inputs and outputs of half precision become float32 too.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_TYPE_ATTRIBUTES = ("to", "dtype", "stash_type")  # Cast; EyeLike, RandomNormal ...; LayerNormalization


def widen(model: ir.Model) -> tuple[str, ...]:
    """Rewrite a loaded model in place and return the names of the types that were widened, empty where there were none."""
    found = {value.dtype for value in _values(model) if value.dtype in _HALF}
    for value in _values(model):
        tensor = value.const_value
        if tensor is not None and tensor.dtype in _HALF:
            found.add(tensor.dtype)
            value.const_value = _float32(tensor)
        if value.dtype in _HALF:
            value.dtype = ir.DataType.FLOAT
    for node in model.graph:
        for attribute in list(node.attributes.values()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in _HALF:
                found.add(attribute.value.dtype)
                node.attributes[attribute.name] = ir.AttrTensor(attribute.name, _float32(attribute.value))
            elif attribute.name in _TYPE_ATTRIBUTES and attribute.type == ir.AttributeType.INT and attribute.value in _HALF:
                node.attributes[attribute.name] = ir.AttrInt64(attribute.name, int(ir.DataType.FLOAT))
    return tuple(sorted(dtype.name for dtype in found if dtype is not None))


def _values(model: ir.Model) -> list[ir.Value]:
    graph = model.graph
    return [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]


def _float32(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(np.asarray(tensor.numpy(), dtype=np.float32), name=tensor.name)
