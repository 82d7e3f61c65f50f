"""Which axis of a value counts channels: axis 1 as in images, or the last as in tokens [N, T, C] and maps [N, H, W, C].

Conv, ConvTranspose                  axis 1, like the image itself
MatMul or Gemm with a weight         the last
Transpose                            where it takes that axis
Reshape, Gather, Squeeze ...         the last where it was, and has kept its size
anything else                        as in the operand of the same rank
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from genie_onnx.blocks.operators import layer_kind
from genie_onnx.graph.query import attribute, dims, is_constant, weighted_nodes


def channels_last(graph: ir.Model) -> frozenset[str]:
    """Return the names of the values whose last axis counts channels; for [N, C] it is both, and they may be missing."""
    weighted = set(weighted_nodes(graph))
    found: set[ir.Value] = set()
    for node in graph.graph:
        if layer_kind(node) == "linear" if node in weighted else _passed_on(node, found):
            found.update(node.outputs)
    return frozenset(str(v.name) for v in found)


def _passed_on(node: ir.Node, last: Collection[ir.Value]) -> bool:
    """Whether a node without weights has channels on the last axis of output 0, given the values before it that do."""
    shape = dims(node.outputs[0])
    operands = [v for v in node.inputs if v is not None and not is_constant(v)]
    if shape is None or not operands:
        return False
    source = next((v for v in operands if len(dims(v) or ()) == len(shape)), operands[0])
    if node.op_type == "Transpose":
        rank = len(shape)
        order = attribute(node, "perm", tuple(reversed(range(rank))))
        return rank > 1 and order[-1] == (rank - 1 if source in last else 1)
    before = dims(source)
    if source not in last or not before or not shape:
        return False
    return before[-1] == shape[-1] is not None or (len(before) == len(shape) and node.op_type != "Reshape")
