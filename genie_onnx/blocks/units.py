"""A run as units: one heavy item each (a layer, a gate, a core) with the weightless items that belong to it.

    conv   relu  maxpool | conv   relu   | globalpool  flatten  gemm  | softmax
    heavy  follow        | heavy  follow | lead                 heavy | tail

Behind a heavy item its activation follows (also normalisation, arithmetic with constants, a channel shuffle), so that the
output of a unit is taken after its activation; local pooling follows too, what is kept for the next block is smaller by it.
Global pooling, which would leave one number a channel to reconstruct, leads the next unit, with all behind it. What follows
the last layers of the network (decoding, Softmax, a permutation for the user) is a tail: it is in no unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from genie_onnx.blocks.dataflow import Dataflow
from genie_onnx.blocks.operators import (
    AFFINE,
    BINARY,
    LAYOUT,
    RECTIFIERS,
    UNARY,
    LayerKind,
    activation_operands,
    is_global_pool,
    is_local_pool,
    is_strided,
    layer_kind,
)
from genie_onnx.blocks.runs import Item, Run
from genie_onnx.graph.query import dims


@dataclass(frozen=True, kw_only=True)
class Unit:
    """`nodes` include the weightless ones that belong to the heavy item."""

    nodes: tuple[int, ...]
    kind: Literal["core", "gate"] | LayerKind
    weights: int
    strided: bool = False  # the layer has a stride above 1
    activated: bool = False  # more than normalisation and layout follows
    joins_by_concat: bool = False  # a core that ends in a Concat
    pooled: bool = False  # a global pooling leads it


def split_run(flow: Dataflow, run: Run, reaches_weights: frozenset[int]) -> list[Unit]:
    """Return the units of a run that has weights; the tail is left out."""
    heavy = [k for k, item in enumerate(run.items) if item.kind != "op"]
    units = []
    start = 0
    for k, following in zip(heavy, [*heavy[1:], None], strict=True):
        weightless = run.items[k + 1 : following]
        follow = _following(flow, run.items[k], weightless, reaches_weights)
        if following is None and weightless and weightless[-1].nodes[-1] in reaches_weights:
            follow = len(weightless)  # what forks behind the run would have no unit to lead
        units.append(_unit(flow, run.items[start:k], run.items[k], weightless[:follow]))
        start = k + 1 + follow
    return units


def _unit(flow: Dataflow, lead: Sequence[Item], heavy: Item, follow: Sequence[Item]) -> Unit:
    nodes = tuple(sorted(i for item in (*lead, heavy, *follow) for i in item.nodes))
    pooled = any(is_global_pool(flow.nodes[i]) for item in lead for i in item.nodes)
    weights = sum(i in flow.weighted for i in heavy.nodes)
    if heavy.kind == "layer":
        layer = flow.nodes[heavy.nodes[0]]
        activated = any(flow.nodes[i].op_type not in AFFINE | LAYOUT for item in follow for i in item.nodes)
        kind = layer_kind(layer)
        return Unit(nodes=nodes, kind=kind, weights=weights, strided=is_strided(layer), activated=activated, pooled=pooled)
    if heavy.kind == "gate":
        return Unit(nodes=nodes, kind="gate", weights=weights, pooled=pooled)
    joins_by_concat = flow.nodes[heavy.nodes[-1]].op_type == "Concat"
    return Unit(nodes=nodes, kind="core", weights=weights, joins_by_concat=joins_by_concat, pooled=pooled)


def _following(flow: Dataflow, heavy: Item, weightless: Sequence[Item], reaches_weights: frozenset[int]) -> int:
    """Return how many of the items behind `heavy` belong to it.

    Layout operators do where they end in the layout they began with (a channel shuffle): the reconstruction loss sums over
    the channels, which must stay on their axis.
    """
    layout = _layout(flow.nodes[heavy.nodes[-1]])
    moved = False
    count = 0
    for k, item in enumerate(weightless):
        nodes = [flow.nodes[i] for i in item.nodes]
        if not _stays(nodes, in_tail=item.nodes[-1] not in reaches_weights):
            break
        moved = moved or any(n.op_type in LAYOUT for n in nodes)
        if not moved or _layout(nodes[-1]) == layout is not None:
            count = k + 1
    return count


def _stays(nodes: Sequence[ir.Node], in_tail: bool) -> bool:
    if in_tail:
        return len(nodes) == 1 and nodes[0].op_type in RECTIFIERS | {"BatchNormalization"}
    if len(nodes) == 1 and nodes[0].op_type in BINARY and activation_operands(nodes[0]) > 1:
        return False  # a join: x * sigmoid(x) is an item of several nodes
    return all(n.op_type in UNARY | BINARY | LAYOUT or is_local_pool(n) for n in nodes)


def _layout(node: ir.Node) -> tuple[int, int] | None:
    """Rank and size of axis 1 of a node's output, None where either is unknown."""
    shape = dims(node.outputs[0])
    return None if shape is None or len(shape) < 2 or shape[1] is None else (len(shape), shape[1])
