"""Which values of a quantised file are on one grid because operators only repeat numbers between them, and who reads them.

A value that spans a small part of such a grid has few codes, whatever calibration saw: more images do not help it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.placement import joined, selections
from genie_onnx.placement.operators import repeated_inputs


@dataclass(frozen=True, kw_only=True)
class SharedGrid:
    """A value that is on one grid with `others`; all by name, topological."""

    value: str
    others: tuple[str, ...]
    selected: bool  # by a Slice, Split or Gather, which can have a grid of its own (placement.selections), or repeats what is
    layers: tuple[str, ...]  # nodes with weights that read it; where none does, that read one of `others`


def shared_grids(reference: ir.Model, grids: Mapping[str, object]) -> tuple[SharedGrid, ...]:
    """Return an entry for every value of the float graph that shares its grid; `grids` tells by equality which are the same."""
    known = query.value_map(reference)
    selected = _selected(reference)
    weighted = set(query.weighted_nodes(reference))
    readers = {v: [str(use.node.name) for use in known[v].uses() if use.node in weighted and use.idx == 0] for v in grids}
    found = []
    for group in joined(reference, grids):
        for value in group:
            others = tuple(v for v in group if v != value and grids[v] == grids[value])
            layers = readers[value] or [node for v in others for node in readers[v]]
            if others:
                found.append(
                    SharedGrid(value=value, others=others, selected=value in selected, layers=tuple(dict.fromkeys(layers)))
                )
    return tuple(found)


def _selected(reference: ir.Model) -> set[str]:
    """Return the names of selections, and of what repeats nothing but those."""
    found = {v for v, _ in selections(reference)}
    for node in reference.graph:
        repeated = repeated_inputs(node)
        if repeated and all(v in found for v in repeated):
            found.update(node.outputs)
    return {str(v.name) for v in found}
