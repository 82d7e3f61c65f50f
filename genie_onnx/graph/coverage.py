"""Of which convolutions the output has known statistics.

Statistics sit on values: what enters a BatchNormalization, or what a folded one left. A convolution is covered where they sit on
its output, or on what only moves that about: a Concat of it with others (DenseNet), the output plus a constant.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from genie_onnx.graph.query import attribute, is_constant, weighted_nodes


@dataclass(frozen=True)
class Coverage:
    """The convolutions (Conv, ConvTranspose) of a model: node name -> value name of its output, in topological order."""

    covered: dict[str, str]
    missing: dict[str, str]

    @property
    def total(self) -> int:
        return len(self.covered) + len(self.missing)

    def __str__(self) -> str:
        return f"{len(self.covered)} of {self.total} convolutions"


def coverage(model: ir.Model, values: Collection[str]) -> Coverage:
    """Return which convolutions of a normalised `model` are covered by statistics of `values`."""
    known = _known(model, values)
    outputs = {str(n.name): str(n.outputs[0].name) for n in weighted_nodes(model) if n.op_type in ("Conv", "ConvTranspose")}
    return Coverage(
        covered={node: value for node, value in outputs.items() if value in known},
        missing={node: value for node, value in outputs.items() if value not in known},
    )


def _known(model: ir.Model, values: Collection[str]) -> set[str]:
    """Return `values`, and those whose statistics follow from them channel by channel."""
    known = set(values)
    for node in reversed(model.graph):
        if node.outputs[0].name in known and _keeps_channels(node):
            known |= {str(value.name) for value in node.inputs if value is not None}
    return known


def _keeps_channels(node: ir.Node) -> bool:
    if node.op_type == "Concat":
        return attribute(node, "axis", 0) == 1
    return node.op_type == "Add" and any(is_constant(operand) for operand in node.inputs)
