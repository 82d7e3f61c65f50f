"""Rules for operators that take the batch along, and have no constant in which its size could be.

Conv, pools, BatchNormalization      [B, C, H, W] -> (0, t) stays          the batch must be on axis 0
Add, Mul, Relu, ...                  numpy broadcasting; operands without the batch have size 1 on its axis
Transpose perm 1 0 2                 (0, t) -> (1, t)
Softmax, Concat, Gather, ReduceMean  along any axis but the batch
Attention                            within each sample
GatherElements, GridSample           each sample at its own places
MatMul, Gemm                         along rows, columns or stacked matrices, never the axis that is summed over
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from genie_onnx.graph.batch_axis import (
    Batch,
    Batches,
    Moved,
    Rule,
    first_operand,
    integers,
    need_other_axis,
    need_size_one,
    obstacle,
    rank_of,
    without_axes,
)
from genie_onnx.graph.query import attribute, dims


def elementwise(node: ir.Node, batches: Batches) -> Moved:
    """Numpy broadcasting: shapes align at the right."""
    operands = [v for v in node.inputs if v is not None]
    rank = max(rank_of(node, v) for v in operands)
    found = {replace(batches[v], axis=batches[v].axis + rank - rank_of(node, v)) for v in operands if v in batches}
    if len(found) > 1:
        raise obstacle(node, "joins operands that have the batch on different axes")
    (batch,) = found
    for value in operands:
        if value not in batches:
            need_size_one(node, value, batch.axis - rank)
    return Moved(batch)


def batch_first(node: ir.Node, batches: Batches) -> Moved:
    """Operators whose specification puts the batch on axis 0."""
    _, batch = first_operand(node, batches)
    if batch.axis != 0:
        raise obstacle(node, f"has the batch on axis {batch.axis} of its input, not on axis 0")
    return Moved(batch)


def gemm(node: ir.Node, batches: Batches) -> Moved:
    """Gemm with the batch in A: rows of the result."""
    _, batch = first_operand(node, batches)
    if batch.axis != (1 if attribute(node, "transA", 0) else 0):
        raise obstacle(node, "sums over the batch")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        need_size_one(node, node.inputs[2], -2)
    return Moved(replace(batch, axis=0))


def matmul(node: ir.Node, batches: Batches) -> Moved:
    """MatMul of matrices and stacks of them; both operands may carry the batch if both have it on the same stacking axis."""
    rank = max(rank_of(node, v) for v in node.inputs)
    found = set()
    for position, value in enumerate(node.inputs):
        other = node.inputs[1 - position]
        if value is None or other is None or value not in batches:
            continue
        if min(rank_of(node, value), rank_of(node, other)) < 2:
            raise obstacle(node, "multiplies by a vector")
        from_right = batches[value].axis - rank_of(node, value)  # -1 columns, -2 rows, below that: stacked matrices
        if from_right == (-1 if position == 0 else -2):
            raise obstacle(node, "sums over the batch")
        if from_right < -2 and other not in batches:
            need_size_one(node, other, from_right)
        found.add(replace(batches[value], axis=from_right + rank))
    if len(found) > 1:
        raise obstacle(node, "multiplies samples with each other")
    return Moved(found.pop())


def along(default: int | None) -> Rule:
    """Operators that work along one axis (attribute `axis`) and keep the shape elsewhere."""

    def rule(node: ir.Node, batches: Batches) -> Moved:
        value, batch = first_operand(node, batches)
        need_other_axis(node, value, batch, attribute(node, "axis", default))
        return Moved(batch)

    return rule


def behind(node: ir.Node, batches: Batches) -> Moved:
    """Operators that work on all axes from `axis` to the last."""
    value, batch = first_operand(node, batches)
    if attribute(node, "axis", -1) % rank_of(node, value) <= batch.axis:
        raise obstacle(node, "normalises over the batch")
    return Moved(batch)


def reduce(node: ir.Node, batches: Batches) -> Moved:
    """Reduce operators, axes as attribute or (by opset) second input."""
    value, batch = first_operand(node, batches)
    axes = integers(node, 1, "axes") or list(attribute(node, "axes", ()))
    if not axes:
        if attribute(node, "noop_with_empty_axes", 0):
            return Moved(batch)
        raise obstacle(node, "reduces over all axes, the batch among them")
    after = without_axes(node, value, batch, axes)
    return Moved(batch if attribute(node, "keepdims", 1) else after)


def arg_reduce(node: ir.Node, batches: Batches) -> Moved:
    """ArgMax and ArgMin, along attribute `axis`."""
    value, batch = first_operand(node, batches)
    after = without_axes(node, value, batch, [attribute(node, "axis", 0)])
    return Moved(batch if attribute(node, "keepdims", 1) else after)


def attention(node: ir.Node, batches: Batches) -> Moved:
    """Attention within each sample: Q, K and V have the batch on axis 0, a mask with that axis is the same for all."""
    found = {None if v is None else batches.get(v) for v in node.inputs[:3]}
    batch = found.pop()
    if batch is None or found or batch.axis != 0:
        raise obstacle(node, "gets Q, K and V that do not all have the batch on axis 0")
    for mask in node.inputs[3:4]:
        if mask is not None and (mask in batches or rank_of(node, mask) > 3):
            need_size_one(node, mask, -4)
    return Moved(batch)


def concat(node: ir.Node, batches: Batches) -> Moved:
    """Concat of values that all have the batch, on the same axis."""
    value = node.inputs[0]
    batch = None if value is None else batches.get(value)
    if value is None or batch is None or any(v is None or batches.get(v) != batch for v in node.inputs):
        raise obstacle(node, "joins values that do not all have the batch on the same axis")
    need_other_axis(node, value, batch, attribute(node, "axis", None))
    return Moved(batch)


def gather(node: ir.Node, batches: Batches) -> Moved:
    """Gather from a value with the batch, indices without: the gathered axis becomes the axes of the indices."""
    value, batch = first_operand(node, batches)
    axis = attribute(node, "axis", 0) % rank_of(node, value)
    need_other_axis(node, value, batch, axis)
    return Moved(batch if batch.axis < axis else replace(batch, axis=batch.axis - 1 + rank_of(node, node.inputs[1])))


def gather_elements(node: ir.Node, batches: Batches) -> Moved:
    """GatherElements: entry by entry, so that data and indices have the batch on the same axis, and `axis` is another."""
    value, batch = _both_operands(node, batches)
    need_other_axis(node, value, batch, attribute(node, "axis", 0))
    return Moved(batch)


def grid_sample(node: ir.Node, batches: Batches) -> Moved:
    """GridSample: image and grid have the batch on axis 0."""
    _, batch = _both_operands(node, batches)
    if batch.axis != 0:
        raise obstacle(node, f"has the batch on axis {batch.axis} of its input, not on axis 0")
    return Moved(batch)


def _both_operands(node: ir.Node, batches: Batches) -> tuple[ir.Value, Batch]:
    """Return input 0 and its batch, which input 1 has to have in the same way."""
    value, places = node.inputs[:2]
    batch = None if value is None else batches.get(value)
    if value is None or batch is None or places is None or batches.get(places) != batch:
        raise obstacle(node, "has operands that do not both have the batch on the same axis")
    return value, batch


def transpose(node: ir.Node, batches: Batches) -> Moved:
    """Transpose; without `perm` it reverses the axes."""
    value, batch = first_operand(node, batches)
    perm = attribute(node, "perm", tuple(reversed(range(rank_of(node, value)))))
    return Moved(replace(batch, axis=perm.index(batch.axis)))


def unsqueeze(node: ir.Node, batches: Batches) -> Moved:
    """Unsqueeze; `axes` count in the result."""
    value, batch = first_operand(node, batches)
    axes = integers(node, 1, "axes") or []
    rank = rank_of(node, value) + len(axes)
    new = {a % rank for a in axes}
    return Moved(replace(batch, axis=[i for i in range(rank) if i not in new][batch.axis]))


def flatten(node: ir.Node, batches: Batches) -> Moved:
    """Flatten to [prod(shape[:axis]), prod(shape[axis:])]: the batch must come first in its half."""
    value, batch = first_operand(node, batches)
    rank, axis = rank_of(node, value), attribute(node, "axis", 1)
    axis = axis + rank if axis < 0 else axis
    first, last = (0, axis) if batch.axis < axis else (axis, rank)
    shape = dims(value) or ()
    if any(d != 1 for d in shape[first : batch.axis]):
        raise obstacle(node, "puts another axis before the batch and merges the two")
    merged = shape[batch.axis + 1 : last]
    if any(d is None for d in merged):
        raise obstacle(node, "merges the batch with an axis of unknown size")
    times = batch.times * math.prod(d for d in merged if d is not None)
    return Moved(replace(batch, axis=0 if batch.axis < axis else 1, times=times))
