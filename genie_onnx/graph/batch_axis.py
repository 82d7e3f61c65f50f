"""Where the batch is in a value, and what the rules that follow it through operators are made of.

A value carries the batch on `axis` with `times` t and `before` s when its size there is s B t and sample i owns the entries
(p B + i) t + q, p < s and q < t:  [B, C, H, W] is (0, 1);  the channel shuffle's [B C/2, 2, H W] is (0, C/2);  the tokens of an
attention that runs over [L, B, C], put below each other as [L B, C], are (0, 1, L).

A rule (batch_moves.py, batch_constants.py) takes a node and the batch of its inputs and returns the batch of its outputs, and
which constants of the node have the number B baked in and what to write instead so that they hold for every B. A rule
that cannot do so raises FixedBatchError. Samples never mix under these rules, so a graph that passes them computes, for a
batch of any size, what it computes for each sample alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.graph.query import constant, dims


class FixedBatchError(Exception):
    """Why a graph cannot take a batch of another size: half a sentence, naming the node. Never leaves this package."""


@dataclass(frozen=True)
class Batch:
    """The batch dimension of one value: its axis, how many entries in a row there belong to a sample, and how many such rows."""

    axis: int
    times: int = 1
    before: int = 1

    @property
    def entries(self) -> int:
        """Entries of the axis that belong to each sample."""
        return self.before * self.times


@dataclass(frozen=True)
class Edit:
    """Input `index` of a node is to be this constant, or absent."""

    index: int
    array: npt.NDArray[np.generic] | None


@dataclass(frozen=True)
class Moved:
    """The batch of all outputs of a node, and the constants to rewrite."""

    batch: Batch
    edits: tuple[Edit, ...] = ()


Batches = Mapping[ir.Value, Batch]  # values that are not in it do not depend on the batch
Rule = Callable[[ir.Node, Batches], Moved]


def obstacle(node: ir.Node, why: str) -> FixedBatchError:
    """Return the error that says `why` this node stands in the way."""
    return FixedBatchError(f"{node.op_type} '{node.name}' {why}")


def static_shape(node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
    """Return the shape of an operand of `node`, every dimension a number; else raise FixedBatchError."""
    sizes = dims(value)
    if sizes is None or any(d is None for d in sizes):
        raise obstacle(node, "works on a shape that is not known before the model runs")
    return tuple(d for d in sizes if d is not None)


def rank_of(node: ir.Node, value: ir.Value | None) -> int:
    """Return the number of dimensions of an operand of `node`; raise FixedBatchError where it is unknown."""
    if value is None or value.shape is None:
        raise obstacle(node, "works on a value of unknown rank")
    return len(value.shape)


def integers(node: ir.Node, index: int, what: str) -> list[int] | None:
    """Return the int64 constant at input `index`, None where absent; raise FixedBatchError where it is computed."""
    if index >= len(node.inputs) or node.inputs[index] is None:
        return None
    array = constant(node.inputs[index])
    if array is None:
        raise obstacle(node, f"gets its {what} computed while the model runs")
    return [int(i) for i in np.asarray(array).reshape(-1)]


def first_operand(node: ir.Node, batches: Batches) -> tuple[ir.Value, Batch]:
    """Return input 0 and its batch; any other input that carries the batch raises FixedBatchError."""
    value = node.inputs[0]
    if value is None or value not in batches or any(v in batches for v in node.inputs[1:] if v is not None):
        raise obstacle(node, "takes the batch elsewhere than in its first input")
    return value, batches[value]


def need_size_one(node: ir.Node, value: ir.Value, axis_from_right: int) -> None:
    """Raise FixedBatchError unless `value` broadcasts along an axis (-1 is the last): it has size 1 there, or no such axis."""
    if rank_of(node, value) >= -axis_from_right and (dims(value) or ())[axis_from_right] != 1:
        raise obstacle(node, f"combines the batch with '{value.name}', which has a fixed size along it")


def need_other_axis(node: ir.Node, value: ir.Value, batch: Batch, axis: int | None) -> None:
    """Raise FixedBatchError where the axis that `node` works along is the batch."""
    if axis is None or axis % rank_of(node, value) == batch.axis:
        raise obstacle(node, "works along the batch")


def without_axes(node: ir.Node, value: ir.Value, batch: Batch, axes: list[int]) -> Batch:
    """Return the batch after `axes` of `value` are taken out; the batch among them raises FixedBatchError."""
    positive = {a % rank_of(node, value) for a in axes}
    if batch.axis in positive:
        raise obstacle(node, "removes the batch axis")
    return replace(batch, axis=batch.axis - sum(a < batch.axis for a in positive))
