"""Arithmetic with a constant a channel goes into the layer before it: a BatchNormalization that an exporter took apart.

    y = Conv(x, W, b):    y * c, c * y, y / c    ->  Conv(x, c W, c b)  (W / c, b / c)
                          y + c, c + y, y - c    ->  Conv(x, W, b + c)  (b - c)
                          c - y                  ->  Conv(x, -W, c - b)

So behind a Conv, ConvTranspose, Gemm or BatchNormalization (there: into its scale and bias, its statistics stay), also with a
Transpose between the two; c is one number, or one a channel. What the layer (or the Transpose) writes takes the result's name.
Nothing is done where the value between is read elsewhere or is a graph output, or where numbers would not stay finite.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from genie_onnx.graph.fold_batchnorm import Float64, foldable_producer, scale_and_shift, scale_channels, set_input, take_over
from genie_onnx.graph.query import attribute, bias, channel_axis, constant, dims, is_constant, weight
from genie_onnx.graph.relay import permutation

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization")


def fold_affine(model: ir.Model) -> ir.Model:
    """Rewrite a model whose constants are folded, in place, and return it."""
    for node in list(model.graph):
        value = _computed_operand(node)
        turned = None if value is None else _turned(value)
        layer = _layer(value if turned is None else turned.inputs[0])
        if value is None or layer is None or not _is_sound(layer):
            continue
        affine = _affine(node, value, _channels(layer), _channel_axis(turned))
        if affine is not None and _fold(model.graph, layer, *affine):
            take_over(model.graph, value, node)
    return model


def _computed_operand(node: ir.Node) -> ir.Value | None:
    """Return what a node reads that adds to it or multiplies it, and nothing else that is computed; else None."""
    if node.domain != "" or node.op_type not in ("Add", "Div", "Mul", "Sub"):
        return None
    computed = [v for v in node.inputs if v is not None and not is_constant(v)]
    if len(computed) != 1 or computed[0].is_graph_output() or len(computed[0].uses()) != 1:
        return None
    return None if node.op_type == "Div" and computed[0] is not node.inputs[0] else computed[0]


def _turned(value: ir.Value) -> ir.Node | None:
    """Return the Transpose that makes `value`, if it alone reads what it turns."""
    node = value.producer()
    source = None if node is None or permutation(node) is None else node.inputs[0]
    return node if source is not None and len(source.uses()) == 1 and not source.is_graph_output() else None


def _channel_axis(turned: ir.Node | None) -> int:
    """Return where the channels of a layer are behind this Transpose, or none."""
    perm = permutation(turned)
    return 1 if perm is None else perm.index(1)


def _layer(value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    if value is None or node is None or node.domain != "" or node.op_type not in _LAYERS or dims(value) is None:
        return None
    if node.op_type != "BatchNormalization":
        return foldable_producer(value)
    alone = not value.is_graph_output() and len(value.uses()) == 1 and not any(v.uses() for v in node.outputs[1:])
    return node if alone and all(is_constant(v) for v in node.inputs[1:3]) else None


def _is_sound(layer: ir.Node) -> bool:
    """Whether the constants of a layer have the shapes that its operator asks for: a file may hold anything."""
    arrays = [constant(v) for v in layer.inputs[1:3]]
    if layer.op_type == "BatchNormalization":
        return len({None if a is None else a.shape for a in arrays}) == 1
    W, group = arrays[0], attribute(layer, "group", 1)
    if W is None or W.ndim < 2 or (layer.op_type == "ConvTranspose" and (group < 1 or W.shape[0] % group)):
        return False
    return len(arrays) < 2 or arrays[1] is None or arrays[1].size in (_channels(layer), 1 if layer.op_type == "Gemm" else -1)


def _channels(layer: ir.Node) -> int:
    """Return how many channels a layer writes."""
    if layer.op_type == "BatchNormalization":
        gamma = constant(layer.inputs[1])
        assert gamma is not None
        return int(gamma.size)
    W = constant(weight(layer))
    assert W is not None
    return int(W.shape[channel_axis(layer)]) * (attribute(layer, "group", 1) if layer.op_type == "ConvTranspose" else 1)


def _affine(node: ir.Node, value: ir.Value, channels: int, axis: int) -> tuple[Float64, Float64] | None:
    """Return (s, t), [channels] each, with which `node` computes s y + t of `value`, whose channels are on `axis`; else None."""
    zero, one = np.zeros(channels), np.ones(channels)
    first = node.inputs[0] is value
    array = constant(node.inputs[1 if first else 0])
    rank = len(dims(value) or ())
    if array is None or array.dtype != np.float32 or array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(size != 1 for at, size in enumerate(shape) if at != axis) or shape[axis] not in (1, channels):
        return None
    c = np.broadcast_to(array.reshape(-1).astype(np.float64), (channels,))
    match node.op_type:
        case "Mul":
            return c, zero
        case "Div":
            return (1 / c, zero) if c.all() else None
        case "Add":
            return one, c
        case _:
            return (one, -c) if first else (-one, c)


def _fold(graph: ir.Graph, layer: ir.Node, s: Float64, t: Float64) -> bool:
    """Let `layer` compute s y + t where it computed y; False, and nothing done, where its numbers would not stay finite."""
    if layer.op_type == "BatchNormalization":
        gamma, beta = (np.asarray(constant(v), np.float64) for v in layer.inputs[1:3])
        made = (s * gamma).astype(np.float32), (s * beta + t).astype(np.float32)
        if not all(np.isfinite(array).all() for array in made):
            return False
        for index, array in enumerate(made, start=1):
            set_input(graph, layer, index, array, str(layer.inputs[index].name))  # type: ignore[union-attr]
        return True
    W, b = constant(weight(layer)), bias(layer)
    assert W is not None
    B = np.zeros(1) if b is None else np.asarray(constant(b), np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        made = scale_channels(layer, W.astype(np.float64), s).astype(np.float32), (s * B.reshape(-1) + t).astype(np.float32)
    if not all(np.isfinite(array).all() for array in made):
        return False
    scale_and_shift(graph, layer, s, t)
    return True
