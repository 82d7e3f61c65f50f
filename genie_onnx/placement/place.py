"""Placement: deploy graph + bits -> one table of everything that is rounded.

    layers -> demands -> groups -> Placement

A value has one quantiser. Values whose numbers only repeat share it, and a group has the largest bits that a layer asks of
any of its values (the largest that anybody asks, where no layer does). Selections that were found to lose much by that have a
grid of their own (selections).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import onnx_ir as ir

from genie_onnx.config import PlacementConfig
from genie_onnx.graph.query import attribute, channel_axis, weight
from genie_onnx.placement.control import refuse_vain_bits, resolve
from genie_onnx.placement.demands import Demand, demands, weight_bits
from genie_onnx.placement.groups import averages, between, connected, roots
from genie_onnx.placement.joins import joins, layers_behind
from genie_onnx.placement.layers import Layers, find_layers
from genie_onnx.placement.masks import masked
from genie_onnx.placement.operators import activations, is_activation, reads_near_a_pole
from genie_onnx.placement.selections import float_readers, read_rounded, selections
from genie_onnx.placement.specs import ActivationSpec, Placement, WeightSpec
from genie_onnx.placement.target_rules import written_last
from genie_onnx.placement.wide import layers_beside
from genie_onnx.targets import PORTABLE, Constraints


class Analysis(NamedTuple):
    """A placement and what led to it."""

    layers: Layers
    asked: list[Demand]
    placement: Placement


def place(
    graph: ir.Model,
    config: PlacementConfig,
    constraints: Constraints = PORTABLE.constraints,
    own: Collection[str] = frozenset(),
) -> Placement:
    """Return which weights and activations of a deploy graph (normalised, BN folded) are rounded, and to how many bits.

    `constraints` are those of the target. `own` has the names of selections that get a grid of their own, where the target can
    have that, and of Concats (joins) and other values (wide) that no grid can hold; names that the graph does not have are passed
    over. Raises ConfigError for patterns of `config` that mean nothing in this graph.
    """
    return analyse(graph, config, constraints, own).placement


def analyse(graph: ir.Model, config: PlacementConfig, constraints: Constraints, own: Collection[str] = frozenset()) -> Analysis:
    """Return the same with the layers and demands it follows from."""
    joined = {str(v.name) for v, _ in joins(graph)}.intersection(own)
    chosen = {str(v.name) for v, _ in selections(graph)}
    wide = {str(v.name) for n in graph.graph for v in n.outputs}.intersection(own) - joined - chosen
    parted = {**layers_beside(graph, wide, chosen.intersection(own)), **layers_behind(graph, joined)}
    layers = find_layers(graph, resolve(graph, config), parted)
    refuse_vain_bits(graph, config, layers.float_nodes)
    asked = demands(graph, layers, config, constraints)
    names = own if constraints.selections == "own" else frozenset[str]()
    apart = frozenset(v for v, _ in selections(graph) if v.name in names and v not in layers.probabilities)
    floats = float_readers(apart)
    placement = Placement(
        weights=_weights(layers, config),
        activations=_activations(graph, layers, asked, config, constraints, apart),
        float_nodes=layers.float_nodes,
        own_grids=frozenset(str(v.name) for v in apart) | joined | wide,
        from_floats=frozenset(str(v.name) for node in floats for v in activations(node.outputs)),
    )
    return Analysis(layers, asked, placement)


def _weights(layers: Layers, config: PlacementConfig) -> tuple[WeightSpec, ...]:
    users: dict[ir.Value, list[ir.Node]] = {}
    for node in layers.quantised:
        users.setdefault(weight(node), []).append(node)
    return tuple(
        WeightSpec(
            value=str(value.name),
            bits=max(weight_bits(n, layers, config)[0] for n in nodes),
            axis=channel_axis(nodes[0]),
            nodes=tuple(str(n.name) for n in nodes),
            ungrouped=all(n.op_type == "Conv" and attribute(n, "group", 1) == 1 for n in nodes),
        )
        for value, nodes in users.items()
    )


def _activations(
    graph: ir.Model,
    layers: Layers,
    asked: list[Demand],
    config: PlacementConfig,
    constraints: Constraints,
    own: frozenset[ir.Value],
) -> tuple[ActivationSpec, ...]:
    order = [v for v in (*graph.graph.inputs, *(v for n in graph.graph for v in n.outputs)) if is_activation(v)]
    nodes = [n for n in graph.graph if n not in layers.kept]
    by_value: dict[ir.Value, list[Demand]] = {}
    for demand in asked:
        by_value.setdefault(demand.value, []).append(demand)
    candidates = layers.feeding if config.points == "full" else between(nodes, by_value)
    if constraints.outputs == "rounded":
        candidates = {*candidates, *written_last(graph, layers)}
    read_by_layer = {d.value for d in asked if d.by_layer}
    behind_masks = masked(graph)
    unrounded = layers.probabilities | behind_masks.keys()
    candidates = {v for v in candidates if v not in unrounded and (v in read_by_layer or not reads_near_a_pole(v))}
    specs = []
    shared = averages(nodes) if constraints.pools == "shared" else frozenset[ir.Node]()
    shared |= {n for n in nodes if n.op_type in constraints.ties and n.inputs[0] in by_value}  # else only the output is rounded
    floats = float_readers(own)
    handed_out = graph.graph.outputs if constraints.outputs == "rounded" else ()
    for joined in connected(nodes, [v for v in order if v in candidates], shared, own, behind_masks):
        group = [v for v in joined if read_rounded(v, floats) or v in handed_out]
        wishes = [d for v in group for d in by_value.get(v, [])]
        by_layer = [d.bits for d in wishes if d.by_layer]
        if by_layer or (wishes and layers.beside_kept_layers.isdisjoint(group)):
            specs.append(
                ActivationSpec(
                    name=str(group[0].name),
                    values=tuple(str(v.name) for v in group),
                    roots=tuple(str(v.name) for v in roots(group, floats)),
                    bits=max(by_layer or [d.bits for d in wishes]),
                )
            )
    return tuple(specs)
