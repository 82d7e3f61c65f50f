"""Of which layers the output has known statistics.

Statistics sit on values: what enters a BatchNormalization, or what a folded one left. A layer is covered where they sit on its
output, or on what only moves that about: a Concat of it with others (DenseNet), the output plus a constant, a Reshape of it that
leaves its channels as they are (channel_path).

Convolutions count, and those matrix products that are covered: others mostly have no statistics to miss (attention, classifiers).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from genie_onnx.graph.channel_path import source_axis
from genie_onnx.graph.fold_batchnorm import linear_axis
from genie_onnx.graph.query import attribute, is_constant, weighted_nodes


@dataclass(frozen=True)
class Coverage:
    """Layers of a model: node name -> value name of its output, in topological order. Those missing are convolutions."""

    covered: dict[str, str]
    missing: dict[str, str]
    products: frozenset[str] = frozenset()  # those of `covered` that are a MatMul or Gemm

    @property
    def total(self) -> int:
        return len(self.covered) + len(self.missing)

    @property
    def convolutions(self) -> int:
        """How many of them are convolutions (Conv, ConvTranspose)."""
        return self.total - len(self.products)

    @property
    def unit(self) -> str:
        return "convolutions and matrix products" if self.products else "convolutions"

    def __str__(self) -> str:
        return f"{len(self.covered)} of {self.total} {self.unit}"


def coverage(model: ir.Model, values: Collection[str]) -> Coverage:
    """Return which layers of a normalised `model` are covered by statistics of `values`, each with its channels on axis 1."""
    known = _known(model, values)
    covered: dict[str, str] = {}
    missing: dict[str, str] = {}
    products: set[str] = set()
    for node in weighted_nodes(model):
        name, value, product = str(node.name), str(node.outputs[0].name), node.op_type in ("Gemm", "MatMul")
        if value in known and known[value] == linear_axis(node):
            covered[name] = value
            products |= {name} if product else set()
        elif not product:
            missing[name] = value
    return Coverage(covered, missing, frozenset(products))


def _known(model: ir.Model, values: Collection[str]) -> dict[str, int]:
    """Return `values`, and those whose statistics follow from them channel by channel, with the axis of their channels."""
    known = dict.fromkeys(values, 1)
    for node in reversed(model.graph):
        axis = known.get(str(node.outputs[0].name))
        if axis is None:
            continue
        if _keeps_channels(node, axis):
            found = {str(v.name): axis for v in node.inputs if v is not None and _rank(v) == _rank(node.outputs[0])}
        else:
            source = source_axis(node, axis)
            found = {} if source is None else {str(v.name): source for v in node.inputs[:1] if v is not None}
        known = {**found, **known}
    return known


def _keeps_channels(node: ir.Node, axis: int) -> bool:
    if node.op_type == "Concat":
        return axis in (attribute(node, "axis", 0), attribute(node, "axis", 0) + (_rank(node.outputs[0]) or 0))
    return node.op_type == "Add" and any(is_constant(operand) for operand in node.inputs)


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)
