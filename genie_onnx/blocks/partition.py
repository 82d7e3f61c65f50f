"""partition: graph -> blocks, every node in exactly one, in topological order.

Blocks come from the shape of the graph, not from names: fork-join regions become cores, what lies between them is cut by
rule (cut.py), long skips make blocks with several inputs. The same holds with BatchNormalization kept and folded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import onnx_ir as ir

from genie_onnx.blocks.block import Block, Kind, make_block, violations
from genie_onnx.blocks.channels import channels_last
from genie_onnx.blocks.cut import cut
from genie_onnx.blocks.dataflow import Dataflow, dataflow, sources
from genie_onnx.blocks.order import topological
from genie_onnx.blocks.regions import find_regions
from genie_onnx.blocks.runs import linear_runs
from genie_onnx.blocks.units import Unit, split_run
from genie_onnx.graph.query import image_input, value_map, weighted_nodes

Group = tuple[set[ir.Node], Kind]


def partition(graph: ir.Model) -> tuple[Block, ...]:
    """Return the blocks of a normalised graph in topological order; those without weights have the kind "float".

    Should the rules ever give something that is no partition in topological order, the blocks are single layers instead.
    """
    blocks = by_structure(graph)
    return by_layer(graph) if violations(graph, blocks) else blocks


def by_structure(graph: ir.Model) -> tuple[Block, ...]:
    """Return the blocks as the rules have them; `violations` may find something in them."""
    flow = dataflow(graph)
    reaches_weights = _reaching(flow)
    groups: list[Group] = []
    for run in linear_runs(flow, find_regions(flow, reaches_weights), reaches_weights):
        if run.weighted:
            blocks = cut(split_run(flow, run, reaches_weights))
            groups += [({flow.nodes[i] for u in units for i in u.nodes}, _kind(units)) for units in blocks]
        elif run.items[-1].nodes[-1] in reaches_weights:
            groups.append(({flow.nodes[i] for item in run.items for i in item.nodes}, "float"))
    placed = {node for nodes, _ in groups for node in nodes}
    groups.append(({node for node in flow.nodes if node not in placed}, "float"))  # the tails of all heads
    _place_shape_arithmetic(graph, [nodes for nodes, _ in groups])
    return _blocks(graph, flow, groups)


def by_layer(graph: ir.Model) -> tuple[Block, ...]:
    """Return a block for each weighted node with the weightless nodes up to the next: consecutive stretches of the node order."""
    weighted = set(weighted_nodes(graph))
    stretches: list[set[ir.Node]] = [set()]
    for node in graph.graph:
        if node in weighted and not weighted.isdisjoint(stretches[-1]):
            stretches.append(set())
        stretches[-1].add(node)
    return _blocks(graph, dataflow(graph), [(nodes, "chain") for nodes in stretches])


def doubtful(graph: ir.Model, blocks: Sequence[Block]) -> tuple[str, ...]:
    """Return the values that blocks hand on and whose first dimension is not known, from the graph alone, to be the batch."""
    values = value_map(graph)
    batch = _first_dimension(image_input(graph))
    handed_on = dict.fromkeys(v for block in blocks for v in block.outputs)
    return tuple(v for v in handed_on if batch is None or _first_dimension(values[v]) != batch)


def _first_dimension(value: ir.Value) -> str | None:
    """Return the name of a symbolic first dimension, None for a fixed or unknown one."""
    first = value.shape[0] if value.shape else None
    return first.value if isinstance(first, ir.SymbolicDim) else None


def merge(graph: ir.Model, blocks: Sequence[Block], unbatched: Collection[str]) -> tuple[Block, ...]:
    """Return `blocks` with those joined that hand on a value of `unbatched`, which then stays inside a block.

    `unbatched` are values whose first dimension is not the batch: they cannot be cut into samples, so they can neither be
    stored from block to block nor, where they are outputs of the graph, be the target of a block.
    """
    flow = dataflow(graph)
    nodes = {str(n.name): n for n in graph.graph}
    while (pair := _handed_on(blocks, unbatched)) is not None:
        together = _between(blocks, *pair)
        kinds = {b.kind for b in together}
        kind: Kind = "core" if "core" in kinds else "gated" if "gated" in kinds else "chain"  # no weights: float, by make_block
        groups: list[Group] = [({nodes[n] for n in b.nodes}, b.kind) for b in blocks if b not in together]
        groups.append(({nodes[n] for b in together for n in b.nodes}, kind))
        blocks = _blocks(graph, flow, groups)
    return tuple(dataclasses.replace(b, targets=tuple(v for v in b.targets if v not in unbatched)) for b in blocks)


def _handed_on(blocks: Sequence[Block], unbatched: Collection[str]) -> tuple[Block, Block] | None:
    """Return the first block that reads a value of `unbatched` from another, behind that one; None where there is none."""
    source = {v: block for block in blocks for v in block.outputs if v in unbatched}
    return next(((source[v], block) for block in blocks for v in block.inputs if v in source), None)


def _between(blocks: Sequence[Block], first: Block, last: Block) -> list[Block]:
    """Return all blocks on ways from `first` to `last`, both included: whoever joins these two has to join them all."""
    behind, made = [first], set(first.outputs)
    for block in blocks[blocks.index(first) + 1 : blocks.index(last) + 1]:
        if not made.isdisjoint(block.inputs):
            behind.append(block)
            made.update(block.outputs)
    found, needed = list[Block](), set(last.inputs)
    for block in reversed(behind):
        if block is last or not needed.isdisjoint(block.outputs):
            found.append(block)
            needed.update(block.inputs)
    return found


def _blocks(graph: ir.Model, flow: Dataflow, groups: Sequence[Group]) -> tuple[Block, ...]:
    """Return a block for each group, in topological order; in the order given where there is none."""
    groups = [group for group in groups if group[0]]
    place = {node: i for i, (nodes, _) in enumerate(groups) for node in nodes}
    before: dict[int, set[int]] = {i: set() for i in dict.fromkeys(place[node] for node in graph.graph)}
    for node in flow.nodes:
        above = (v.producer() for read in node.inputs for v in sources(read, flow))
        before[place[node]] |= {place[s] for s in above if s is not None} - {place[node]}
    order = topological(list(before), before)
    if len(order) == len(groups):
        groups = [groups[i] for i in order]
    last = channels_last(graph)
    return tuple(make_block(graph, flow, nodes, kind, last) for nodes, kind in groups)


def _reaching(flow: Dataflow) -> frozenset[int]:
    """The nodes from which a weighted node can be reached, themselves not counted."""
    found: set[int] = set()
    for i in reversed(range(flow.sink)):
        if any(s in found or s in flow.weighted for s in flow.successors[i]):
            found.add(i)
    return frozenset(found)


def _kind(units: Sequence[Unit]) -> Kind:
    kinds = {u.kind for u in units}
    return "core" if "core" in kinds else "gated" if "gate" in kinds else "chain"


def _place_shape_arithmetic(graph: ir.Model, groups: list[set[ir.Node]]) -> None:
    """Add the nodes off the data path to the first block that uses their results (the last block where none does)."""
    place = {node: i for i, nodes in enumerate(groups) for node in nodes}
    for node in reversed(list(graph.graph)):
        if node not in place:
            users = [place[use.node] for v in node.outputs for use in v.uses() if use.node in place]
            place[node] = min(users, default=len(groups) - 1)
            groups[place[node]].add(node)
