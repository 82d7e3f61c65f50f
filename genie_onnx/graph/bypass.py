"""Operators that pass their input on at inference are taken out.

    y = Identity(x);  y = Dropout(x);  y = Cast(x) to the type of x      every reader of y reads x

A graph output keeps its name: where y is one, x takes the name y. The node stays where that is impossible (x is a
graph input, an initializer or itself a graph output) and where a Dropout's mask is read.
"""

from __future__ import annotations

import onnx_ir as ir


def bypass(model: ir.Model) -> ir.Model:
    """Rewrite in place and return `model`."""
    for node in list(model.graph):
        if _passes_on(node) and not any(v.uses() for v in node.outputs[1:]):
            _forward(model.graph, node)
    return model


def _passes_on(node: ir.Node) -> bool:
    if node.domain != "":
        return False
    if node.op_type == "Cast":
        target, source = node.attributes.get("to"), node.inputs[0]
        return target is not None and source is not None and source.dtype == target.value
    return node.op_type in ("Identity", "Dropout")


def _forward(graph: ir.Graph, node: ir.Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    if any(v.is_graph_output() for v in node.outputs[1:]):
        return
    if result.is_graph_output():
        if source.is_graph_input() or source.is_initializer() or source.is_graph_output():
            return
        name = result.name
        result.replace_all_uses_with(source, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        source.name = name
    else:
        result.replace_all_uses_with(source)
        graph.remove(node, safe=True)
