"""One block, and what must hold for all blocks of a graph together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from genie_onnx.blocks.dataflow import Dataflow, sources
from genie_onnx.graph.query import weight, weighted_nodes

Kind = Literal["core", "gated", "chain", "float"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Nodes that are reconstructed together. Names are those of the ONNX graph; no tuple lists a name twice."""

    name: str  # its first weighted node, else its first node
    nodes: tuple[str, ...]  # topological
    inputs: tuple[str, ...]  # values of the data path read from outside, in order of first use; no initializers
    outputs: tuple[str, ...]  # values read by other blocks or graph outputs, topological
    targets: tuple[str, ...]  # those of `outputs` that reconstruction compares: floats whose first dimension is the batch
    channels_last: frozenset[str]  # those of `outputs` whose last axis counts channels; elsewhere it is axis 1
    weights: tuple[str, ...]  # initializers that its weighted nodes multiply by
    kind: Kind  # core: has a fork-join region; gated: has a gate (squeeze-excite); chain: neither; float: has no weights


def make_block(graph: ir.Model, flow: Dataflow, nodes: Collection[ir.Node], kind: Kind, last: frozenset[str]) -> Block:
    """Return the block of `nodes`; `last` are the values with channels last.

    What it needs of shape arithmetic it computes itself, from values of the data path.
    """
    inside = set(nodes)
    ordered = [n for n in graph.graph if n in inside]
    weighted = [n for n in weighted_nodes(graph) if n in inside]
    read = [v for n in ordered if n in flow.index for v in n.inputs]
    read += [v for n in ordered if n not in flow.index for v in n.outputs if v.is_graph_output()]
    outputs = [v for n in ordered for v in n.outputs if _read_outside(v, n in flow.index, flow, inside)]
    return Block(
        name=str((weighted or ordered)[0].name),
        nodes=_names(ordered),
        inputs=_names([s for v in read for s in sources(v, flow) if s.producer() not in inside]),
        outputs=_names(outputs),
        targets=_names([v for v in outputs if v.dtype is None or v.dtype.is_floating_point()]),
        channels_last=last.intersection(_names(outputs)),
        weights=_names([weight(n) for n in weighted]),
        kind=kind if weighted else "float",
    )


def violations(graph: ir.Model, blocks: Sequence[Block]) -> list[str]:
    """Return what keeps `blocks` from being a partition in topological order (so that their quotient is acyclic)."""
    listed = [node for block in blocks for node in block.nodes]
    names = [str(n.name) for n in graph.graph]
    if sorted(listed) != sorted(names):
        return [f"{len(names)} nodes, of which {len(set(listed) & set(names))} are in {len(listed)} places of blocks"]
    found: list[str] = []
    known = {str(v.name) for v in graph.graph.inputs}
    for block in blocks:
        found += [f"block '{block.name}' reads '{v}' of a later block" for v in block.inputs if v not in known]
        known.update(block.outputs)
    return found


def _read_outside(value: ir.Value, data: bool, flow: Dataflow, inside: set[ir.Node]) -> bool:
    """Whether other blocks read `value`, be it through shape arithmetic, or the user does."""
    if value.is_graph_output():
        return True
    return data and any(node not in inside for node in _readers(value, flow))


def _readers(value: ir.Value, flow: Dataflow) -> set[ir.Node]:
    """Return the nodes of the data path, and those that compute graph outputs, that need `value`."""
    found: set[ir.Node] = set()
    seen: set[ir.Node] = set()
    waiting = [use.node for use in value.uses()]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in flow.index:
            found.add(node)
            continue
        if any(v.is_graph_output() for v in node.outputs):
            found.add(node)
        waiting += [use.node for v in node.outputs for use in v.uses()]
    return found


def _names(things: Sequence[ir.Node] | Sequence[ir.Value]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(t.name) for t in things))
