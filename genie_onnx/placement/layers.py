"""The weighted layers of a graph: which are quantised, and which of them come first, second and last.

Activations run along float values; a layer's ancestors are those its activations went through.

    first     no quantised layer above
    second    every nearest quantised layer above is a first one (in a ResNet: what reads the stem, not what reads
              the stem's skip added to something deeper)
    last      no quantised layer below; a network with several heads has several

A layer that is kept float on request has its role all the same: asking for it changes no bits anywhere else. Layers that
read one weight are quantised together, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir as ir

from genie_onnx.config import LayerBits
from genie_onnx.graph.query import WEIGHTED_OPS, attribute, channel_axis, is_constant, weight
from genie_onnx.placement.control import Control
from genie_onnx.placement.operators import activations, probabilities, written_value


@dataclass(frozen=True, kw_only=True)
class Layers:
    """`first`, `second` and `last` are names of nodes that are quantised or kept. `float_nodes` and `quantised` are disjoint."""

    quantised: tuple[ir.Node, ...]  # topological
    float_nodes: dict[str, str]  # weighted node name -> why it stays float
    first: frozenset[str]
    second: frozenset[str]
    last: frozenset[str]
    feeding: frozenset[ir.Value]  # values from which such a layer is reached downstream
    kept: frozenset[ir.Node]  # nodes with or without weights that stay float on request, and layers tied with such
    beside_kept: frozenset[ir.Value]  # activations that kept nodes read or write ...
    beside_kept_layers: frozenset[ir.Value]  # ... and those among them that are a kept layer's
    probabilities: frozenset[ir.Value]  # what a Softmax computed: never rounded
    bits: Mapping[str, LayerBits]  # quantised node name -> bits that were asked for it alone


def find_layers(graph: ir.Model, control: Control, parted: Mapping[str, str] = MappingProxyType({})) -> Layers:
    """Return the weighted layers of a normalised graph with their roles; those of `parted` stay float, too, for a reason."""
    nodes = list(graph.graph)
    weighted = [n for n in nodes if n.domain == "" and n.op_type in WEIGHTED_OPS]
    never_rounded = probabilities(nodes)
    unfit = {str(n.name): reason for n in weighted if (reason := _reason_to_stay_float(n, never_rounded)) is not None}
    unfit |= _tied(weighted, unfit)
    kept = {str(n.name): f"asked for with --keep-float {p!r}" for n in nodes if (p := control.kept.get(str(n.name)))}
    kept = {**parted, **kept}
    kept |= _tied(weighted, kept)
    fit = [n for n in weighted if str(n.name) not in unfit]
    quantised = tuple(n for n in fit if str(n.name) not in kept)
    kept_nodes = frozenset(n for n in nodes if str(n.name) in kept)
    first, second = _first_and_second(nodes, set(fit))
    leading_on = feeding(nodes, set(fit))
    return Layers(
        quantised=quantised,
        float_nodes={str(n.name): unfit.get(str(n.name)) or kept[str(n.name)] for n in weighted if n not in quantised},
        first=first,
        second=second,
        last=frozenset(str(n.name) for n in fit if n.outputs[0] not in leading_on),
        feeding=leading_on,
        kept=kept_nodes,
        beside_kept=frozenset(v for n in kept_nodes for v in _touched(n)),
        beside_kept_layers=frozenset(v for n in kept_nodes.intersection(fit) for v in _touched(n)),
        probabilities=never_rounded,
        bits={str(n.name): control.bits[str(n.name)] for n in quantised if str(n.name) in control.bits},
    )


def _touched(node: ir.Node) -> list[ir.Value]:
    return activations((*node.inputs, *node.outputs, written_value(node)))


def _tied(weighted: Iterable[ir.Node], floats: Mapping[str, str]) -> dict[str, str]:
    """Return reasons for layers that are not in `floats` but read the weight of one that is."""
    found = {}
    for node in weighted:
        w = weight(node)
        partner = next((use.node for use in w.uses() if str(use.node.name) in floats and is_constant(w)), None)
        if partner is not None and str(node.name) not in floats:
            found[str(node.name)] = f"its weight '{w.name}' is tied with {partner.op_type} '{partner.name}', which stays float"
    return found


def _reason_to_stay_float(node: ir.Node, never_rounded: frozenset[ir.Value]) -> str | None:
    """Return why a node of WEIGHTED_OPS cannot be quantised, None where it can."""
    data, w = node.inputs[0], weight(node)
    if not is_constant(w):
        if data is not None and is_constant(data) and node.op_type == "MatMul":
            return f"its weight '{data.name}' is the left factor; a MatMul is quantised where the weight is the right one"
        both = "it multiplies two computed values, and has no weight"
        return both if node.op_type == "MatMul" else "its weight is computed by the graph, not stored in it"
    if w.dtype != ir.DataType.FLOAT or data is None or data.dtype != ir.DataType.FLOAT:
        return f"it works on {_type(w)} weights and {_type(data)} input; only FLOAT (32 bit) is quantised"
    if is_constant(data):
        return "its input is a constant"
    if data in never_rounded:
        return "it reads what a Softmax computes, which has no integer kernel in onnxruntime that rounds as ONNX says"
    if w.is_graph_output():
        return f"its weight '{w.name}' is also an output of the graph"
    shape = w.shape
    assert shape is not None  # an initializer has one
    if 0 in shape:
        return f"its weight '{w.name}' is empty"
    if node.op_type == "ConvTranspose" and attribute(node, "group", 1) > 1:
        return "its weight has no axis that counts output channels: ConvTranspose is quantised with group = 1 only"
    if node.op_type == "MatMul" and len(shape) != 2:
        return f"its weight '{w.name}' has rank {len(shape)}; a MatMul is quantised where the weight is a matrix"
    if node.op_type == "MatMul" and (data.shape is None or len(data.shape) < 2):
        rank = "of unknown rank" if data.shape is None else "a vector"
        return f"its input is {rank}; a MatMul is quantised where it is a matrix or a stack of matrices"
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


def feeding(nodes: list[ir.Node], layers: set[ir.Node]) -> frozenset[ir.Value]:
    """Return the values from which one of `layers` is reached downstream, given all nodes in topological order."""
    found: set[ir.Value] = set()
    for node in reversed(nodes):
        if node in layers or any(v in found for v in node.outputs):
            found.update(_carriers(node.inputs))
    return frozenset(found)
