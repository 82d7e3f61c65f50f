"""Which weighted layers have what an integer kernel of onnxruntime needs, and why the others have not: read off a placement.

A product of two computed values (attention) has no weight, and is none of them.
"""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.graph.query import WEIGHTED_OPS, is_constant
from genie_onnx.placement.layers import feeding
from genie_onnx.placement.operators import is_activation, written_value
from genie_onnx.placement.specs import Placement
from genie_onnx.targets import Constraints

NO_KERNEL = "onnxruntime has no integer kernel for ConvTranspose, and computes it in float from the same codes"
UNROUNDED = "its input is not rounded"
HEAD = "it is a last layer, and what it writes stays float (--round-outputs rounds it)"
OUTPUT = "what it writes is an output of the model, which stays float (--round-outputs rounds those of last layers)"
SELECTED = "a part of what it writes has a grid of its own, and is taken from floats"
READ_AS_FLOAT = "what it writes is not rounded: {} reads it, and computes in float"
ENDS = "what it writes is not rounded"


def integer_layers(graph: ir.Model, placement: Placement, constraints: Constraints) -> dict[str, str]:
    """Return every weighted layer of a deploy graph by name, topological, with the reason why it computes in float; "" where it
    has all that an integer kernel needs."""
    nodes = list(graph.graph)
    weighted = [n for n in nodes if n.domain == "" and n.op_type in WEIGHTED_OPS and any(map(is_constant, n.inputs[:2]))]
    quantised = {n for n in weighted if str(n.name) not in placement.float_nodes}
    leading_on = feeding(nodes, quantised)
    return {
        str(node.name): placement.float_nodes.get(str(node.name)) or _obstacle(node, placement, constraints, leading_on)
        for node in weighted
    }


def _obstacle(node: ir.Node, placement: Placement, constraints: Constraints, leading_on: frozenset[ir.Value]) -> str:
    """Return why a layer with codes for its weight computes in float."""
    if node.op_type == "ConvTranspose":
        return NO_KERNEL
    if placement.activation_of(str(node.inputs[0].name if node.inputs[0] is not None else "")) is None:
        return UNROUNDED
    if node.op_type != "Conv":
        return ""  # the kernels of a Gemm and of a MatMul write floats as well
    written = written_value(node)
    rounded = placement.activation_of(str(written.name)) is not None
    if constraints.outputs == "float" and not (rounded and not written.is_graph_output()):
        if written not in leading_on:
            return HEAD
        if written.is_graph_output():
            return OUTPUT
    if rounded:
        apart = any(str(v.name) in placement.from_floats for use in written.uses() for v in use.node.outputs)
        return SELECTED if apart else ""
    readers = dict.fromkeys(use.node.op_type for use in written.uses() if is_activation(use.node.outputs[0]))
    return READ_AS_FLOAT.format(" and ".join(readers)) if readers else ENDS
