"""What single operators mean for placement: which compute in integers, which only repeat numbers, which are fused.

integer      an integer runtime has a kernel for it: reads codes, writes codes
repeating    every number of the output is a number of the input (or zero, which is on every grid): one grid serves both
selecting    repeating, and some numbers of the input are left out: what remains may have a far smaller range (selections)
fused        Conv -> Relu runs as one kernel: codes are written behind the activation, none exist between
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from genie_onnx.graph.query import attribute, constant, is_constant

INTEGER_OPS = frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid"})
"""Weightless operators with integer kernels: onnxruntime's QDQ rules for its CPU kernels
(core/optimizer/qdq_transformer/selectors_actions/qdq_selector_action_transformer.cc, 1.17 to main). Softmax, which has
one too, is left out: 8 bits are few for what is mostly an output or an attention map, and the kernel is inexact
(`probabilities`). Operators that only repeat numbers need no entry, their neighbours' grids reach them."""

BINARY_OPS = frozenset({"Add", "Mul"})
"""Those of INTEGER_OPS that take two activations. With a constant operand they stay float (no integer kernel without a
grid for the constant), and so does a square, x * x: it begins a norm, whose next steps are float in every runtime."""

FUSED_ACTIVATIONS = frozenset({"Clip", "Relu"})
FUSING_OPS = frozenset({"Add", "Conv", "ConvTranspose", "Gemm", "MatMul"})

REPEATING_OPS = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "GlobalMaxPool",
        "Identity",
        "MaxPool",  # pads with -inf, so padding is never chosen
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators whose outputs repeat numbers of input 0. Concat, Pad and Resize do so under conditions: `repeated_inputs`."""

SELECTING_OPS = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "Split"})
"""Those of REPEATING_OPS that leave numbers out by where they are. A MaxPool leaves out the small ones: the range stays."""


def is_activation(value: ir.Value | None) -> bool:
    """Whether `value` is a float32 tensor computed or fed in at run time: the only kind that can get Q/DQ."""
    return value is not None and not is_constant(value) and value.dtype == ir.DataType.FLOAT


def activations(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    """Return those of `values` that are activations."""
    return [v for v in values if v is not None and is_activation(v)]


def repeated_inputs(node: ir.Node) -> tuple[ir.Value | None, ...]:
    """Return the inputs whose numbers make up the node's outputs; empty where the node computes new numbers.

    A Concat's constant operand is among them: it is not on the grid of the others.
    """
    if node.domain != "" or not activations(node.inputs):
        return ()
    match node.op_type:
        case "Concat":
            return tuple(node.inputs)
        case "Pad":
            return (node.inputs[0],) if _pads_with_zero_or_copies(node) else ()
        case "Resize":
            nearest = attribute(node, "mode", "nearest") == "nearest"
            inside = attribute(node, "coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"
            return (node.inputs[0],) if nearest and inside else ()
        case op if op in REPEATING_OPS:
            return (node.inputs[0],)
        case _:
            return ()


def probabilities(nodes: Iterable[ir.Node]) -> frozenset[ir.Value]:
    """Return the values with numbers that a Softmax computed, given all nodes in topological order. They are never rounded.

    Between DequantizeLinear and QuantizeLinear, onnxruntime makes of a Softmax QLinearSoftmax, which divides by floor(1 / scale)
    (core/providers/cpu/quantization/qlinear_softmax.cc): codes are off by one for most scales, which no simulation follows.
    """
    found: set[ir.Value] = set()
    for node in nodes:
        if (node.domain == "" and node.op_type == "Softmax") or any(v in found for v in repeated_inputs(node)):
            found.update(node.outputs)
    return frozenset(found)


def reads_near_a_pole(value: ir.Value) -> bool:
    """Whether a reader of `value` has a pole, or no result beyond an edge: Log of what rounds to 0, Acos of what rounds beyond 1.

    Behind a Clip that keeps a value off that place, rounding puts it back there, and the result is infinite or no number.
    """
    return any(use.idx in _POLES.get(use.node.op_type, ()) and use.node.domain == "" for use in value.uses()) or any(
        use.idx == 0 and use.node.op_type == "Pow" and (power := constant(use.node.inputs[1])) is not None and power.min() < 0
        for use in value.uses()
    )


_POLES = dict.fromkeys(("Acos", "Acosh", "Asin", "Atanh", "Log", "Reciprocal", "ReduceLogSum"), (0,)) | {"Div": (1,)}
"""Operators with a pole or an edge, and the operand that must not be moved onto it. An infinite slope alone is none: Sqrt."""


def _pads_with_zero_or_copies(node: ir.Node) -> bool:
    if attribute(node, "mode", "constant") != "constant":
        return True
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    fill = constant(node.inputs[2])
    return fill is not None and not fill.any()


def written_value(node: ir.Node) -> ir.Value:
    """Return the value that an integer kernel for `node` writes: output 0, or what the fused activation makes of it.

    A MatMul has no bias input, so the addition of a constant behind it is counted as part of it.
    """
    value = node.outputs[0]
    if node.op_type not in FUSING_OPS:
        return value
    reader = sole_reader(value)
    if node.op_type == "MatMul" and reader is not None and reader.op_type == "Add" and any(is_constant(v) for v in reader.inputs):
        value = reader.outputs[0]
        reader = sole_reader(value)
    if reader is not None and reader.domain == "" and reader.op_type in FUSED_ACTIVATIONS and reader.inputs[0] is value:
        return reader.outputs[0]
    return value


def sole_reader(value: ir.Value) -> ir.Node | None:
    """Return the only node that reads `value`, None where there are none or several, or where it is a graph output."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def computes_in_integers(node: ir.Node) -> bool:
    """Whether an integer runtime has a kernel for this weightless node."""
    if node.domain != "" or node.op_type not in INTEGER_OPS:
        return False
    inputs = activations(node.inputs)
    return len(set(inputs)) == 2 if node.op_type in BINARY_OPS else bool(inputs)
