"""Why placement is as it is, for people: who asked for each rounded value, and why the other operators compute in float."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from genie_onnx.config import PlacementConfig
from genie_onnx.graph.query import WEIGHTED_OPS, weight
from genie_onnx.placement.control import resolve
from genie_onnx.placement.demands import beside_kept, reads_probabilities, weight_bits
from genie_onnx.placement.islands import on_islands
from genie_onnx.placement.layers import Layers, find_layers
from genie_onnx.placement.operators import (
    FUSED_ACTIVATIONS,
    FUSING_OPS,
    INTEGER_OPS,
    activations,
    computes_in_integers,
    repeated_inputs,
    written_value,
)
from genie_onnx.placement.place import analyse
from genie_onnx.placement.selections import selections
from genie_onnx.targets import PORTABLE, Constraints

AMONG_FLOATS = "what it reads and what reads it compute in float"


class Row(NamedTuple):
    """One rounded value."""

    value: str
    bits: int
    why: str


def explain(graph: ir.Model, config: PlacementConfig, constraints: Constraints = PORTABLE.constraints) -> tuple[Row, ...]:
    """Return a row for each value that `place` rounds, weights first, saying who asked for it."""
    layers, asked, placement = analyse(graph, config, constraints)
    apart = {str(v.name) for v, _ in selections(graph)} if constraints.selections == "own" else set()
    whys: dict[str, list[str]] = {}
    for node in layers.quantised:
        whys.setdefault(str(weight(node).name), []).append(weight_bits(node, layers, config)[1])
    for demand in asked:
        whys.setdefault(str(demand.value.name), []).append(demand.why)
    rows = [Row(spec.value, spec.bits, "; ".join(whys[spec.value])) for spec in placement.weights]
    for group in placement.activations:
        for value in group.values:
            why = whys.get(value, [f"repeats numbers of '{group.name}'"])
            if value in apart and value not in group.roots:
                why = [*why, "selected: a grid of its own where calibration images show that it pays"]
            rows.append(Row(value, group.bits, "; ".join(why)))
    return tuple(rows)


def float_operators(graph: ir.Model, config: PlacementConfig) -> dict[str, str]:
    """Return the weightless nodes that compute new numbers in float, with the reason, topological.

    Operators that only repeat numbers, activations fused into the node before them, and shape arithmetic are not among them.
    """
    layers = find_layers(graph, resolve(graph, config))
    fused = {node for producer in graph.graph for node in _fused(producer)}
    islands = on_islands(graph, layers)
    found = {}
    for node in graph.graph:
        if node.op_type in WEIGHTED_OPS or node in fused or not activations(node.inputs) or repeated_inputs(node):
            continue
        reason = _reason(node, layers, config) or (AMONG_FLOATS if node in islands else None)
        if reason is not None:
            found[str(node.name)] = reason
    return found


def _reason(node: ir.Node, layers: Layers, config: PlacementConfig) -> str | None:
    """Return why a weightless node computes in float, None where it does not."""
    if node in layers.kept:
        return "asked for with --keep-float"
    if written_value(node) not in layers.feeding:
        return "behind the last layers"
    if node.op_type in FUSED_ACTIVATIONS:
        return "not fused: no layer or Add stands alone before it"
    if node.op_type not in INTEGER_OPS:
        return "no integer kernel in onnxruntime"
    if not computes_in_integers(node):
        return "its other operand is a constant, or itself"
    if reads_probabilities(node, layers):
        return "beside a Softmax, whose results stay float"
    if config.points == "layer-inputs":
        return "--points layer-inputs rounds inputs of layers only"
    return "beside a node that is kept float" if beside_kept(node, layers) else None


def _fused(node: ir.Node) -> list[ir.Node]:
    """Return the nodes that one kernel computes together with `node`: what lies between its output and the value it writes."""
    found = []
    if node.domain == "" and node.op_type in FUSING_OPS:
        value = written_value(node)
        while (producer := value.producer()) is not None and producer is not node:
            found.append(producer)
            value = activations(producer.inputs)[0]
    return found
