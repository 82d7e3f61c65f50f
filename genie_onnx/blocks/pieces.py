"""A block cut into pieces of one weighted layer each, with the weightless nodes behind it: closed-form rounding takes them in
turn.

The pieces are consecutive stretches of the block's nodes, so each reads only what was made before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from genie_onnx.blocks.block import Block, make_block
from genie_onnx.blocks.channels import channels_last
from genie_onnx.blocks.dataflow import dataflow
from genie_onnx.graph.query import weighted_nodes


def pieces(graph: ir.Model, blocks: Sequence[Block]) -> dict[str, tuple[Block, ...]]:
    """Return the pieces of each of `blocks` by the block's name; a block of one layer or none is its own piece."""
    flow, last = dataflow(graph), channels_last(graph)
    weighted = set(weighted_nodes(graph))
    nodes = {str(node.name): node for node in graph.graph}
    found = {}
    for block in blocks:
        stretches: list[list[ir.Node]] = [[]]
        for name in block.nodes:
            node = nodes[name]
            if node in weighted and not weighted.isdisjoint(stretches[-1]):
                stretches.append([])
            stretches[-1].append(node)
        found[block.name] = (
            (block,) if len(stretches) == 1 else tuple(make_block(graph, flow, part, block.kind, last) for part in stretches)
        )
    return found
