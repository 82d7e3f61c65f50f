"""The blocks of a graph as a comparison needs them: what each reads and hands on, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.validate.compare import MAX_SQNR
from genie_onnx.validate.layerwise.effects import BlockEffect, Effects
from genie_onnx.validate.layerwise.findings import BlockFinding, Effect, ValueFinding, WeightFinding
from genie_onnx.validate.layerwise.pairing import Pairing
from genie_onnx.validate.layerwise.tallies import Nearness
from genie_onnx.validate.layerwise.values import Measured


@dataclass(frozen=True, kw_only=True)
class Part:
    """A block by names. Of what it `makes`, it `hands_on` values to other blocks or the user; `reads` has rounded values, and
    `layers_read` those of them that its layers read."""

    block: str
    nodes: tuple[str, ...]
    makes: tuple[str, ...]
    hands_on: tuple[str, ...]
    reads: tuple[str, ...]
    layers_read: tuple[str, ...]


def parts(reference: ir.Model, pairing: Pairing, blocks: Mapping[str, Sequence[str]]) -> tuple[Part, ...]:
    """Return a part for each of `blocks` (its node names), in their order."""
    owner = owners(blocks)
    nodes: dict[str, list[ir.Node]] = {block: [] for block in blocks}
    for node in reference.graph:
        nodes[owner[str(node.name)]].append(node)
    layers = set(query.weighted_nodes(reference))
    found = []
    for block, members in nodes.items():
        made = [v for node in members for v in node.outputs]
        reads = [
            (node, v)
            for node in members
            for index, v in enumerate(node.inputs)
            if v is not None and str(v.name) in pairing.values and (str(node.name), index) not in pairing.float_reads
        ]
        found.append(
            Part(
                block=block,
                nodes=_names(members),
                makes=_names(made),
                hands_on=_names(
                    v for v in made if v.is_graph_output() or any(owner[str(u.node.name)] != block for u in v.uses())
                ),
                reads=_names(v for _, v in reads),
                layers_read=_names(v for node, v in reads if node in layers),
            )
        )
    return tuple(found)


def owners(blocks: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the block of each node."""
    return {node: block for block, nodes in blocks.items() for node in nodes}


def value_findings(reference: ir.Model, pairing: Pairing, measured: Measured, found: Sequence[Part]) -> tuple[ValueFinding, ...]:
    """Return a finding for each rounded value, the one whose rounding costs most first."""
    known = query.value_map(reference)
    owner = owners({part.block: part.nodes for part in found})
    findings = []
    for name, tally in measured.values.items():
        producer = known[name].producer()
        grid = tally.grid
        findings.append(
            ValueFinding(
                value=name,
                block="" if producer is None else owner[str(producer.name)],
                readers=tuple(part.block for part in found if name in part.reads),
                bits=grid.bits,
                sqnr_db=tally.nearness.sqnr_db,
                rounding_db=tally.rounding.sqnr_db,
                cosine=tally.nearness.cosine,
                saturated=tally.saturated,
                levels=grid.levels,
                used=int((tally.histogram > 0).sum()),
                low=tally.low,
                high=tally.high,
                grid_low=grid.range[0],
                grid_high=grid.range[1],
                scale=float(grid.scale),
                zero_point=grid.zero_point,
                histogram=tuple(int(count) for count in tally.histogram),
            )
        )
    return tuple(sorted(findings, key=lambda value: value.rounding_db))


def block_findings(
    found: Sequence[Part],
    weights: Sequence[WeightFinding],
    values: Sequence[ValueFinding],
    measured: Measured,
    effects: Effects | None,
) -> tuple[BlockFinding, ...]:
    """Return a finding for each block: by share of the noise where that was measured, else by the noise that comes in with it."""
    bits = {value.value: value.bits for value in values}
    findings = []
    for part in found:
        own = [weight for weight in weights if not set(weight.nodes).isdisjoint(part.nodes)]
        results = [measured.nearness[v] for v in part.hands_on if v in measured.nearness]
        effect = None if effects is None else effects.blocks.get(part.block, _untouched(effects))
        findings.append(
            BlockFinding(
                block=part.block,
                nodes=part.nodes,
                weights=tuple(weight.weight for weight in own),
                values=part.reads,
                wbits=min((weight.bits for weight in own), default=None),
                abits=min((bits[v] for v in part.layers_read), default=None),
                sqnr_db=min((nearness.sqnr_db for nearness in results), default=MAX_SQNR),
                cosine=min((nearness.cosine for nearness in results), default=1.0),
                alone=effect.alone if effect else None,
                all_but=effect.all_but if effect else None,
                share=effect.share if effect else None,
            )
        )
    added = {part.block: _added(part, measured.nearness) for part in found}
    return tuple(sorted(findings, key=lambda b: added[b.block] if b.share is None else b.share, reverse=True))


def _untouched(effects: Effects) -> BlockEffect:
    """Return the effect of a block in which nothing is quantised."""
    agreement = None if effects.all.agreement is None else 1.0
    return BlockEffect(alone=Effect(sqnr_db=MAX_SQNR, agreement=agreement), all_but=effects.all, share=0.0)


def _added(part: Part, nearness: Mapping[str, Nearness]) -> float:
    """Return the noise to signal of what a block hands on, less that of what it reads: a hint at what it adds by itself."""
    before, after = (
        max((10 ** (-nearness[v].sqnr_db / 10) for v in values if v in nearness), default=0.0)
        for values in (set(part.reads) - set(part.makes), part.hands_on)
    )
    return after - before


def _names(things: Iterable[ir.Node] | Iterable[ir.Value]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(thing.name) for thing in things))
