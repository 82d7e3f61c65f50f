"""Operators that move numbers and compute none: they write on the grid of what they read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from genie_onnx.exporter.litert.convolutions import sliced
from genie_onnx.exporter.litert.desk import NHWC, Desk, RefusedError, Value

_PRODUCTS = ("Gemm", "MatMul")


def same(desk: Desk, node: onnx.NodeProto) -> None:
    """Write an Identity: nothing."""
    desk.put(node, desk.read(node.input[0]))


def reshape(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Reshape, Flatten, Squeeze or Unsqueeze.

    Where an image becomes the rows of matrix products alone, the columns of their weights move instead of the image.
    """
    value, shape = desk.read(node.input[0]), desk.shape(node.output[0])
    readers = desk.reading.readers(node.output[0])
    products = readers and all(n.op_type in _PRODUCTS and desk.constant(n.input[1]) is not None for n in readers)
    rows = len(value.shape) > 2 and value.order[0] == 0 and shape == (value.shape[0], int(np.prod(value.shape[1:])))
    if products and rows and node.output[0] not in desk.reading.outputs:
        sizes = [desk.shape(node.input[0])[axis] for axis in range(1, len(value.order))]
        places = np.arange(int(np.prod(sizes))).reshape(sizes)
        order = places.transpose([a - 1 for a in value.order[1:]]).reshape(-1)
        desk.put(node, replace(desk.reshaped(value, shape), order=(0, 1)))
        if (order == np.arange(order.size)).all():
            return
        name = desk.reading.sink(node.output[0]).name
        desk.columns[name] = order
        desk.draft.places.codes.pop(name, None)  # its columns are in another order than there
        return
    flat = desk.plain(value)
    result = desk.reshaped(flat, shape)
    desk.put(node, replace(result, order=tuple(range(len(shape)))))


def transpose(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Transpose: nothing, but what the places mean."""
    value = desk.read(node.input[0])
    rank = len(value.order)
    axes = [int(axis) for axis in desk.attribute(node, "perm", list(range(rank))[::-1])]
    desk.put(node, replace(value, order=tuple(axes.index(axis) for axis in value.order)))


def concat(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Concat. All operands come to the grid of the output."""
    sink = desk.sink(node)
    values = [desk.read(name) for name in node.input]
    order, rank = values[0].order, len(values[0].order)
    axis = int(desk.attribute(node, "axis", 0)) % rank
    values = [desk.ordered(value, order) for value in values]
    shared = values[0].grid
    if sink.grid is not None and all(value.grid is not None for value in values):
        shared = sink.grid
    elif any(value.grid is None or value.grid != shared for value in values):
        shared = None
    placed = [desk.floats(value) if shared is None else desk.on_grid(value, shared) for value in values]
    shape = tuple(desk.shape(node.output[0])[a] for a in order)
    low, high = (
        pick([v.grid.low if end == 0 else v.grid.high for v in placed if v.grid]) if shared else 0
        for end, pick in enumerate((min, max))
    )
    grid = None if shared is None else type(shared)(shared.scale, shared.zero_point, low, high)
    number = desk.new(sink.name, shape, grid)
    desk.draft.add("CONCATENATION", [v.number for v in placed], [number], "ConcatenationOptions", Axis=order.index(axis))
    desk.put(node, Value(number, shape, order, grid))


def cut(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Slice with constant bounds and positive steps."""
    value, shape = desk.read(node.input[0]), desk.shape(node.input[0])
    given = [desk.constant(name) if name else None for name in (*node.input[1:], "", "")[:4]]
    if given[0] is None or given[1] is None:
        raise RefusedError("its bounds are computed")
    starts, ends = (np.asarray(g).reshape(-1) for g in given[:2])
    axes = np.arange(len(starts)) if given[2] is None else np.asarray(given[2]).reshape(-1)
    steps = np.ones(len(starts), np.int64) if given[3] is None else np.asarray(given[3]).reshape(-1)
    if (steps < 1).any():
        raise RefusedError("it runs backwards")
    begin, end, stride = [0] * len(shape), list(shape), [1] * len(shape)
    for start, stop, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last, by = slice(int(start), int(stop), int(step)).indices(shape[int(axis)])
        begin[axis], end[axis], stride[axis] = first, last, by
    placed = [[numbers[axis] for axis in value.order] for numbers in (begin, end, stride)]
    desk.put(node, sliced(desk, value, desk.sink(node).name, *placed))


def split(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Split, as slices: parts of any size."""
    value, shape = desk.read(node.input[0]), desk.shape(node.input[0])
    axis = int(desk.attribute(node, "axis", 0)) % len(shape)
    begin = 0
    for index, name in enumerate(node.output):
        size = desk.shape(name)[axis]
        first, last = [0] * len(shape), list(shape)
        first[axis], last[axis] = begin, begin + size
        placed = [[numbers[a] for a in value.order] for numbers in (first, last, [1] * len(shape))]
        desk.put(node, sliced(desk, value, desk.sink(node, index).name, *placed), index)
        begin += size


def pad(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Pad with zeros."""
    value, rank = desk.read(node.input[0]), len(desk.shape(node.input[0]))
    if desk.attribute(node, "mode", b"constant") != b"constant":
        raise RefusedError(f"its mode is {desk.attribute(node, 'mode')!r}; constant is supported")
    sizes = desk.constant(node.input[1])
    fill = desk.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if sizes is None or (fill is not None and fill.any()) or (len(node.input) > 3 and node.input[3]):
        raise RefusedError("it pads with something else than zeros, or has axes")
    sides = np.asarray(sizes, np.int32).reshape(2, rank).T[list(value.order)]
    if (sides < 0).any():
        raise RefusedError("it cuts off (negative pads)")
    shape = tuple(desk.shape(node.output[0])[axis] for axis in value.order)
    number = desk.new(desk.sink(node).name, shape, value.grid)
    desk.draft.add("PAD", [value.number, desk.draft.constant("paddings", np.ascontiguousarray(sides))], [number], "PadOptions")
    desk.put(node, Value(number, shape, value.order, value.grid))


def depth_to_space(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a DepthToSpace of mode DCR, which TFLite has."""
    if desk.attribute(node, "mode", b"DCR") != b"DCR":
        raise RefusedError("its mode is CRD; DCR is supported")
    value = desk.ordered(desk.read(node.input[0]), NHWC)
    n, c, h, w = desk.shape(node.output[0])
    number = desk.new(desk.sink(node).name, (n, h, w, c), value.grid)
    desk.draft.add("DEPTH_TO_SPACE", [value.number], [number], "DepthToSpaceOptions", BlockSize=desk.attribute(node, "blocksize"))
    desk.put(node, Value(number, (n, h, w, c), NHWC, value.grid))
