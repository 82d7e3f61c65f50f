"""BatchNormalization folded into the linear operator before it.

    BN(y) = gamma * (y - mean) / sqrt(var + eps) + beta = s * y + t,    s = gamma / sqrt(var + eps),  t = beta - s * mean

    BN(Conv(x, W, b))            -> Conv(x, s W, s b + t)              W [O, I/g, k...]: s along axis 0
    BN(ConvTranspose(x, W, b))   -> ConvTranspose(x, s W, s b + t)     W [I, O/g, k...]: the channels of group j, out of
                                                                       I/g input rows, are scaled by s[j O/g : (j+1) O/g]
    BN(alpha x W + beta' b)      -> alpha x (s W) + 1 * (s beta' b + t)       Gemm; s along the output axis of W
    BN(x W)                      -> x (s W) + t                        MatMul of two matrices, which becomes a Gemm
    BN(x W + b)                  -> x (s W) + (s b + t)                MatMul of a stack of matrices: t, or s b + t, is an Add

    BN(R(f(x)))                  -> R(f'(x))      R: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, any number of them,
                                                  where the channels of f are those of BN (channel_path)

What is in the place of the BN's output takes its name; values on the way from f to there, which are others now, get new ones.
It is not folded, and stays, where a value on the way is read elsewhere or is a graph output, or where a weight or a statistic
is not an initializer. A weight that other nodes read too is copied first. Arithmetic is float64, rounded once to the weight's
type.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from genie_onnx.graph.channel_path import source_axis
from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.names import fresh_name
from genie_onnx.graph.query import WEIGHTED_OPS, attribute, bias, channel_axis, constant, dims, is_constant, weight

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Path:
    """A linear operator whose output channels a BatchNormalization normalises: behind it the Add of a constant, where it is a
    MatMul and has one, then what only rearranges; all in the order of the graph."""

    linear: ir.Node
    shift: ir.Node | None
    moves: tuple[ir.Node, ...]


def fold_batchnorm(model: ir.Model) -> ir.Model:
    """Return a copy of a normalised model with every BatchNormalization folded that can be."""
    model = model.clone()
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "BatchNormalization":
            path = _path(node)
            affine = batchnorm_affine(node)
            if path is not None and affine is not None:
                _fold(model.graph, path, node, *affine)
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


def _path(batchnorm: ir.Node) -> _Path | None:
    """Return the way to `batchnorm` from the operator that it can be folded into; None where there is none."""
    value, axis, moves = batchnorm.inputs[0], 1, list[ir.Node]()
    shift: ir.Node | None = None
    while True:
        node = None if value is None else value.producer()
        if value is None or node is None or node.domain != "" or value.is_graph_output() or len(value.uses()) != 1:
            return None
        if node.op_type in WEIGHTED_OPS:
            fits = axis == linear_axis(node) and _foldable(node)
            return _Path(node, shift, tuple(reversed(moves))) if fits and (shift is None or node.op_type == "MatMul") else None
        if shift is not None:
            return None
        source = source_axis(node, axis)
        if source is not None:
            value, axis = node.inputs[0], source
            moves.append(node)
        elif _shift_along(node, axis) is not None:
            shift, value = node, next(v for v in node.inputs if not is_constant(v))
        else:
            return None


def linear_axis(node: ir.Node) -> int | None:
    """Return the axis of the output of a node of WEIGHTED_OPS that counts its output channels; None where that is not known."""
    if node.op_type != "MatMul":
        return 1
    shape, matrix = node.outputs[0].shape, dims(node.inputs[1])
    return len(shape) - 1 if shape is not None and len(shape) > 1 and matrix is not None and len(matrix) == 2 else None


def _foldable(node: ir.Node) -> bool:
    b = bias(node)
    if constant(weight(node)) is None or (b is not None and constant(b) is None):
        return False
    return not (node.op_type == "Gemm" and b is not None and _gemm_rows(b) != 1)


def _shift_along(add: ir.Node, axis: int) -> Float64 | None:
    """Return the constant of an Add, one number or one a channel, [1] or [C]; None where it is of another shape, or computed."""
    numbers = [array for v in add.inputs if (array := constant(v)) is not None]
    shape = add.outputs[0].shape
    if add.op_type != "Add" or len(numbers) != 1 or shape is None or numbers[0].ndim > len(shape):
        return None
    if any(dims(v) != dims(add.outputs[0]) for v in add.inputs if not is_constant(v)):
        return None  # the constant makes it larger
    from_right = axis - len(shape)
    along = [size for k, size in enumerate(numbers[0].shape, start=-numbers[0].ndim) if k != from_right]
    return np.asarray(numbers[0], np.float64).reshape(-1) if all(size == 1 for size in along) else None


def _gemm_rows(b: ir.Value) -> int:
    """Rows of Gemm's C, which broadcasts to [M, N]: more than one is a bias per sample, not per channel."""
    array = constant(b)
    assert array is not None
    return array.shape[0] if array.ndim == 2 else 1


def _fold(graph: ir.Graph, path: _Path, batchnorm: ir.Node, s: Float64, t: Float64) -> None:
    node = path.linear
    w = weight(node)
    W = constant(w)
    assert W is not None
    values = [n.outputs[0] for n in (node, path.shift, *path.moves) if n is not None]
    if node.op_type == "MatMul" and (path.shift is not None or len(node.outputs[0].shape or ()) != 2):
        values[1:1] = _shift(graph, path, s, t)
    else:
        _set_bias(graph, node, s, t)
    set_input(graph, node, 1, scale_channels(node, W.astype(np.float64), s).astype(W.dtype), str(w.name))
    result, old = batchnorm.outputs[0], values.pop()
    old.shape, name = result.shape, result.name
    result.replace_all_uses_with(old, replace_graph_outputs=True)
    graph.remove(batchnorm, safe=True)
    old.name = name
    for value in values:
        value.name = fresh_name(graph, f"{value.name}.folded")


def _shift(graph: ir.Graph, path: _Path, s: Float64, t: Float64) -> list[ir.Value]:
    """Add t to what the MatMul of `path` computes, in the Add that is there or a new one; return what the new one computes."""
    node, y = path.linear, path.linear.outputs[0]
    if path.shift is not None:
        found = _shift_along(path.shift, len(y.shape or ()) - 1)
        place, value = next((k, v) for k, v in enumerate(path.shift.inputs) if v is not None and is_constant(v))
        assert found is not None
        set_input(graph, path.shift, place, (s * found + t).astype(np.float32), str(value.name))
        return []
    add = ir.Node(
        "", "Add", [y, add_initializer(graph, f"{weight(node).name}.bias", t.astype(np.float32))], name=f"{node.name}.bias"
    )
    shifted = add.outputs[0]
    shifted.name, shifted.shape, shifted.type = f"{y.name}.shifted", y.shape, y.type
    for use in [u for u in y.uses() if u.node is not add]:
        use.node.replace_input_with(use.idx, shifted)
    graph.insert_after(node, add)
    return [shifted]


def _set_bias(graph: ir.Graph, node: ir.Node, s: Float64, t: Float64) -> None:
    """Give `node` the bias s b + t; a MatMul becomes a Gemm, the same for matrices, with room for it."""
    w, b = weight(node), bias(node)
    W, B = constant(w), np.zeros_like(t) if b is None else np.asarray(constant(b), np.float64)
    assert W is not None
    if node.op_type == "MatMul":
        node.op_type = "Gemm"
    if node.op_type == "Gemm":
        B = B.reshape(-1) * attribute(node, "beta", 1.0)
        node.attributes.pop("beta", None)  # 1 is the default
    set_input(graph, node, 2, (s * B + t).astype(W.dtype), f"{w.name}.bias" if b is None else f"{b.name}")


def foldable_producer(value: ir.Value | None) -> ir.Node | None:
    """Return the linear node that makes `value`, where a factor and a shift of its channels can go into it; else None."""
    node = None if value is None else value.producer()
    if value is None or node is None or node.domain != "" or node.op_type not in WEIGHTED_OPS:
        return None
    if node.op_type == "MatMul" and any(v is None or v.shape is None or len(v.shape) != 2 for v in node.inputs):
        return None
    return node if not value.is_graph_output() and len(value.uses()) == 1 and _foldable(node) else None


def scale_and_shift(graph: ir.Graph, node: ir.Node, s: Float64, t: Float64) -> None:
    """Let a `foldable_producer` compute s y + t, s and t [C], where it computed y."""
    w = weight(node)
    W = constant(w)
    assert W is not None
    if bias(node) is not None or t.any():
        _set_bias(graph, node, s, t)
    if (s != 1).any():
        set_input(graph, node, 1, scale_channels(node, W.astype(np.float64), s).astype(W.dtype), str(w.name))


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
