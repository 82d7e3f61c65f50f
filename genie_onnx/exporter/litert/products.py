"""Gemm and MatMul with a constant -> FULLY_CONNECTED: weight [O, K], bias [O]."""

from __future__ import annotations

import onnx

from genie_onnx.exporter.litert.desk import Desk, RefusedError, Value
from genie_onnx.exporter.litert.fusing import fused
from genie_onnx.exporter.litert.layers import layer


def gemm(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Gemm."""
    if any(desk.attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta")) or desk.attribute(node, "transA", 0):
        raise RefusedError("it has alpha, beta or transA")
    _fully_connected(desk, node, bool(desk.attribute(node, "transB", 0)))


def matmul(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a MatMul whose second operand is a constant of two dimensions."""
    if desk.constant(node.input[1]) is None or len(desk.shape(node.input[1])) != 2:
        raise RefusedError("a product with anything but a constant of two dimensions is not written")
    _fully_connected(desk, node, False)


def _fully_connected(desk: Desk, node: onnx.NodeProto, transposed: bool) -> None:
    columns = desk.columns.get(desk.reading.codes.get(node.input[0], node.input[0]))
    parts = layer(desk, node, (0, 1) if transposed else (1, 0), 0, columns=columns)
    source = parts.source if columns is not None else desk.plain(parts.source)
    activation, grid = fused(parts.grid)
    shape = desk.shape(node.output[0])
    number = desk.new(parts.name, shape, grid)
    desk.draft.add(
        "FULLY_CONNECTED",
        [source.number, parts.weight, parts.bias],
        [number],
        "FullyConnectedOptions",
        FusedActivationFunction=activation,
        KeepNumDims=len(shape) > 2,
    )
    desk.put(node, Value(number, shape, tuple(range(len(shape))), grid))
