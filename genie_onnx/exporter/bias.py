"""Biases of layers whose input and weight are both quantised: INT32 codes behind a DequantizeLinear.

    scale_b = scale_x * scale_w,   codes = round(b / scale_b)          (qparams.bias_scale, bias_codes)

This is the only form that integer kernels take. The scales of weights leave room for it (bias_room).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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

    `weight` is the quantised input 1 of `node` and `activation` the grid of its input 0. Raises ValueError where INT32 cannot
    hold the bias, which would leave it to onnxruntime to saturate (from 1.21 on: WeightBiasQuantization).
    """
    found = _codes(node, weight, activation)
    if found is not None:
        replace_bias(builder, node, *found)


def _codes(node: ir.Node, weight: QTensor, activation: QParams) -> tuple[ir.Value, IntArray, FloatArray] | None:
    """Return the constant bias of `node`, its codes and their scale; None where there is none."""
    value = query.bias(node)
    bias = query.constant(value)
    if value is None or bias is None or value.name is None:
        return None
    floats = np.asarray(bias, dtype=np.float32)
    scale = bias_scale(activation.scale, weight.qparams.scale)
    codes = bias_codes(floats, scale)
    if codes is None:
        raise ValueError(f"{node.op_type} '{node.name}': INT32 cannot hold its bias in steps of {scale.min()}")
    return value, codes, scale


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


def binary_grid(bias: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return INT32 codes and scales, both [C] like `bias`, with codes * scale == bias exactly.

    (To 2^-126 for numbers below 2^-102, whose last bits no normal scale reaches.)
    """
    exponent = np.frexp(bias)[1]
    scale = np.ldexp(np.float32(1), np.maximum(exponent - _MANTISSA_BITS, _MIN_EXPONENT)).astype(np.float32)
    return np.rint(bias.astype(np.float64) / scale).astype(np.int64), scale


def round_bias(builder: Builder, node: ir.Node, weight: QTensor, activation: QParams) -> None:
    """Let `node` read, as floats, the numbers that `quantize_bias` would store as codes."""
    found = _codes(node, weight, activation)
    if found is not None:
        value, codes, scale = found
        rounded = builder.initializer(f"{value.name}_rounded", codes.astype(np.float32) * scale)
        node.replace_input_with(2, rounded)


def quantize_biases(
    builder: Builder,
    weights: Mapping[str, QTensor],
    grids: Mapping[str, QParams],
    readers: Mapping[str, str],
    store: Callable[[Builder, ir.Node, QTensor, QParams], None] = quantize_bias,
) -> None:
    """Call `store` for every node of `readers` (node name -> weight name) whose input 0 has a grid.

    `grids` has the grid of each quantised value by name. To be called before values are rewired.
    """
    for node in list(builder.graph):
        weight = readers.get(node.name or "")
        grid = grids.get(node.inputs[0].name or "") if weight and node.inputs[0] is not None else None
        if weight and grid is not None:
            store(builder, node, weights[weight], grid)
