"""One block, and what must hold for all blocks of a graph together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from genie_onnx.graph.query import is_constant, weight, weighted_nodes

Kind = Literal["core", "gated", "chain", "float"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Nodes that are reconstructed together. Names are those of the ONNX graph; no tuple lists a name twice."""

    name: str  # its first weighted node, else its first node
    nodes: tuple[str, ...]  # topological
    inputs: tuple[str, ...]  # values read from outside, in order of first use; no initializers
    outputs: tuple[str, ...]  # values read outside or graph outputs, topological
    weights: tuple[str, ...]  # initializers that its weighted nodes multiply by
    kind: Kind  # core: has a fork-join region; gated: has a gate (squeeze-excite); chain: neither; float: has no weights


def make_block(graph: ir.Model, nodes: Collection[ir.Node], kind: Kind) -> Block:
    """Return the block of `nodes`."""
    inside = set(nodes)
    ordered = [n for n in graph.graph if n in inside]
    weighted = [n for n in weighted_nodes(graph) if n in inside]
    inputs = [v for n in ordered for v in n.inputs if v is not None and not is_constant(v) and v.producer() not in inside]
    outputs = [v for n in ordered for v in n.outputs if _read_outside(v, inside)]
    return Block(
        name=str((weighted or ordered)[0].name),
        nodes=_names(ordered),
        inputs=_names(inputs),
        outputs=_names(outputs),
        weights=_names([weight(n) for n in weighted]),
        kind=kind if weighted else "float",
    )


def violations(graph: ir.Model, blocks: Sequence[Block]) -> list[str]:
    """Return what keeps `blocks` from being a partition in topological order (so that their quotient is acyclic)."""
    found: list[str] = []
    place = {node: i for i, block in enumerate(blocks) for node in block.nodes}
    listed = [node for block in blocks for node in block.nodes]
    names = [str(n.name) for n in graph.graph]
    if sorted(listed) != sorted(names):
        found.append(f"{len(names)} nodes, of which {len(set(listed) & set(names))} are in {len(listed)} places of blocks")
        return found
    for node in graph.graph:
        for v in node.inputs:
            source = None if v is None else v.producer()
            if source is not None and place[str(source.name)] > place[str(node.name)]:
                found.append(f"'{node.name}' reads '{source.name}' of a later block")
    return found


def _read_outside(value: ir.Value, inside: set[ir.Node]) -> bool:
    return value.is_graph_output() or any(use.node not in inside for use in value.uses())


def _names(things: Sequence[ir.Node] | Sequence[ir.Value]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(t.name) for t in things))
