"""Questions about a graph that `normalise` returned: constants, weighted nodes, attributes, shapes.

Nothing here changes a graph or looks beyond one node and its neighbours.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.graph.ops import WEIGHTED_OPS

__all__ = [
    "WEIGHTED_OPS",
    "attribute",
    "bias",
    "channel_axis",
    "constant",
    "dims",
    "image_input",
    "image_outputs",
    "input_shape",
    "is_constant",
    "opset",
    "value_map",
    "weight",
    "weighted_nodes",
]

T = TypeVar("T")


def is_constant(value: ir.Value | None) -> bool:
    """Whether `value` is an initializer (with its data at hand)."""
    return value is not None and value.is_initializer() and value.const_value is not None


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """Return the array of an initializer, None for anything computed, fed in or absent. Do not write to it."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


def image_outputs(model: ir.Model) -> list[str]:
    """Return the names of the outputs that depend on the image: all but Identities of constants (constant_outputs)."""
    made = {v: v.producer() for v in model.graph.outputs}
    return [str(v.name) for v, node in made.items() if not (node and node.op_type == "Identity" and is_constant(node.inputs[0]))]


def weighted_nodes(model: ir.Model) -> list[ir.Node]:
    """Return the nodes of WEIGHTED_OPS whose input 1 is an initializer, in topological order.

    A MatMul or Gemm whose only constant is input 0 is not one of them, nor one that multiplies two activations.
    """
    return [n for n in model.graph if n.domain == "" and n.op_type in WEIGHTED_OPS and is_constant(n.inputs[1])]


def weight(node: ir.Node) -> ir.Value:
    """Return the weight (input 1) of a weighted node."""
    value = node.inputs[1]
    assert value is not None, f"{node.op_type} '{node.name}' has no input 1"
    return value


def bias(node: ir.Node) -> ir.Value | None:
    """Return the bias (input 2) of a Conv, ConvTranspose or Gemm, None where there is none. MatMul never has one."""
    return node.inputs[2] if len(node.inputs) > 2 else None


def channel_axis(node: ir.Node) -> int:
    """Return the axis of the weight that counts output channels.

    Conv [O, I/g, k...] -> 0;  ConvTranspose [I, O/g, k...] -> 1;  Gemm [O, I] with transB, else [I, O] -> 0 or 1;
    MatMul [..., I, O] -> last (0 for a vector, which has no output channels of its own).
    """
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1
        case "Gemm":
            return 0 if attribute(node, "transB", 0) else 1
        case "MatMul":
            rank = weight(node).shape
            assert rank is not None
            return max(len(rank) - 1, 0)
        case other:
            raise ValueError(f"{other} '{node.name}' is not one of {', '.join(WEIGHTED_OPS)}")


def attribute(node: ir.Node, name: str, default: T) -> T:
    """Return attribute `name` as a Python value (int, float, str, tuple of these, tensor), or `default` where not set."""
    found = node.attributes.get(name)
    if found is None:
        return default
    match found.type:
        case ir.AttributeType.INTS | ir.AttributeType.FLOATS | ir.AttributeType.STRINGS:
            return tuple(found.value)  # type: ignore[return-value]
        case _:
            return found.value


def opset(model: ir.Model) -> int:
    """Return the version of the default operator set."""
    return int(model.graph.opset_imports[""])


def dims(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Return the shape with None for every dimension that is not a fixed number; None where the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def image_input(model: ir.Model) -> ir.Value:
    """Return the one graph input that is not an initializer."""
    inputs = [v for v in model.graph.inputs if not v.is_initializer()]
    assert len(inputs) == 1, f"{len(inputs)} inputs; `check` lets only one pass"
    return inputs[0]


def input_shape(model: ir.Model) -> tuple[int | None, ...]:
    """Return the shape of the image input, None for each dimension that is not fixed (batch; maybe H and W)."""
    shape = dims(image_input(model))
    assert shape is not None, "an input without a shape; `check` lets none pass"
    return shape


def value_map(model: ir.Model) -> dict[str, ir.Value]:
    """Return every value of the main graph by name: inputs, initializers, node outputs."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    return {v.name: v for v in values if v.name}
