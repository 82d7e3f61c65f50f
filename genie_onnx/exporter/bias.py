"""Biases of layers whose input and weight are both quantised: INT32 codes behind a DequantizeLinear.

    scale_b = scale_x * scale_w,   codes = round(b / scale_b)          (qparams.bias_scale, bias_codes)

This is the only form that integer kernels take. A bias that overflows INT32 in it has to stay as it is, but not as a
float initializer: onnxruntime from 1.21 on would quantise that by itself (WeightBiasQuantization), saturating it.
So it is written as INT32 too, exactly, on the binary grid of its own float32 numbers:

    b = m * 2^e,   codes = m (at most 24 bits),   scale = 2^e

onnxruntime sees that this is not scale_x * scale_w and computes the layer in float.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from genie_onnx.exporter.builder import Builder
from genie_onnx.exporter.containers import store_bias
from genie_onnx.graph import query
from genie_onnx.qparams import FloatArray, IntArray, QParams, QTensor, bias_codes, bias_scale

_MANTISSA_BITS = 24  # of float32, the leading one included
_MIN_EXPONENT = -126  # of a normal float32


def quantize_bias(builder: Builder, node: ir.Node, weight: QTensor, activation: QParams) -> None:
    """Put the bias of `node` behind a DequantizeLinear in place; nothing is done where it has no constant bias.

    `weight` is the quantised input 1 of `node` and `activation` the grid of its input 0.
    """
    value = query.bias(node)
    bias = query.constant(value)
    if value is None or bias is None or value.name is None:
        return
    floats = np.asarray(bias, dtype=np.float32)
    scale = bias_scale(activation.scale, weight.qparams.scale)
    codes = bias_codes(floats, scale)
    if codes is None:
        codes, scale = binary_grid(floats)
    # Codes have the shape of the bias broadcast against scale_w: [C], or [.., C] for Gemm.
    axis = codes.ndim - 1 if scale.ndim else None
    sole = len(value.uses()) == 1 and not value.is_graph_output()
    stem = value.name if sole else f"{value.name}_{node.name}"
    _, output = builder.dequantized(
        stem, store_bias(codes, scale.shape), scale, axis, f"{stem}_dequantized", f"INT32 codes of '{value.name}'"
    )
    node.replace_input_with(2, output)
    if sole:
        builder.graph.initializers.pop(value.name)
        output.name = value.name


def binary_grid(bias: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return INT32 codes and scales with codes * scale == bias exactly (to 2^-126 for numbers below 2^-102).

    The scale has the shape of the last axis of `bias`, so a `bias` of several rows shares each column's scale: exact only
    as far as 31 bits reach.
    """
    largest = np.abs(bias).reshape(-1, bias.shape[-1]).max(axis=0) if bias.ndim else np.abs(bias)
    exponent = np.frexp(largest)[1]
    scale = np.ldexp(np.float32(1), np.maximum(exponent - _MANTISSA_BITS, _MIN_EXPONENT)).astype(np.float32)
    return np.rint(bias.astype(np.float64) / scale).astype(np.int64), scale


def quantize_biases(
    builder: Builder, weights: Mapping[str, QTensor], grids: Mapping[str, QParams], readers: Mapping[str, str]
) -> None:
    """Call `quantize_bias` for every node of `readers` (node name -> weight name) whose input 0 has a grid.

    `grids` has the grid of each quantised value by name. To be called before values are rewired.
    """
    for node in list(builder.graph):
        weight = readers.get(node.name or "")
        grid = grids.get(node.inputs[0].name or "") if weight and node.inputs[0] is not None else None
        if weight and grid is not None:
            quantize_bias(builder, node, weights[weight], grid)
