"""Dimensions below 0 are open: older exporters (Paddle) write -1 where ONNX leaves a dimension without a number.

    x [-1, 3, -1, -1]   ->   x [?, 3, ?, ?]            inputs, outputs and values in between

ONNX gives a negative number no meaning (onnx.proto, TensorShapeProto), and its shape inference takes -1 for a size that
contradicts all others. So what is read has no such number, and what is written neither: open is what every reader takes it for.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx


def open_negative_dims(proto: onnx.ModelProto) -> None:
    """Clear every dimension below 0 of `proto` in place, in its graph and in its local functions."""
    graph = proto.graph
    for values in (graph.input, graph.output, graph.value_info, *(function.value_info for function in proto.functions)):
        _open(values)


def _open(values: Iterable[onnx.ValueInfoProto]) -> None:
    for value in values:
        for dim in value.type.tensor_type.shape.dim if value.type.tensor_type.HasField("shape") else ():
            if dim.dim_value < 0:
                dim.ClearField("value")
