"""Padding that a maximum never takes becomes the pool's own.

    MaxPool(Pad(x, pads, -1e9))          ->  MaxPool<pads>(x)            pads of a MaxPool are never chosen
    GlobalMaxPool(Pad(x, pads, -1e9))    ->  GlobalMaxPool(x)

TensorFlow, Keras and torch's F.pad write a padded max pooling so. The number stands for minus infinity, and has no place on a
grid. What is not above LOWEST is taken for such (-65504 in half precision, -1e4 .. -1e9 and -FLT_MAX, -inf), and any number below
0 where x is never negative. Padding by other ways (a Where with a mask, pads as wide as the window) stays, with a number
that is finite; placement does not round it (placement.masks).
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.query import attribute, constant, dims

LOWEST = -1e4  # of what is computed; fillings are at or below it
FINITE = -65504.0  # float16's lowest: stands for everything below it where it has to stay
_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "Abs", "HardSigmoid"})


def absorb_padding(model: ir.Model) -> ir.Model:
    """Rewrite in place, behind `explicit_pads` and `write_out_axes`, and return `model`."""
    for node in list(model.graph):
        if node.domain != "":
            continue
        if node.op_type == "Pad" and attribute(node, "mode", "constant") == "constant" and _filling(node) is not None:
            for reader, index in list(node.outputs[0].uses()):
                if index == 0:
                    _absorb(node, reader)
        if node.op_type in ("Pad", "Where"):
            _make_finite(model.graph, node)
    return model


def _filling(node: ir.Node) -> float | None:
    """Return the number that a Pad fills with, where a maximum never takes it."""
    array = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    number = 0.0 if len(node.inputs) < 3 or node.inputs[2] is None else (None if array is None else float(array.reshape(-1)[0]))
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    positive = source is not None and source.domain == "" and source.op_type in _NEVER_NEGATIVE
    return number if number is not None and (number <= LOWEST or (positive and number < 0)) else None


def _absorb(pad: ir.Node, pool: ir.Node) -> None:
    """Let `pool` read what `pad` reads, if it can do the padding itself."""
    source, pads, shape = pad.inputs[0], constant(pad.inputs[1]), dims(pad.inputs[0])
    if source is None or pads is None or shape is None or pool.domain != "":
        return
    befores, afters = (np.asarray(half, np.int64).tolist() for half in np.split(np.asarray(pads).reshape(-1), 2))
    if any(befores[:2] + afters[:2]) or min(befores + afters) < 0:
        return
    if pool.op_type == "GlobalMaxPool":
        pool.replace_input_with(0, source)
    if pool.op_type != "MaxPool" or len(pool.outputs) > 1:
        return
    kernel: tuple[int, ...] = attribute(pool, "kernel_shape", ())
    rank = len(kernel)
    own = attribute(pool, "pads", (0,) * 2 * rank)
    strides, dilations = (attribute(pool, name, (1,) * rank) for name in ("strides", "dilations"))
    both = [[own[i] + befores[2 + i], own[rank + i] + afters[2 + i]] for i in range(rank)]
    if attribute(pool, "auto_pad", "NOTSET") != "NOTSET" or max(dilations) > 1:
        return
    if any(max(pair) >= k for pair, k in zip(both, kernel, strict=True)):  # more than runtimes take, and windows of nothing else
        return
    if attribute(pool, "ceil_mode", 0):  # a last window that would start behind the input is left out
        for i, ((before, after), size) in enumerate(zip(both, shape[2:], strict=True)):
            if size is None:
                return
            windows = math.ceil((size + before + after - kernel[i]) / strides[i])
            if windows * strides[i] >= size + before:
                return
    pool.replace_input_with(0, source)
    pool.attributes["pads"] = ir.AttrInt64s("pads", [p[0] for p in both] + [p[1] for p in both])


def _make_finite(graph: ir.Graph, node: ir.Node) -> None:
    """Put FINITE in place of what is below in the constants of a Pad or Where that only maxima read."""
    if any(reader.op_type not in ("MaxPool", "GlobalMaxPool", "ReduceMax") for reader in node.outputs[0].consumers()):
        return
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if index and array is not None and value is not None and array.dtype == np.float32 and array.min(initial=0) < FINITE:
            finite = np.maximum(array, np.float32(FINITE))
            node.replace_input_with(index, add_initializer(graph, f"{value.name}.finite", finite))
