"""Average pools become depthwise convolutions, for readers that have no exact average.

    AveragePool(x), window of 2^k positions    ->    Conv(x, w, group = C),   w [C, 1, window] = 2^-k
    GlobalAveragePool(x)                       ->    the same, the window being the whole map

On values in steps of a power of two both are exact. The weight has a Quant node like any other, of the one code 1.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from genie_onnx.exporter.builder import Builder
from genie_onnx.graph import query
from genie_onnx.qparams import FloatArray

POOLS = ("AveragePool", "GlobalAveragePool")


def mean_problem(node: ir.Node) -> str | None:
    """Return why an average pool cannot become a convolution; None where it can, or `node` is none."""
    if node.domain != "" or node.op_type not in POOLS:
        return None
    window = _window(node)
    if window is None:
        return "averages over a map whose size is open"
    count = math.prod(window)
    if count & (count - 1):
        return f"averages over {' x '.join(map(str, window))} = {count} positions, and only a power of two divides exactly"
    if any(query.attribute(node, "pads", ())) and not query.attribute(node, "count_include_pad", 0):
        return "averages over fewer positions at its pads"
    if query.attribute(node, "ceil_mode", 0):
        return "rounds the size of its output up (ceil_mode)"
    return None


def convolve_means(builder: Builder) -> list[tuple[ir.Node, FloatArray]]:
    """Rewrite in place the average pools that have no `mean_problem`. Return the convolutions, each with its scale (0-dim)."""
    pools = [node for node in builder.graph if node.op_type in POOLS and node.domain == "" and mean_problem(node) is None]
    return [_convolution(builder, node) for node in pools]


def _convolution(builder: Builder, node: ir.Node) -> tuple[ir.Node, FloatArray]:
    window, shape = _window(node), query.dims(node.inputs[0])
    assert window is not None
    assert shape is not None
    channels = shape[1]
    assert channels is not None
    share = np.asarray(1 / math.prod(window), np.float32)
    weight = builder.initializer(f"{node.name}_mean", np.full((channels, 1, *window), share, np.float32))
    rank = len(window)
    attributes: dict[str, int | list[int]] = {
        "group": channels,
        "kernel_shape": window,
        "strides": list(query.attribute(node, "strides", [1] * rank)),
        "pads": list(query.attribute(node, "pads", [0] * 2 * rank)),
        "dilations": list(query.attribute(node, "dilations", [1] * rank)),
    }
    convolution = ir.node("Conv", [node.inputs[0], weight], attributes, name=str(node.name))
    old = node.outputs[0]
    made = convolution.outputs[0]
    readers = list(old.uses())
    builder.graph.insert_before(node, convolution)
    made.name = builder.names.fresh(f"{old.name}_mean")
    builder.take_over(old, made, readers)
    builder.graph.remove(node, safe=True)
    return convolution, share


def _window(node: ir.Node) -> list[int] | None:
    """Return the sizes of the window; None where the map is averaged as a whole and its size is open."""
    if node.op_type == "AveragePool":
        return list(query.attribute(node, "kernel_shape", ()))
    shape = query.dims(node.inputs[0])
    if shape is None or any(size is None for size in shape[1:]):
        return None
    return [int(size) for size in shape[2:] if size is not None]
