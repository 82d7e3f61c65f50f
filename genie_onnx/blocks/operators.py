"""What single operators are to the partition: kinds of convolutions, pooling, what stays with the operator before it."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from genie_onnx.graph.query import attribute, constant, dims, is_constant, weight

LayerKind = Literal["depthwise", "pointwise", "dense", "linear"]

# fmt: off
RECTIFIERS = frozenset({
    "Celu", "Clip", "Elu", "Gelu", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu", "Selu", "Swish", "ThresholdedRelu",
})
"""Activations that do not saturate on both sides. Errors that they remove need no reconstruction, so the target lies behind
them; a Sigmoid at an output would hide errors that matter (its input decides), so there the target lies before it."""

AFFINE = frozenset({
    "BatchNormalization", "Cast", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LRN", "Neg",
})
UNARY = RECTIFIERS | AFFINE | {
    "Abs", "Erf", "Exp", "HardSigmoid", "Reciprocal", "Round", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh",
}
BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"})
LAYOUT = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
# fmt: on


def layer_kind(node: ir.Node) -> LayerKind:
    """Return what a weighted node is. pointwise: a 1x1 convolution; dense: any other that is not depthwise."""
    if node.op_type in ("Gemm", "MatMul"):
        return "linear"
    shape = dims(weight(node)) or ()
    groups = attribute(node, "group", 1)
    channels = shape[0] if node.op_type == "ConvTranspose" else groups * (shape[1] or 0)
    if groups > 1 and groups == channels:
        return "depthwise"
    return "pointwise" if all(k == 1 for k in shape[2:]) else "dense"


def is_strided(node: ir.Node) -> bool:
    """Whether a convolution or pooling has a stride above 1."""
    strides: tuple[int, ...] = attribute(node, "strides", ())
    return any(s > 1 for s in strides)


def is_downsampling(node: ir.Node) -> bool:
    """Whether a node makes a smaller map (not: one number a channel)."""
    return node.op_type in ("Conv", "MaxPool", "AveragePool") and is_strided(node) and not is_global_pool(node)


def is_upsampling(node: ir.Node) -> bool:
    """Whether a node makes a larger map."""
    return node.op_type in ("Resize", "Upsample", "DepthToSpace") or (node.op_type == "ConvTranspose" and is_strided(node))


def is_global_pool(node: ir.Node) -> bool:
    """Whether a node reduces each channel of an image to one number."""
    if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        return True
    if node.op_type in ("AveragePool", "MaxPool"):
        shape = dims(node.outputs[0])
        return shape is not None and all(d == 1 for d in shape[2:])
    if node.op_type in ("ReduceMean", "ReduceMax"):
        axes = _reduced_axes(node)
        return axes is not None and len(axes) >= 2
    return False


def _reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    axes: tuple[int, ...] | None = attribute(node, "axes", None)
    if axes is None and len(node.inputs) > 1:
        array = constant(node.inputs[1])
        axes = None if array is None else tuple(int(a) for a in array.reshape(-1))
    return axes


def is_local_pool(node: ir.Node) -> bool:
    """Whether a node summarises each neighbourhood of a map, and not the whole of it."""
    return node.op_type in ("AveragePool", "LpPool", "MaxPool") and not is_global_pool(node)


def activation_operands(node: ir.Node) -> int:
    """Return how many inputs of a node are not constant."""
    return sum(v is not None and not is_constant(v) for v in node.inputs)
