"""The weighted layers of a graph: which are quantised, and which of them come first, second and last.

Activations run along float values; a layer's ancestors are those its activations went through.

    first     no quantised layer above
    second    every nearest quantised layer above is a first one (in a ResNet: what reads the stem, not what reads
              the stem's skip added to something deeper)
    last      no quantised layer below; a network with several heads has several
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from genie_onnx.graph.query import WEIGHTED_OPS, attribute, channel_axis, is_constant, weight


@dataclass(frozen=True, kw_only=True)
class Layers:
    """`first`, `second` and `last` are names of `quantised` nodes. `float_nodes` and `quantised` are disjoint."""

    quantised: tuple[ir.Node, ...]  # topological
    float_nodes: dict[str, str]  # node name -> why it stays float
    first: frozenset[str]
    second: frozenset[str]
    last: frozenset[str]
    feeding: frozenset[ir.Value]  # values from which a quantised layer is reached downstream


def find_layers(graph: ir.Model) -> Layers:
    """Return the weighted layers of a normalised graph with their roles."""
    nodes = list(graph.graph)
    weighted = [n for n in nodes if n.domain == "" and n.op_type in WEIGHTED_OPS]
    float_nodes = {str(n.name): reason for n in weighted if (reason := _reason_to_stay_float(n)) is not None}
    quantised = tuple(n for n in weighted if str(n.name) not in float_nodes)
    first, second = _first_and_second(nodes, set(quantised))
    feeding = _feeding(nodes, set(quantised))
    last = frozenset(str(n.name) for n in quantised if n.outputs[0] not in feeding)
    return Layers(quantised=quantised, float_nodes=float_nodes, first=first, second=second, last=last, feeding=feeding)


def _reason_to_stay_float(node: ir.Node) -> str | None:
    """Return why a node of WEIGHTED_OPS cannot be quantised, None where it can."""
    data, w = node.inputs[0], weight(node)
    if not is_constant(w):
        return "its weight is computed by the graph, not stored in it"
    if w.dtype != ir.DataType.FLOAT or data is None or data.dtype != ir.DataType.FLOAT:
        return f"it works on {_type(w)} weights and {_type(data)} input; only FLOAT (32 bit) is quantised"
    if is_constant(data):
        return "its input is a constant"
    if w.is_graph_output():
        return f"its weight '{w.name}' is also an output of the graph"
    shape = w.shape
    assert shape is not None  # an initializer has one
    if 0 in shape:
        return f"its weight '{w.name}' is empty"
    if node.op_type == "ConvTranspose" and attribute(node, "group", 1) > 1:
        return "its weight has no axis that counts output channels: ConvTranspose is quantised with group = 1 only"
    if node.op_type == "MatMul" and (len(shape) != 2 or data.shape is None or len(data.shape) != 2):
        rank = "unknown" if data.shape is None else len(data.shape)
        return f"it multiplies tensors of rank {rank} and {len(shape)}; a MatMul is quantised where both are matrices"
    for use in w.uses():
        if use.node.op_type not in WEIGHTED_OPS or use.idx != 1:
            return f"its weight '{w.name}' is also input {use.idx} of {use.node.op_type} '{use.node.name}'"
        if channel_axis(use.node) != channel_axis(node):
            return (
                f"its weight '{w.name}' is tied with {use.node.op_type} '{use.node.name}', which has its channels on another axis"
            )
    return None


def _type(value: ir.Value | None) -> str:
    return "unknown" if value is None or value.dtype is None else value.dtype.name


def _carriers(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    """The values along which activations run: floats that are no constants (so neither shapes nor indices)."""
    return [v for v in values if v is not None and not is_constant(v) and v.dtype is not None and v.dtype.is_floating_point()]


def _first_and_second(nodes: list[ir.Node], quantised: set[ir.Node]) -> tuple[frozenset[str], frozenset[str]]:
    first: set[str] = set()
    second: set[str] = set()
    # Whether all nearest quantised layers above a value are first ones; a value with none above has no entry.
    below_first: dict[ir.Value, bool] = {}
    for node in nodes:
        above = [below_first[v] for v in _carriers(node.inputs) if v in below_first]
        if node in quantised:
            if not above:
                first.add(str(node.name))
            elif all(above):
                second.add(str(node.name))
            below_first[node.outputs[0]] = not above
        elif above:
            below_first.update(dict.fromkeys(_carriers(node.outputs), all(above)))
    return frozenset(first), frozenset(second)


def _feeding(nodes: list[ir.Node], quantised: set[ir.Node]) -> frozenset[ir.Value]:
    feeding: set[ir.Value] = set()
    for node in reversed(nodes):
        if node in quantised or any(v in feeding for v in node.outputs):
            feeding.update(_carriers(node.inputs))
    return frozenset(feeding)
