"""Constants of the model that are put among the numbers of a value as they are, and so stand on its grid with them.

    Pad(x, -10000)      Where(mask, x, -10000)      Concat(x, c)      ScatterND(c, ..., x)      x + mask

One far beyond what the image makes of the value leaves that a handful of codes, whatever calibration saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.placement.operators import repeated_inputs

PLACES = {"Pad": (2,), "Where": (1, 2), "Concat": None, "ScatterND": (0, 2), "ScatterElements": (0, 2), "Add": None}  # None: all


@dataclass(frozen=True, kw_only=True)
class ConstantFill:
    """A value into which `node` puts the constant `number`; the nodes with weights in `layers` read it, also behind repeating."""

    value: str
    node: str
    operator: str
    number: float
    layers: tuple[str, ...]


def constant_fills(reference: ir.Model) -> tuple[ConstantFill, ...]:
    """Return an entry for each constant's smallest and largest number, in topological order."""
    return tuple(
        ConstantFill(
            value=str(node.outputs[0].name),
            node=str(node.name),
            operator=node.op_type,
            number=number,
            layers=tuple(dict.fromkeys(_layers(node.outputs[0]))),
        )
        for node in reference.graph
        if node.domain == "" and node.op_type in PLACES
        for number in _numbers(node)
    )


def _numbers(node: ir.Node) -> list[float]:
    places = PLACES[node.op_type]
    arrays = [
        array
        for index, value in enumerate(node.inputs)
        if (places is None or index in places) and (array := query.constant(value)) is not None
    ]
    ends = {float(end) for a in arrays if a.size and np.issubdtype(a.dtype, np.floating) for end in (a.min(), a.max())}
    return sorted(ends)


def _layers(value: ir.Value) -> Iterator[str]:
    for node, index in value.uses():
        if node.op_type in query.WEIGHTED_OPS:
            if index == 0:
                yield str(node.name)
        elif value in repeated_inputs(node):
            for output in node.outputs:
                yield from _layers(output)
