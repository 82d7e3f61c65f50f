"""The data path of a graph as integers: nodes 0..n-1 in topological order, and a virtual sink n.

On the data path is what real inputs reach, except through Shape and Size. The rest is shape arithmetic: no data, not
carried from block to block, but computed anew by every block that needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import onnx_ir as ir

from genie_onnx.graph.query import is_constant, weighted_nodes

SHAPE_OPS = frozenset({"Shape", "Size"})


@dataclass(frozen=True, kw_only=True)
class Dataflow:
    """Edges are distinct and ascending. A node with a graph output, or that nobody reads, has the sink as a successor."""

    nodes: tuple[ir.Node, ...]
    successors: tuple[tuple[int, ...], ...]
    weighted: frozenset[int]
    index: dict[ir.Node, int]

    @property
    def sink(self) -> int:
        """The virtual node behind all outputs."""
        return len(self.nodes)

    def readers(self, value: ir.Value) -> list[int]:
        """Return the distinct data nodes that read `value`, ascending."""
        return sorted({self.index[use.node] for use in value.uses() if use.node in self.index})

    def data_inputs(self, node: int) -> list[ir.Value]:
        """Return the values of the data path that a node reads: graph inputs and outputs of data nodes."""
        inputs = [v for v in self.nodes[node].inputs if v is not None]
        return [v for v in inputs if v.producer() in self.index or (v.is_graph_input() and not v.is_initializer())]


def dataflow(graph: ir.Model) -> Dataflow:
    """Return the data path of a graph whose nodes stand in topological order."""
    reached: set[ir.Value] = {v for v in graph.graph.inputs if not v.is_initializer()}
    nodes: list[ir.Node] = []
    for node in graph.graph:
        if node.op_type not in SHAPE_OPS and any(v in reached for v in node.inputs):
            nodes.append(node)
            reached.update(node.outputs)
    index = {node: i for i, node in enumerate(nodes)}
    successors = []
    for node in nodes:
        readers = {index[use.node] for v in node.outputs for use in v.uses() if use.node in index}
        if not readers or any(v.is_graph_output() for v in node.outputs):
            readers.add(len(nodes))
        successors.append(tuple(sorted(readers)))
    weighted = frozenset(index[n] for n in weighted_nodes(graph) if n in index)
    return Dataflow(nodes=tuple(nodes), successors=tuple(successors), weighted=weighted, index=index)


def sources(value: ir.Value | None, flow: Dataflow) -> Iterator[ir.Value]:
    """Yield the values of the data path that `value` comes from: itself where it is one, else what shape arithmetic reads."""
    seen: set[ir.Value] = set()
    waiting = [value]
    while waiting:
        v = waiting.pop()
        if v is None or v in seen or is_constant(v):
            continue
        seen.add(v)
        node = v.producer()
        if node is None or node in flow.index:
            yield v
        else:
            waiting.extend(node.inputs)


class PostDominators:
    """The post-dominator tree: `parent[i]` is the first node that every path from i to the sink goes through.

    In an acyclic graph one pass in reverse topological order finds it: the parent of i is the lowest common ancestor of
    its successors.
    """

    def __init__(self, flow: Dataflow) -> None:
        self._parent = [flow.sink] * (flow.sink + 1)
        self._depth = [0] * (flow.sink + 1)
        for i in reversed(range(flow.sink)):
            self._parent[i] = reduce(self.meet, flow.successors[i])
            self._depth[i] = self._depth[self._parent[i]] + 1

    def meet(self, a: int, b: int) -> int:
        """Return the lowest common ancestor: the first node that every path from a and every path from b goes through."""
        while a != b:
            if self._depth[a] >= self._depth[b]:
                a = self._parent[a]
            else:
                b = self._parent[b]
        return a
