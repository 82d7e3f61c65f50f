"""Rules for operators whose constants may have the size of the batch in them, B while it is bound.

Reshape [1, 320, 1, 1] by (1, -1)        shape becomes (0, -1);  by (1, 4420, 2) where rows merge: (-1, 4420, 2)
Expand by (1, 64, 64)                    shape entry 1: Expand then keeps the input's size
Slice 0:1 of the batch axis              0:INT64_MAX, which is all of it
Resize to sizes (1, 64, 26, 26)          scales (1, 1, 2, 2)
Squeeze of all axes of size 1            the axes in numbers; the batch among them is an obstacle
Tile, Pad                                nothing to rewrite; they must leave the batch alone
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from genie_onnx.graph.batch_axis import (
    Batch,
    Batches,
    Edit,
    Moved,
    first_operand,
    integers,
    obstacle,
    rank_of,
    static_shape,
    without_axes,
)
from genie_onnx.graph.query import attribute, constant
from genie_onnx.graph.resize_scales import fitting_scale

_INT64_MAX = 2**63 - 1
_WHOLE_AXIS = 2**31 - 1  # exporters write INT32_MAX or INT64_MAX for "to the end"


def reshape(node: ir.Node, batches: Batches) -> Moved:
    """Row-major order is kept, so the batch has as many entries before it, and behind each sample, as it had.

    Axes of size 1 leave a choice. Taken is the axis that a Gemm behind it does not sum over; then one whose entries belong to
    each sample in one row; then the old one; then the first.
    """
    value, batch = first_operand(node, batches)
    wanted = integers(node, 1, "shape") or []
    copies = not attribute(node, "allowzero", 0)  # a 0 then means: the size that the input has on this axis
    if batch.axis == 0 and wanted[:1] == [0] and copies:
        return Moved(batch)
    old, new = static_shape(node, value), static_shape(node, node.outputs[0])
    size = old[batch.axis] // batch.entries  # B
    earlier = math.prod(old[: batch.axis]) * batch.before
    per_sample = batch.times * math.prod(old[batch.axis + 1 :])
    fits = []
    for b in range(len(new)):
        outside, inside = math.prod(new[:b]), math.prod(new[b + 1 :])
        if outside and inside and earlier % outside == 0 and per_sample % inside == 0:
            moved = Batch(b, per_sample // inside, earlier // outside)
            fits += [moved] if moved.entries * size == new[b] else []
    if not fits:
        raise obstacle(node, f"from {list(old)} to {list(new)} mixes the batch with other axes")
    rows = any(reader.op_type == "Gemm" for reader in node.outputs[0].consumers())
    moved = min(fits, key=lambda b: (rows and b.axis != 0, b.before > 1, b.axis != batch.axis, b.axis))
    b = moved.axis
    if wanted[b] == -1 or (wanted[b] == 0 and copies):
        return Moved(moved)
    if moved == batch and copies:
        wanted[b] = 0
    else:
        wanted = list(new)
        wanted[b] = -1
    return Moved(moved, (Edit(1, np.array(wanted, np.int64)),))


def expand(node: ir.Node, batches: Batches) -> Moved:
    """Expand broadcasts both ways: on the batch axis the shape must say 1, or the batch itself."""
    value, batch = first_operand(node, batches)
    wanted = integers(node, 1, "shape") or []
    from_right = batch.axis - rank_of(node, value)
    moved = replace(batch, axis=max(len(wanted), rank_of(node, value)) + from_right)
    if len(wanted) < -from_right or wanted[from_right] == 1:
        return Moved(moved)
    if wanted[from_right] != static_shape(node, value)[batch.axis]:
        raise obstacle(node, "repeats the batch")
    wanted[from_right] = 1
    return Moved(moved, (Edit(1, np.array(wanted, np.int64)),))


def tile(node: ir.Node, batches: Batches) -> Moved:
    """Tile of other axes."""
    _, batch = first_operand(node, batches)
    if (integers(node, 1, "repeats") or [])[batch.axis] != 1:
        raise obstacle(node, "repeats the batch")
    return Moved(batch)


def pad(node: ir.Node, batches: Batches) -> Moved:
    """Pad of other axes."""
    value, batch = first_operand(node, batches)
    rank = rank_of(node, value)
    pads, axes = integers(node, 1, "pads") or [], integers(node, 3, "axes") or list(range(rank))
    for i, axis in enumerate(axes):
        if axis % rank == batch.axis and (pads[i] or pads[i + len(axes)]):
            raise obstacle(node, "pads the batch")
    return Moved(batch)


def slice_(node: ir.Node, batches: Batches) -> Moved:
    """Slice of other axes, or of the whole batch."""
    value, batch = first_operand(node, batches)
    starts, ends = integers(node, 1, "starts") or [], integers(node, 2, "ends") or []
    axes = integers(node, 3, "axes") or list(range(len(starts)))
    steps = integers(node, 4, "steps") or [1] * len(starts)
    for i, axis in enumerate(axes):
        if axis % rank_of(node, value) != batch.axis:
            continue
        if starts[i] != 0 or steps[i] != 1:
            raise obstacle(node, "takes a part of the batch")
        if ends[i] < _WHOLE_AXIS:
            if ends[i] < static_shape(node, value)[batch.axis]:
                raise obstacle(node, "takes a part of the batch")
            ends[i] = _INT64_MAX
            return Moved(batch, (Edit(2, np.array(ends, np.int64)),))
    return Moved(batch)


def squeeze(node: ir.Node, batches: Batches) -> Moved:
    """Squeeze of other axes."""
    value, batch = first_operand(node, batches)
    axes = integers(node, 1, "axes")
    if axes is not None:
        return Moved(without_axes(node, value, batch, axes))
    axes = [i for i, size in enumerate(static_shape(node, value)) if size == 1]
    return Moved(without_axes(node, value, batch, axes), (Edit(1, np.array(axes, np.int64)),))


def resize(node: ir.Node, batches: Batches) -> Moved:
    """Resize of other axes. Scales are out / in as float32, which is what runtimes make of sizes themselves."""
    value, batch = first_operand(node, batches)
    rank = rank_of(node, value)
    axes = [a % rank for a in attribute(node, "axes", tuple(range(rank)))]
    if batch.axis not in axes:
        return Moved(batch)
    sizes = integers(node, 3, "sizes")
    if sizes is None:
        scales = constant(node.inputs[2])
        if scales is None or np.asarray(scales, np.float32)[axes.index(batch.axis)] != 1:
            raise obstacle(node, "resizes the batch, or gets its scales computed while the model runs")
        return Moved(batch)
    policy = attribute(node, "keep_aspect_ratio_policy", "stretch")
    if policy != "stretch" or attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise obstacle(node, "has sizes that cannot be written as scales (aspect ratio policy, or crop and resize)")
    shape = static_shape(node, value)
    factors = np.array([_scale(node, shape[axis], size) for axis, size in zip(axes, sizes, strict=True)], np.float32)
    if factors[axes.index(batch.axis)] != 1:
        raise obstacle(node, "resizes the batch")
    return Moved(batch, (Edit(2, factors), Edit(3, None)))


def _scale(node: ir.Node, size: int, wanted: int) -> np.float32:
    scale = fitting_scale(size, wanted)
    if scale is None:
        raise obstacle(node, f"from {size} to {wanted} has no float32 scale")
    return scale
