"""BatchNormalization folded into the linear operator before it.

    BN(y) = gamma * (y - mean) / sqrt(var + eps) + beta = s * y + t,    s = gamma / sqrt(var + eps),  t = beta - s * mean

    BN(Conv(x, W, b))            -> Conv(x, s W, s b + t)              W [O, I/g, k...]: s along axis 0
    BN(ConvTranspose(x, W, b))   -> ConvTranspose(x, s W, s b + t)     W [I, O/g, k...]: the channels of group j, out of
                                                                       I/g input rows, are scaled by s[j O/g : (j+1) O/g]
    BN(alpha x W + beta' b)      -> alpha x (s W) + 1 * (s beta' b + t)       Gemm; s along the output axis of W
    BN(x W)                      -> x (s W) + t                        MatMul of two matrices, which becomes a Gemm

The folded operator's output takes the name of the BN's output. It is not folded, and stays, where the operator's own
output is read elsewhere or is a graph output, or where a weight or a statistic is not an initializer. A weight that
other nodes read too is copied first. Arithmetic is float64, rounded once to the weight's type.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.query import WEIGHTED_OPS, attribute, bias, channel_axis, constant, weight

Float64 = npt.NDArray[np.float64]


def fold_batchnorm(model: ir.Model) -> ir.Model:
    """Return a copy of a normalised model with every BatchNormalization folded that can be."""
    model = model.clone()
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "BatchNormalization":
            linear = foldable_producer(node.inputs[0])
            affine = batchnorm_affine(node)
            if linear is not None and affine is not None:
                scale_and_shift(model.graph, linear, *affine)
                take_over(model.graph, linear.outputs[0], node)
    RemoveUnusedNodesPass()(model)
    return model


def batchnorm_affine(node: ir.Node) -> tuple[Float64, Float64] | None:
    """Return (s, t), float64 [C], of a BatchNormalization; None where one of its parameters is not an initializer."""
    arrays = [constant(v) for v in node.inputs[1:5]]
    if any(a is None for a in arrays):
        return None
    gamma, beta, mean, var = (np.asarray(a, np.float64) for a in arrays)
    s = gamma / np.sqrt(var + attribute(node, "epsilon", 1e-5))
    return s, beta - s * mean


def foldable_producer(value: ir.Value | None) -> ir.Node | None:
    """Return the linear node that makes `value`, where a factor and a shift of its channels can go into it; else None."""
    node = None if value is None else value.producer()
    if value is None or node is None or node.domain != "" or node.op_type not in WEIGHTED_OPS:
        return None
    if node.op_type == "MatMul" and any(v is None or v.shape is None or len(v.shape) != 2 for v in node.inputs):
        return None
    if value.is_graph_output() or len(value.uses()) != 1:
        return None
    b = bias(node)
    if constant(weight(node)) is None or (b is not None and constant(b) is None):
        return None
    if node.op_type == "Gemm" and b is not None and _gemm_rows(b) != 1:
        return None
    return node


def _gemm_rows(b: ir.Value) -> int:
    """Rows of Gemm's C, which broadcasts to [M, N]: more than one is a bias per sample, not per channel."""
    array = constant(b)
    assert array is not None
    return array.shape[0] if array.ndim == 2 else 1


def scale_and_shift(graph: ir.Graph, node: ir.Node, s: Float64, t: Float64) -> None:
    """Let a `foldable_producer` compute s y + t, s and t [C], where it computed y."""
    w, b = weight(node), bias(node)
    W = constant(w)
    assert W is not None
    B = np.zeros_like(t) if b is None else np.asarray(constant(b), np.float64)
    if node.op_type == "MatMul":
        node.op_type = "Gemm"  # the same for matrices, with room for t
    if node.op_type == "Gemm":
        B = B.reshape(-1) * attribute(node, "beta", 1.0)
        node.attributes.pop("beta", None)  # 1 is the default
    if (s != 1).any():
        set_input(graph, node, 1, scale_channels(node, W.astype(np.float64), s).astype(W.dtype), str(w.name))
    if b is not None or t.any():
        set_input(graph, node, 2, (s * B + t).astype(W.dtype), f"{w.name}.bias" if b is None else f"{b.name}")


def take_over(graph: ir.Graph, value: ir.Value, node: ir.Node) -> None:
    """Take `node` out, whose result `value` is now, under its name."""
    result = node.outputs[0]
    value.shape, name = result.shape, result.name
    result.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    value.name = name


def scale_channels(node: ir.Node, W: Float64, s: Float64) -> Float64:
    """Return W with output channel c multiplied by s[c]; s [C], C = groups * W.shape[1] for ConvTranspose."""
    if node.op_type == "ConvTranspose":
        groups = attribute(node, "group", 1)
        rows = np.repeat(s.reshape(groups, -1), W.shape[0] // groups, axis=0)  # [I, O/g]
        return W * rows.reshape(rows.shape + (1,) * (W.ndim - 2))
    shape = [1] * W.ndim
    shape[channel_axis(node)] = -1
    return W * s.reshape(shape)


def set_input(graph: ir.Graph, node: ir.Node, index: int, array: np.ndarray, name: str) -> None:
    """Give `node` its own initializer at `index`; it keeps `name` where no other node reads that one."""
    current = node.inputs[index] if index < len(node.inputs) else None
    if current is not None and len(current.uses()) == 1 and not current.is_graph_output():
        current.const_value = ir.tensor(array, name=current.name)
        current.shape = ir.Shape(array.shape)
        return
    node.resize_inputs(max(len(node.inputs), index + 1))
    node.replace_input_with(index, add_initializer(graph, name, array))
