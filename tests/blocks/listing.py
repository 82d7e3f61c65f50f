"""Blocks as lists of names, and a piece of graph that several tests of blocks have."""

from __future__ import annotations

import onnx_ir as ir
from graphs import Net

from genie_onnx.blocks import Block, partition
from genie_onnx.blocks.block import violations
from genie_onnx.graph import query


def layers(model: ir.Model) -> list[str]:
    """One line a block: its kind and its weighted nodes."""
    weighted = {str(n.name) for n in query.weighted_nodes(model)}
    blocks = partition(model)
    assert not violations(model, blocks)
    return [f"{b.kind}: {' '.join(n for n in b.nodes if n in weighted)}".strip() for b in blocks]


def ops(model: ir.Model, block: Block) -> list[str]:
    """The operators of a block in order."""
    kinds = {str(n.name): n.op_type for n in model.graph}
    return [kinds[n] for n in block.nodes]


def squeeze_excite(net: Net, name: str, x: str, pool: str = "GlobalAveragePool") -> str:
    pooled = net.op(pool, x) if pool != "ReduceMean" else net.op(pool, x, axes=[2, 3], keepdims=1)
    inner = net.conv(f"{name}.se1", pooled, 4)
    return net.op("Mul", x, net.op("HardSigmoid", net.conv(f"{name}.se2", inner, net.channels[x], act="")))
