"""Names of nodes and values: unique, never empty, the user's wherever they were so already."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass


class _Names:
    def generate_node_name(self, node: ir.Node) -> str:
        return node_name(node)

    def generate_value_name(self, value: ir.Value) -> str:
        return value.name or "value"


def node_name(node: ir.Node) -> str:
    """Return the node's name; a nameless node is called after its operator and first output."""
    return node.name or f"{node.op_type}_{next((v.name for v in node.outputs if v.name), '')}"


def fix_names(model: ir.Model) -> ir.Model:
    """Give every node a unique non-empty name, in place (`node_name` where it has none)."""
    NameFixPass(_Names())(model)
    return model


def fresh_name(graph: ir.Graph, wish: str) -> str:
    """Return `wish`, or `wish`_1, `wish`_2, ... so that no value of `graph` has it yet."""
    taken = {v.name for v in graph.inputs} | set(graph.initializers) | {v.name for node in graph for v in node.outputs}
    name, count = wish, 0
    while name in taken:
        count += 1
        name = f"{wish}_{count}"
    return name
