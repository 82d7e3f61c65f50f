"""Fork-join regions: one value in, one node out, branches between.

    value f ──▶ conv ─▶ conv ─▶ Add j          a residual block: region {conv, conv, Add}
         └──────────────────────┘

For a value f read by several nodes, j is where the first k of its readers meet (their lowest common ancestor in the
post-dominator tree), k = all .. 2: readers far away (a tap for a feature pyramid, a U-Net skip) are left out. A node
with several outputs (Split) is a fork itself and belongs to its region. By construction of j nothing leaves a region but
through j; it is a region if nothing but f enters it. Behind the last layers only an Add or a gate joins features; another
Concat or Mul there puts the outputs of heads together, which stay blocks of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from genie_onnx.blocks.dataflow import Dataflow, PostDominators
from genie_onnx.blocks.operators import activation_operands, is_downsampling, is_global_pool, is_upsampling

# Both heuristics, set so that the published architectures fall into their named blocks (tests/blocks): the largest
# Inception module has 10 convolutions; a U-Net's bottom level, one pooling and one upsampling, has 3 or 4.
MAX_WEIGHTS = 10
MAX_WEIGHTS_U_SHAPE = 4


@dataclass(frozen=True, kw_only=True)
class Region:
    """Nodes between a fork (not included, unless it is a Split) and their join (included)."""

    nodes: frozenset[int]
    join: int
    kind: Literal["core", "gate", "op"]  # op: no weights, x * sigmoid(x); gate: squeeze-excite; core: any other


def find_regions(flow: Dataflow, reaches_weights: Set[int]) -> list[Region]:
    """Return the outermost regions, disjoint, in topological order. `reaches_weights`: nodes with a weighted node below."""
    tree = PostDominators(flow)
    found = [r for starts, inside in _forks(flow) if (r := _region(flow, tree, reaches_weights, starts, inside)) is not None]
    taken: set[int] = set()
    outermost = []
    for region in sorted(found, key=lambda r: (-len(r.nodes), r.join)):
        if taken.isdisjoint(region.nodes):
            taken |= region.nodes
            outermost.append(region)
    return sorted(outermost, key=lambda r: r.join)


def _forks(flow: Dataflow) -> Iterable[tuple[list[int], tuple[int, ...]]]:
    """Yield (nodes where the branches start, nodes of the fork that belong to the region)."""
    inputs = {v: None for i in range(flow.sink) for v in flow.data_inputs(i) if v.is_graph_input()}
    for value in (*inputs, *(v for node in flow.nodes for v in node.outputs)):
        readers = flow.readers(value)
        if len(readers) > 1:
            yield readers, ()
    for i, node in enumerate(flow.nodes):
        starts = [s for s in flow.successors[i] if s != flow.sink]
        if len(node.outputs) > 1 and len(starts) > 1:
            yield starts, (i,)


def _region(
    flow: Dataflow, tree: PostDominators, reaches_weights: Set[int], starts: Sequence[int], inside: tuple[int, ...]
) -> Region | None:
    meets = list(accumulate(starts, tree.meet))
    fewest = len(starts) if inside else 2  # all outputs of a Split are its own
    for k in range(len(starts), fewest - 1, -1):
        join = meets[k - 1]
        nodes = _between(flow, [*inside, *starts[:k]], join) if join != flow.sink else None
        if nodes is not None and _entries(flow, nodes) == 1 and _weights_allow(flow, nodes):
            kind = _kind(flow, nodes, join)
            if join in reaches_weights or kind == "gate" or flow.nodes[join].op_type == "Add":
                return Region(nodes=nodes, join=join, kind=kind)
    return None


def _between(flow: Dataflow, starts: Sequence[int], join: int) -> frozenset[int] | None:
    """Return what is reached from `starts` up to `join`, None once that holds more weights than a region may have."""
    seen = {join}
    todo = [s for s in starts if s != join]
    weights = int(join in flow.weighted)
    while todo:
        i = todo.pop()
        if i in seen:
            continue
        seen.add(i)
        weights += i in flow.weighted
        if weights > MAX_WEIGHTS:
            return None
        todo += [s for s in flow.successors[i] if s not in seen]
    return frozenset(seen) if flow.sink not in seen else None


def _entries(flow: Dataflow, nodes: frozenset[int]) -> int:
    """Return the number of distinct values that enter from outside."""
    inside = {flow.nodes[i] for i in nodes}
    return len({v for i in nodes for v in flow.data_inputs(i) if v.producer() not in inside})


def _weights_allow(flow: Dataflow, nodes: frozenset[int]) -> bool:
    members = [flow.nodes[i] for i in nodes]
    u_shape = any(map(is_downsampling, members)) and any(map(is_upsampling, members))
    return len(nodes & flow.weighted) <= (MAX_WEIGHTS_U_SHAPE if u_shape else MAX_WEIGHTS)


def _kind(flow: Dataflow, nodes: frozenset[int], join: int) -> Literal["core", "gate", "op"]:
    if not nodes & flow.weighted:
        return "op"
    members = [flow.nodes[i] for i in nodes]
    adds_up = any(n.op_type == "Concat" or (n.op_type == "Add" and activation_operands(n) > 1) for n in members)
    is_gate = flow.nodes[join].op_type == "Mul" and any(map(is_global_pool, members)) and not adds_up
    return "gate" if is_gate else "core"
