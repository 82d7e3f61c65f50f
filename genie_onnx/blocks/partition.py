"""partition: graph -> blocks, every node in exactly one, in topological order.

Blocks come from the shape of the graph, not from names: fork-join regions become cores, what lies between them is cut by
rule (cut.py), long skips make blocks with several inputs. The same holds with BatchNormalization kept and folded.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from genie_onnx.blocks.block import Block, Kind, make_block, violations
from genie_onnx.blocks.cut import cut
from genie_onnx.blocks.dataflow import Dataflow, dataflow
from genie_onnx.blocks.order import topological
from genie_onnx.blocks.regions import find_regions
from genie_onnx.blocks.runs import linear_runs
from genie_onnx.blocks.units import Unit, split_run
from genie_onnx.graph.query import weighted_nodes


def partition(graph: ir.Model) -> tuple[Block, ...]:
    """Return the blocks of a normalised graph in topological order; those without weights have the kind "float".

    Should the rules ever give something that is no partition in topological order (shape arithmetic can tie blocks
    together in ways that the data path does not show), the blocks are single layers instead.
    """
    blocks = by_structure(graph)
    return by_layer(graph) if violations(graph, blocks) else blocks


def by_structure(graph: ir.Model) -> tuple[Block, ...]:
    """Return the blocks as the rules have them; `violations` may find something in them."""
    flow = dataflow(graph)
    reaches_weights = _reaching(flow)
    groups: list[tuple[set[ir.Node], Kind]] = []
    for run in linear_runs(flow, find_regions(flow, reaches_weights), reaches_weights):
        if run.weighted:
            blocks = cut(split_run(flow, run, reaches_weights))
            groups += [({flow.nodes[i] for u in units for i in u.nodes}, _kind(units)) for units in blocks]
        elif run.items[-1].nodes[-1] in reaches_weights:
            groups.append(({flow.nodes[i] for item in run.items for i in item.nodes}, "float"))
    placed = {node for nodes, _ in groups for node in nodes}
    groups.append(({node for node in flow.nodes if node not in placed}, "float"))  # the tails of all heads
    _place_shape_arithmetic(graph, [nodes for nodes, _ in groups])
    return tuple(make_block(graph, nodes, kind) for nodes, kind in _ordered(graph, groups) if nodes)


def by_layer(graph: ir.Model) -> tuple[Block, ...]:
    """Return a block for each weighted node with the weightless nodes up to the next: consecutive stretches of the node order."""
    weighted = set(weighted_nodes(graph))
    stretches: list[list[ir.Node]] = [[]]
    for node in graph.graph:
        if node in weighted and not weighted.isdisjoint(stretches[-1]):
            stretches.append([])
        stretches[-1].append(node)
    return tuple(make_block(graph, nodes, "chain") for nodes in stretches if nodes)


def _ordered(graph: ir.Model, groups: list[tuple[set[ir.Node], Kind]]) -> list[tuple[set[ir.Node], Kind]]:
    """Return `groups` so that each comes after those it reads; as they are where that is impossible."""
    place = {node: i for i, (nodes, _) in enumerate(groups) for node in nodes}
    before: dict[int, set[int]] = {i: set() for i in dict.fromkeys(place[node] for node in graph.graph)}
    for node in graph.graph:
        sources = (v.producer() for v in node.inputs if v is not None)
        before[place[node]] |= {place[s] for s in sources if s is not None} - {place[node]}
    order = topological(list(before), before)
    return [groups[i] for i in order] if len(order) == len(before) else groups


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
