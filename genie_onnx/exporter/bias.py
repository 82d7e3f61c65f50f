"""Biases of layers whose input and weight are both quantised: INT32 codes behind a DequantizeLinear.

    scale_b = scale_x * scale_w,   codes = round(b / scale_b)          (qparams.bias_scale, bias_codes)

This is the only form that integer kernels take. A bias that overflows INT32 in it has to stay as it is, but not as a
float initializer: onnxruntime from 1.21 on would quantise that by itself (WeightBiasQuantization), saturating it. So

    Conv, ConvTranspose   INT32 too, but exactly, on the binary grid of its own float32 numbers: b = m * 2^e with codes m
                          of at most 24 bits and scale 2^e. onnxruntime sees a scale that is not scale_b and computes the
                          layer in float.
    Gemm                  is fused without a look at that scale (1.31.1), so its bias, times beta, moves to an Add behind it.
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
    """Bring the constant bias of `node` into the form above in place; a node without one is left alone.

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
        if node.op_type == "Gemm":
            _add_behind(builder, node, value, floats)
            return
        codes, scale = binary_grid(floats)
    replace_bias(builder, node, value, codes, scale)


def replace_bias(builder: Builder, node: ir.Node, value: ir.Value, codes: IntArray, scale: FloatArray) -> None:
    """Let `node` read `codes` of its bias `value` on the grid `scale` in place; `value` goes where nobody else reads it."""
    # Codes have the shape of the bias broadcast against scale_w: [C], or [.., C] for Gemm.
    axis = codes.ndim - 1 if scale.ndim else None
    sole = len(value.uses()) == 1 and not value.is_graph_output()
    stem = str(value.name) if sole else f"{value.name}_{node.name}"
    _, output = builder.dequantized(
        stem, store_bias(codes, scale.shape), scale, axis, f"{stem}_dequantized", f"INT32 codes of '{value.name}'"
    )
    node.replace_input_with(2, output)
    if sole:
        builder.graph.initializers.pop(stem)
        output.name = stem


def _add_behind(builder: Builder, node: ir.Node, value: ir.Value, bias: FloatArray) -> None:
    """Gemm(x, w, b) -> Add(Gemm(x, w), beta b), whose result keeps its name."""
    beta = np.float32(query.attribute(node, "beta", 1.0))
    addend = value if beta == 1 else builder.initializer(f"{value.name}_times_beta", beta * bias)
    product = node.outputs[0]
    assert product.name is not None
    node.resize_inputs(2)
    readers = product.uses()
    add = builder.node("Add", [product, addend], product.name, f"{product.name}_product")
    total = add.outputs[0]
    builder.graph.insert_after(node, add)
    builder.take_over(product, total, readers)


def binary_grid(bias: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return INT32 codes and scales, both [C] like `bias`, with codes * scale == bias exactly.

    (To 2^-126 for numbers below 2^-102, whose last bits no normal scale reaches.)
    """
    exponent = np.frexp(bias)[1]
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
