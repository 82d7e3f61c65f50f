"""Weight initializers become codes behind one DequantizeLinear each.

    w : FLOAT            w_quantized, w_scale, w_zero_point -> DequantizeLinear(axis) -> w

Tied layers go on reading one and the same value.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from genie_onnx.exporter.builder import Builder
from genie_onnx.exporter.containers import store_weight
from genie_onnx.placement import WeightSpec
from genie_onnx.qparams import QTensor
from genie_onnx.targets import Form


def quantize_weights(
    builder: Builder, specs: tuple[WeightSpec, ...], weights: Mapping[str, QTensor], form: Form
) -> dict[str, str]:
    """Replace the initializer of every spec in place. Return the name of the tensor of codes by initializer name.

    A reader that is not among the spec's nodes keeps the float initializer, which then stays in the graph.
    """
    return {spec.value: _quantize(builder, spec, weights[spec.value], form) for spec in specs}


def _quantize(builder: Builder, spec: WeightSpec, weight: QTensor, form: Form) -> str:
    graph, name = builder.graph, spec.value
    value = graph.initializers[name]
    if tuple(value.shape or ()) != weight.codes.shape:
        raise ValueError(f"weight '{name}' is {value.shape} in the graph, its codes are {weight.codes.shape}")
    readers = [(node, index) for node, index in value.uses() if node.name in spec.nodes]
    stays = len(readers) < len(value.uses())
    codes, output = builder.dequantized(
        name,
        store_weight(name, weight, form),
        weight.qparams.scale,
        weight.qparams.axis,
        f"{name}_dequantized",
        f"{weight.qparams.bits}-bit codes of '{name}'",
    )
    for node, index in readers:
        node.replace_input_with(index, output)
    if not stays:
        graph.initializers.pop(name)
        output.name = name
    assert codes.name is not None
    return codes.name


def quantized_readers(graph: ir.Graph, specs: tuple[WeightSpec, ...]) -> dict[str, str]:
    """Return the initializer name of the quantised weight by the name of each node that reads it as input 1."""
    weights = {(node, spec.value) for spec in specs for node in spec.nodes}
    found = {}
    for node in graph:
        value = node.inputs[1] if len(node.inputs) > 1 else None
        if node.name and value is not None and value.name and (node.name, value.name) in weights:
            found[node.name] = value.name
    return found
