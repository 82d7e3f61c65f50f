"""Weights and values in QONNX form: floats that pass through Quant nodes of the domain qonnx.custom_op.general.

    w : FLOAT          s (codes - z) : FLOAT -> Quant(s, z, bits) -> readers
    v -> readers       v -> Quant(s, z, bits) -> readers

    Quant(x) = s (round(clip(x / s + z, lo, hi)) - z)         half to even; lo, hi: of `bits` bits, signed or not

A grid that is centred (zero point 2^(bits-1)) becomes signed with zero point 0, any other unsigned with its own. Where the zero
point is 0 that is DequantizeLinear(QuantizeLinear(x)) to the last bit; elsewhere the sum x / s + z is rounded a second time, as a
float, and what lies half-way between two codes goes to the other one where z is odd. For codes of weights, which are whole
numbers, that makes no difference.

The operator is defined in the file as a function of ONNX's own operators, so that any runtime that knows functions runs it.
https://github.com/fastmachinelearning/qonnx/blob/main/docs/qonnx-custom-ops/quant_op.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx.parser
import onnx_ir as ir

from genie_onnx.exporter.builder import Builder
from genie_onnx.exporter.values import hand_out, insert_behind, read_instead
from genie_onnx.placement import ActivationSpec, WeightSpec
from genie_onnx.qparams import FloatArray, QParams, QTensor
from genie_onnx.targets import QUANT_DOMAIN, Target

VERSION = 1
_DEFINITION = """
<domain: "{domain}", opset_import: ["" : {opset}]>
Quant <signed, narrow, rounding_mode> (x, scale, zeropt, bitwidth) => (y)
{{
    s_int = Constant <value_int: int = @signed> ()
    n_int = Constant <value_int: int = @narrow> ()
    s = Cast <to: int = 1> (s_int)
    n = Cast <to: int = 1> (n_int)
    one = Constant <value_float: float = 1.0> ()
    two = Constant <value_float: float = 2.0> ()
    magnitude = Sub (bitwidth, s)
    count = Pow (two, magnitude)
    top = Sub (count, one)
    unsigned = Sub (one, s)
    narrow_unsigned = Mul (unsigned, n)
    high = Sub (top, narrow_unsigned)
    lowest = Sub (n, count)
    low = Mul (s, lowest)
    steps = Div (x, scale)
    position = Add (steps, zeropt)
    above = Max (position, low)
    within = Min (above, high)
    code = Round (within)
    centred = Sub (code, zeropt)
    y = Mul (centred, scale)
}}
"""


def define_quant(model: ir.Model, opset: int) -> None:
    """Let `model` know the operator, as a function in place. `rounding_mode` is ROUND, which is all that is written here."""
    function = onnx.parser.parse_function(_DEFINITION.format(domain=QUANT_DOMAIN, opset=opset))
    made = ir.serde.deserialize_function(function)
    model.functions[made.identifier()] = made
    model.graph.opset_imports[QUANT_DOMAIN] = VERSION


def quant_weights(builder: Builder, specs: tuple[WeightSpec, ...], weights: Mapping[str, QTensor]) -> dict[str, str]:
    """Put Quant between the initializer of every spec and its nodes in place. Return the name of the tensor that has the rounded
    numbers by initializer name: that initializer, or a copy where another reader keeps the float one."""
    return {spec.value: _quant_weight(builder, spec, weights[spec.value]) for spec in specs}


def _quant_weight(builder: Builder, spec: WeightSpec, weight: QTensor) -> str:
    value = builder.graph.initializers[spec.value]
    readers = [(node, index) for node, index in value.uses() if node.name in spec.nodes]
    if len(readers) < len(value.uses()) or value.is_graph_output():
        value = builder.initializer(f"{spec.value}_rounded", weight.dequantize())
    else:
        value.const_value = ir.tensor(weight.dequantize(), name=spec.value)
    node = _quant(builder, value, spec.value, weight.qparams, weight.codes.ndim)
    read_instead(readers, builder.prepend(node))
    return str(value.name)


def quant_means(builder: Builder, means: Sequence[tuple[ir.Node, FloatArray]]) -> None:
    """Put Quant between each convolution that computes a mean and its weight, which is its scale everywhere: the code 1."""
    for node, scale in means:
        weight = node.inputs[1]
        assert weight is not None
        grid = QParams(bits=2, scale=scale, zero_point=np.zeros((), np.int64))
        node.replace_input_with(1, builder.prepend(_quant(builder, weight, str(weight.name), grid, 0)))


def quant_values(
    builder: Builder,
    values: Mapping[str, ir.Value],
    specs: tuple[ActivationSpec, ...],
    grids: Mapping[str, QParams],
    target: Target,
    from_floats: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Put Quant on every value of `specs` in place, as `quantize_activations` puts Q/DQ. Return the name of what it yields by
    value name."""
    rounded = {}
    for spec in specs:
        for name in spec.values:
            value = values[name]
            readers = [(n, i) for n, i in value.uses() if from_floats.isdisjoint(str(v.name) for v in n.outputs)]
            node = _quant(builder, value, name, grids[spec.name], 0)
            insert_behind(builder.graph, value, [node])
            read_instead(readers, node.outputs[0])
            if target.constraints.outputs == "rounded" and value.is_graph_output():
                hand_out(builder.graph, value, node.outputs[0])
            rounded[name] = str(node.outputs[0].name)
    return rounded


def _quant(builder: Builder, value: ir.Value, name: str, grid: QParams, rank: int) -> ir.Node:
    """Make the Quant node of `value`, of so many dimensions where the grid is one a channel; it is not in the graph yet."""
    scale, zero_point = grid.along(rank)
    signed = bool((grid.zero_point == 2 ** (grid.bits - 1)).all())
    parameters = {
        "scale": scale,
        "zero_point": np.zeros_like(scale) if signed else zero_point.astype(np.float32),
        "bits": np.asarray(grid.bits, np.float32),
    }
    inputs = [builder.initializer(f"{name}_{kind}", _float32(array)) for kind, array in parameters.items()]
    node = builder.node("Quant", [value, *inputs], name, f"{name}_quant")
    node.domain = QUANT_DOMAIN
    attributes: dict[str, int | str] = {"signed": int(signed), "narrow": 0, "rounding_mode": "ROUND"}
    node.attributes.update({key: ir.convenience.convert_attribute(key, entry) for key, entry in attributes.items()})
    return node


def _float32(array: np.ndarray) -> FloatArray:
    return np.asarray(array, np.float32)
