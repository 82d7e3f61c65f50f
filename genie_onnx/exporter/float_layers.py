"""Layers that stay float, although what they read is rounded: kept from being quantised by the runtime.

    DQ -> Conv(w, b) -> Q    becomes    DQ -> Conv(w, DequantizeLinear(INT32 codes of b)) -> Q

onnxruntime from 1.21 on quantises a float weight between DequantizeLinear and QuantizeLinear by itself, to 8 bits with one
scale for the whole tensor (WeightBiasQuantization in core/optimizer/qdq_transformer/weight_bias_quantization.cc). It leaves a
Conv, ConvTranspose or Gemm alone whose bias is no initializer. So the bias, zeros where there is none, goes behind a
DequantizeLinear on the binary grid of its own float32 numbers (bias.binary_grid): the same numbers exactly.

A MatMul is not touched, but becomes a Gemm where an Add of a constant follows: see matmul_bias.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from genie_onnx.exporter.bias import binary_grid, replace_bias
from genie_onnx.exporter.builder import Builder
from genie_onnx.graph import query


def float_layers(graph: ir.Graph, quantised: Collection[str], rounded: Collection[str]) -> list[ir.Node]:
    """Return the nodes with a float weight that are not in `quantised` (node names) and read one of `rounded` (values)."""
    return [
        node
        for node in graph
        if node.domain == ""
        and node.op_type in query.WEIGHTED_OPS
        and node.name not in quantised
        and query.is_constant(node.inputs[1])
        and node.inputs[0] is not None
        and node.inputs[0].name in rounded
    ]


def keep_float(builder: Builder, node: ir.Node) -> None:
    """Bring the bias of a float Conv, ConvTranspose or Gemm into the form above in place.

    A bias that is computed or has more than one axis keeps the runtime off as it is.
    """
    value = query.bias(node)
    if value is None:
        value = builder.initializer(f"{node.name}_bias", np.zeros(_output_channels(node), np.float32))
        node.resize_inputs(3)
        node.replace_input_with(2, value)
    bias = query.constant(value)
    if bias is not None and bias.ndim == 1:
        replace_bias(builder, node, value, *binary_grid(np.asarray(bias, np.float32)))


def _output_channels(node: ir.Node) -> int:
    shape = query.dims(query.weight(node))
    channels = None if shape is None else shape[query.channel_axis(node)]
    assert channels is not None  # an initializer has a fixed shape
    return channels * (query.attribute(node, "group", 1) if node.op_type == "ConvTranspose" else 1)
