"""Where the batch is in a value, and how each operator moves it.

A value carries the batch on `axis` with `times` t when its size there is B t and sample i owns the slice
[i t, (i+1) t) of that axis:  [B, C, H, W] is (0, 1);  the channel shuffle's [B C/2, 2, H W] is (0, C/2).
A rule takes a node and the batch of its inputs and tells the batch of its outputs, and which constants of the node have
the number B baked in and what to write instead so that they hold for every B. A rule that cannot do so
raises BatchObstacle. Samples never mix under these rules, so a graph that passes them computes, for a batch of any
size, what it computes for each sample alone.

    Reshape [1, 320, 1, 1] by (1, -1)      (0, 1) -> (0, 1)      shape constant becomes (0, -1)
    Transpose perm 1 0 2                   (0, t) -> (1, t)
    Softmax over the batch axis            obstacle
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from genie_onnx.graph import ops
from genie_onnx.graph.query import attribute, constant, dims

__all__ = ["Batch", "BatchObstacle", "Edit", "Moved", "move_batch"]

_INT64_MAX = 2**63 - 1
_WHOLE_AXIS = 2**31 - 1  # exporters write INT32_MAX or INT64_MAX for "to the end"


class BatchObstacle(Exception):
    """Why a graph cannot take a batch of another size; one sentence without the final stop."""


@dataclass(frozen=True)
class Batch:
    """The batch dimension of one value: its axis, and how many entries there belong to each sample."""

    axis: int
    times: int = 1


@dataclass(frozen=True)
class Edit:
    """Input `index` of a node is to be this constant, or absent."""

    index: int
    array: np.ndarray | None


@dataclass(frozen=True)
class Moved:
    """The batch of all outputs of a node, and the constants to rewrite."""

    batch: Batch
    edits: tuple[Edit, ...] = ()


Batches = Mapping[ir.Value, Batch]  # values that are not in it do not depend on the batch


def move_batch(node: ir.Node, batches: Batches) -> Moved | None:
    """Return where `node` puts the batch, None where none of its inputs carries one.

    Raises BatchObstacle where samples would mix, where the operator has no rule, or where shapes needed are not known.
    """
    if not any(v in batches for v in node.inputs if v is not None):
        return None
    rule = _RULES.get(node.op_type) if node.domain == "" else None
    if rule is None:
        raise _obstacle(node, "is not known to treat the samples of a batch alike")
    return rule(node, batches)


def _obstacle(node: ir.Node, why: str) -> BatchObstacle:
    return BatchObstacle(f"{node.op_type} '{node.name}' {why}")


def _shape(node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
    sizes = dims(value)
    if sizes is None or any(d is None for d in sizes):
        raise _obstacle(node, "works on a shape that is not known before the model runs")
    return tuple(d for d in sizes if d is not None)


def _rank(node: ir.Node, value: ir.Value | None) -> int:
    if value is None or value.shape is None:
        raise _obstacle(node, "works on a value of unknown rank")
    return len(value.shape)


def _ints(node: ir.Node, index: int, what: str) -> list[int] | None:
    """The int64 constant at input `index`; None where the input is absent."""
    if index >= len(node.inputs) or node.inputs[index] is None:
        return None
    array = constant(node.inputs[index])
    if array is None:
        raise _obstacle(node, f"gets its {what} computed while the model runs")
    return [int(i) for i in np.asarray(array).reshape(-1)]


def _only_first(node: ir.Node, batches: Batches) -> tuple[ir.Value, Batch]:
    """Input 0 and its batch; any other input that carries the batch is an obstacle."""
    value = node.inputs[0]
    if value is None or value not in batches or any(v in batches for v in node.inputs[1:] if v is not None):
        raise _obstacle(node, "takes the batch elsewhere than in its first input")
    return value, batches[value]


# -- rules, by family ---------------------------------------------------------------------------------------------------------


def _elementwise(node: ir.Node, batches: Batches) -> Moved:
    """Numpy broadcasting: shapes align at the right; operands without the batch must have size 1 on its axis."""
    rank = max(_rank(node, v) for v in node.inputs if v is not None)
    found = {
        Batch(batches[v].axis + rank - _rank(node, v), batches[v].times) for v in node.inputs if v is not None and v in batches
    }
    if len(found) > 1:
        raise _obstacle(node, "joins operands that have the batch on different axes")
    (batch,) = found
    for value in node.inputs:
        if value is not None and value not in batches:
            _size_one(node, value, batch.axis - rank)
    return Moved(batch)


def _size_one(node: ir.Node, value: ir.Value, axis_from_right: int) -> None:
    """`value` must broadcast along the axis (-1 is the last): size 1, or so few dimensions that it has no such axis."""
    if _rank(node, value) >= -axis_from_right and (dims(value) or ())[axis_from_right] != 1:
        raise _obstacle(node, f"combines the batch with '{value.name}', which has a fixed size along it")


def _batch_first(node: ir.Node, batches: Batches) -> Moved:
    _, batch = _only_first(node, batches)
    if batch.axis != 0:
        raise _obstacle(node, f"has the batch on axis {batch.axis} of its input, not on axis 0")
    return Moved(batch)


def _gemm(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    if batch.axis != (1 if attribute(node, "transA", 0) else 0):
        raise _obstacle(node, "sums over the batch")
    if len(node.inputs) > 2 and node.inputs[2] is not None and _rank(node, node.inputs[2]) == 2:
        _size_one(node, node.inputs[2], -2)
    return Moved(Batch(0, batch.times))


def _matmul(node: ir.Node, batches: Batches) -> Moved:
    ranks = [_rank(node, v) for v in node.inputs]
    if min(ranks) < 2:
        raise _obstacle(node, "multiplies by a vector")
    found = set()
    for position, value in enumerate(node.inputs):
        if value is None or value not in batches:
            continue
        from_right = batches[value].axis - ranks[position]  # -1 last, -2 second to last, below that: stacked matrices
        if from_right == (-1 if position == 0 else -2):
            raise _obstacle(node, "sums over the batch")
        other = node.inputs[1 - position]
        assert other is not None
        if from_right < -2 and other not in batches:
            _size_one(node, other, from_right)
        found.add(Batch(from_right + max(ranks), batches[value].times))
    if len(found) > 1 or (
        len(node.inputs) == sum(v in batches for v in node.inputs if v) and max(b.axis for b in found) > max(ranks) - 3
    ):
        raise _obstacle(node, "multiplies samples with each other")
    return Moved(found.pop())


def _along(default: int | None) -> Callable[[ir.Node, Batches], Moved]:
    """Operators that work along one axis (attribute `axis`) and keep the shape."""

    def rule(node: ir.Node, batches: Batches) -> Moved:
        value, batch = _only_first(node, batches)
        _not_along(node, value, batch, attribute(node, "axis", default))
        return Moved(batch)

    return rule


def _not_along(node: ir.Node, value: ir.Value, batch: Batch, axis: int | None) -> None:
    if axis is None or axis % _rank(node, value) == batch.axis:
        raise _obstacle(node, "works along the batch")


def _layer_normalization(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    if attribute(node, "axis", -1) % _rank(node, value) <= batch.axis:
        raise _obstacle(node, "normalises over the batch")
    return Moved(batch)


def _reduce(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    axes: Sequence[int] | None = _ints(node, 1, "axes")
    if axes is None:
        axes = attribute(node, "axes", None)
    if not axes:
        if attribute(node, "noop_with_empty_axes", 0):
            return Moved(batch)
        raise _obstacle(node, "reduces over all axes, the batch among them")
    return _removed(node, value, batch, axes, keep=bool(attribute(node, "keepdims", 1)))


def _arg_reduce(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    return _removed(node, value, batch, [attribute(node, "axis", 0)], keep=bool(attribute(node, "keepdims", 1)))


def _removed(node: ir.Node, value: ir.Value, batch: Batch, axes: Sequence[int], *, keep: bool) -> Moved:
    positive = {a % _rank(node, value) for a in axes}
    if batch.axis in positive:
        raise _obstacle(node, "removes the batch axis")
    return Moved(batch if keep else Batch(batch.axis - sum(a < batch.axis for a in positive), batch.times))


def _concat(node: ir.Node, batches: Batches) -> Moved:
    found = {batches[v] if v in batches else None for v in node.inputs if v is not None}
    if len(found) > 1 or None in found:
        raise _obstacle(node, "joins values that do not all have the batch on the same axis")
    batch = next(b for b in found if b is not None)
    first = node.inputs[0]
    assert first is not None
    _not_along(node, first, batch, attribute(node, "axis", None))
    return Moved(batch)


def _slice(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    starts, ends = _ints(node, 1, "starts") or [], _ints(node, 2, "ends") or []
    axes = _ints(node, 3, "axes") or list(range(len(starts)))
    steps = _ints(node, 4, "steps") or [1] * len(starts)
    for i, axis in enumerate(axes):
        if axis % _rank(node, value) != batch.axis or (starts[i] == 0 and ends[i] >= _WHOLE_AXIS and steps[i] == 1):
            continue
        if starts[i] != 0 or steps[i] != 1 or ends[i] < _shape(node, value)[batch.axis]:
            raise _obstacle(node, "takes a part of the batch")
        ends[i] = _INT64_MAX
        return Moved(batch, (Edit(2, np.array(ends, np.int64)),))
    return Moved(batch)


def _gather(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    axis = attribute(node, "axis", 0) % _rank(node, value)
    _not_along(node, value, batch, axis)
    return Moved(batch if batch.axis < axis else Batch(batch.axis - 1 + _rank(node, node.inputs[1]), batch.times))


def _transpose(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    perm = attribute(node, "perm", tuple(reversed(range(_rank(node, value)))))
    return Moved(Batch(perm.index(batch.axis), batch.times))


def _unsqueeze(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    axes = _ints(node, 1, "axes") or []
    rank = _rank(node, value) + len(axes)
    new = {a % rank for a in axes}
    return Moved(Batch([i for i in range(rank) if i not in new][batch.axis], batch.times))


def _squeeze(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    axes = _ints(node, 1, "axes")
    if axes is None:
        axes = [i for i, size in enumerate(_shape(node, value)) if size == 1]
        moved = _removed(node, value, batch, axes, keep=False)
        return Moved(moved.batch, (Edit(1, np.array(axes, np.int64)),))
    return _removed(node, value, batch, axes, keep=False)


def _flatten(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    rank, axis = _rank(node, value), attribute(node, "axis", 1)
    axis = axis + rank if axis < 0 else axis
    first, last = (0, axis) if batch.axis < axis else (axis, rank)  # the axes that are merged with the batch
    shape = dims(value) or ()
    if any(d != 1 for d in shape[first : batch.axis]):
        raise _obstacle(node, "puts another axis before the batch and merges the two")
    behind = shape[batch.axis + 1 : last]
    if any(d is None for d in behind):
        raise _obstacle(node, "merges the batch with an axis of unknown size")
    return Moved(Batch(0 if batch.axis < axis else 1, batch.times * math.prod(d for d in behind if d is not None)))


def _reshape(node: ir.Node, batches: Batches) -> Moved:
    """Row-major order is kept, so the new batch axis b has the same number of entries before it and behind each sample.

    Where size-1 axes leave a choice, the old axis is taken, else the first.
    """
    value, batch = _only_first(node, batches)
    wanted = _ints(node, 1, "shape") or []
    old, new = _shape(node, value), _shape(node, node.outputs[0])
    size = old[batch.axis] // batch.times  # B while it is bound
    per_sample = batch.times * math.prod(old[batch.axis + 1 :])
    fits = [
        b
        for b in range(len(new))
        if math.prod(new[:b]) == math.prod(old[: batch.axis])
        and new[b] % size == 0
        and (new[b] // size) * math.prod(new[b + 1 :]) == per_sample
    ]
    if not fits:
        raise _obstacle(node, f"from {list(old)} to {list(new)} mixes the batch with other axes")
    b = batch.axis if batch.axis in fits else fits[0]
    moved = Batch(b, new[b] // size)
    if wanted[b] == -1 or (wanted[b] == 0 and not attribute(node, "allowzero", 0)):
        return Moved(moved)
    if moved == batch and not attribute(node, "allowzero", 0):
        wanted[b] = 0
    else:
        wanted = list(new)
        wanted[b] = -1
    return Moved(moved, (Edit(1, np.array(wanted, np.int64)),))


def _expand(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    wanted = _ints(node, 1, "shape") or []
    from_right = batch.axis - _rank(node, value)
    moved = Moved(Batch(max(len(wanted), _rank(node, value)) + from_right, batch.times))
    if len(wanted) < -from_right or wanted[from_right] == 1:
        return moved
    if wanted[from_right] != _shape(node, value)[batch.axis]:
        raise _obstacle(node, "repeats the batch")
    wanted[from_right] = 1
    return Moved(moved.batch, (Edit(1, np.array(wanted, np.int64)),))


def _tile(node: ir.Node, batches: Batches) -> Moved:
    _, batch = _only_first(node, batches)
    if (_ints(node, 1, "repeats") or [])[batch.axis] != 1:
        raise _obstacle(node, "repeats the batch")
    return Moved(batch)


def _pad(node: ir.Node, batches: Batches) -> Moved:
    value, batch = _only_first(node, batches)
    rank = _rank(node, value)
    pads, axes = _ints(node, 1, "pads") or [], _ints(node, 3, "axes") or list(range(rank))
    for i, axis in enumerate(axes):
        if axis % rank == batch.axis and (pads[i] or pads[i + len(axes)]):
            raise _obstacle(node, "pads the batch")
    return Moved(batch)


def _resize(node: ir.Node, batches: Batches) -> Moved:
    """`sizes` that cover the batch become `scales`, out / in as float32, which is what runtimes make of sizes themselves."""
    value, batch = _only_first(node, batches)
    axes = attribute(node, "axes", tuple(range(_rank(node, value))))
    covered = batch.axis in {a % _rank(node, value) for a in axes}
    sizes = _ints(node, 3, "sizes")
    if sizes is None:
        scales = constant(node.inputs[2])
        if scales is None or (covered and float(np.asarray(scales)[axes.index(batch.axis)]) != 1.0):
            raise _obstacle(node, "resizes the batch, or gets its scales computed while the model runs")
        return Moved(batch)
    if not covered:
        return Moved(batch)
    policy, mode = attribute(node, "keep_aspect_ratio_policy", "stretch"), attribute(node, "coordinate_transformation_mode", "")
    if policy != "stretch" or mode == "tf_crop_and_resize":
        raise _obstacle(node, f"has sizes with '{policy}' and '{mode}', which cannot be written as scales")
    shape = _shape(node, value)
    scales = [_scale(node, shape[axis], size) for axis, size in zip(axes, sizes, strict=True)]
    if scales[axes.index(batch.axis)] != 1:
        raise _obstacle(node, "resizes the batch")
    return Moved(batch, (Edit(2, np.array(scales, np.float32)), Edit(3, None)))


def _scale(node: ir.Node, size: int, wanted: int) -> np.float32:
    scale = np.float32(wanted) / np.float32(size)
    for candidate in (scale, np.nextafter(scale, np.float32(np.inf))):  # floor(size * scale) must not fall one short
        if int(np.floor(np.float32(size) * candidate)) == wanted:
            return np.float32(candidate)
    raise _obstacle(node, f"from {size} to {wanted} has no float32 scale")


_RULES: dict[str, Callable[[ir.Node, Batches], Moved]] = {
    **dict.fromkeys(ops.ELEMENTWISE, _elementwise),
    **dict.fromkeys(ops.POOLING, _batch_first),
    **dict.fromkeys(("Conv", "ConvTranspose", "DepthToSpace", "SpaceToDepth", "LRN"), _batch_first),
    **dict.fromkeys(("BatchNormalization", "GroupNormalization", "InstanceNormalization"), _batch_first),
    **dict.fromkeys(ops.REDUCTION, _reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "TopK"), _along(-1)),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_normalization),
    "Split": _along(0),
    "ArgMax": _arg_reduce,
    "ArgMin": _arg_reduce,
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
