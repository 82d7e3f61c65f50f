"""Pools and means over an image: AVERAGE_POOL_2D and MAX_POOL_2D, which write on the grid of what they read, and
MEAN, SUM and REDUCE_MAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import tflite

from genie_onnx.exporter.litert.desk import NHWC, Desk, RefusedError, Value
from genie_onnx.exporter.litert.draft import Grid
from genie_onnx.exporter.litert.windows import Window, padded, window

LEAST = float(np.finfo(np.float32).min)


def average_pool(desk: Desk, node: onnx.NodeProto) -> None:
    """Write an AveragePool. SAME does not count what it pads, a PAD in front does."""
    found = window(desk, node, _kernel(desk, node))
    counted = bool(desk.attribute(node, "count_include_pad", 0))
    if counted and found.padding == tflite.Padding.SAME:
        before = [int(n) for n in desk.attribute(node, "pads", [0, 0, 0, 0])[:2]]
        source, result = desk.shape(node.input[0]), desk.shape(node.output[0])
        reach = [(result[2 + i] - 1) * found.strides[i] + found.kernel[i] for i in range(2)]
        after = [max(reach[i] - before[i] - source[2 + i], 0) for i in range(2)]
        found = Window(
            found.kernel, found.strides, found.dilations, tflite.Padding.VALID, (before[0], before[1]), (after[0], after[1])
        )
    if found.pads and not counted:
        raise RefusedError("it pads otherwise than SAME and does not count what it pads (count_include_pad 0)")
    ends = [int(n) for n in desk.attribute(node, "pads", [0, 0, 0, 0])[2:]]
    if found.pads and any(after > end for after, end in zip(found.after, ends, strict=True)):
        raise RefusedError("its last windows reach beyond what it pads (ceil_mode)")
    _pool(desk, node, found, "AVERAGE_POOL_2D", None)


def max_pool(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a MaxPool; what a PAD adds is the lowest number there is."""
    if len(node.output) > 1 and node.output[1]:
        raise RefusedError("it yields indices")
    _pool(desk, node, window(desk, node, _kernel(desk, node)), "MAX_POOL_2D", LEAST)


def global_pool(operator: str) -> Callable[[Desk, onnx.NodeProto], None]:
    """Return the row of a pool over the whole image."""

    def row(desk: Desk, node: onnx.NodeProto) -> None:
        shape = desk.shape(node.input[0])
        if len(shape) != 4:
            raise RefusedError(f"it has {max(len(shape) - 2, 0)} spatial dimensions; 2 are supported")
        _pool(desk, node, Window((shape[2], shape[3]), (1, 1), (1, 1), tflite.Padding.VALID), operator, None)

    return row


def reduction(operator: str) -> Callable[[Desk, onnx.NodeProto], None]:
    """Return the row of a mean, sum or maximum along axes; REDUCE_MAX writes on the grid of what it reads."""

    def row(desk: Desk, node: onnx.NodeProto) -> None:
        source, sink = desk.read(node.input[0]), desk.sink(node)
        given = desk.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else desk.attribute(node, "axes")
        if given is None:
            raise RefusedError("its axes are computed, or all")
        axes = sorted(int(axis) % len(source.order) for axis in np.asarray(given).reshape(-1))
        keep = bool(desk.attribute(node, "keepdims", 1))
        source = source if source.grid is not None and sink.grid is not None else desk.floats(source)
        places = np.asarray([source.order.index(axis) for axis in axes], np.int32)
        kept = [1 if place in places else size for place, size in enumerate(source.shape)]
        shape = [size for place, size in enumerate(kept) if keep or place not in places]
        grid = source.grid if source.grid is None or sink.grid is None or operator == "REDUCE_MAX" else sink.grid
        grid = None if grid is None else Grid(grid.scale, grid.zero_point)
        number = desk.new(sink.name, shape, grid)
        desk.draft.add(operator, [source.number, desk.draft.constant("axes", places)], [number], "ReducerOptions", KeepDims=keep)
        left = [axis for axis in source.order if keep or axis not in axes]
        desk.put(node, Value(number, tuple(shape), tuple(sorted(left).index(axis) for axis in left), grid))

    return row


def _kernel(desk: Desk, node: onnx.NodeProto) -> Sequence[int]:
    return [int(size) for size in desk.attribute(node, "kernel_shape", [])]


def _pool(desk: Desk, node: onnx.NodeProto, found: Window, operator: str, fill: float | None) -> None:
    if found.dilations != (1, 1):
        raise RefusedError("it is dilated")
    source = padded(desk, desk.ordered(desk.read(node.input[0]), NHWC), found, fill)
    n, c, h, w = desk.shape(node.output[0])
    number = desk.new(f"{node.output[0]}_pooled", (n, h, w, c), source.grid)
    desk.draft.add(
        operator,
        [source.number],
        [number],
        "Pool2DOptions",
        Padding=found.padding,
        StrideH=found.strides[0],
        StrideW=found.strides[1],
        FilterHeight=found.kernel[0],
        FilterWidth=found.kernel[1],
    )
    desk.put(node, Value(number, (n, h, w, c), NHWC, source.grid))
