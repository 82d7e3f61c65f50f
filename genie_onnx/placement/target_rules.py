"""Where targets differ: between a layer and the Add behind it (which OpenVINO and TensorRT fuse), inside a SiLU, at the ends."""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.placement.layers import Layers
from genie_onnx.placement.operators import activations, computes_in_integers, is_activation, repeated_inputs, sole_reader


def fused_into_sums(graph: ir.Model, layers: Layers) -> frozenset[ir.Value]:
    """Return what layers write for an Add alone, one value for each Add: a runtime that fuses the two has no codes there.

    Of two layers before one Add the later is fused; what the earlier writes is the sum's other operand, and is rounded.
    """
    rank = {node.outputs[0]: k for k, node in enumerate(layers.quantised)}
    fused = set()
    for node in graph.graph:
        if node.domain == "" and node.op_type == "Add" and computes_in_integers(node):
            operands = [v for v in activations(node.inputs) if v in rank and sole_reader(v) is node]
            fused.update(sorted(operands, key=lambda v: rank[v])[-1:])
    return frozenset(fused)


def gates(graph: ir.Model) -> frozenset[ir.Value]:
    """Return every sigmoid(x) that x alone is multiplied with: a runtime that fuses the three nodes has no codes there."""
    found = set()
    for node in graph.graph:
        if node.domain == "" and node.op_type == "Sigmoid":
            reader = sole_reader(node.outputs[0])
            if reader is not None and reader.op_type == "Mul" and node.inputs[0] in reader.inputs:
                found.add(node.outputs[0])
    return frozenset(found)


def written_last(graph: ir.Model, layers: Layers) -> frozenset[ir.Value]:
    """Return what the last layers write, and what repeats its numbers (a Flatten, a Concat of heads) on the way to an output."""
    found: set[ir.Value] = set()
    for node in graph.graph:
        repeated = repeated_inputs(node)
        if str(node.name) in layers.last and node in layers.quantised and is_activation(node.outputs[0]):
            found.add(node.outputs[0])
        elif repeated and all(v in found for v in repeated):
            found.update(activations(node.outputs))
    return frozenset(found)
