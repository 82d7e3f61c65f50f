"""Padding of windows that slide over an image: ONNX counts what it pads, TFLite has SAME, VALID, and a PAD in front.

needed = (out - 1) stride + (kernel - 1) dilation + 1 - in
VALID    nothing begins before the image, and needed <= 0
SAME     out = ceil(in / stride), and needed // 2 lies before the image
else     PAD, then VALID
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import tflite

from genie_onnx.exporter.litert.desk import Desk, RefusedError, Value


@dataclass(frozen=True)
class Window:
    """All pairs are (height, width). `before` and `after` are what a PAD has to add in front of `padding`."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    padding: int
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)

    @property
    def pads(self) -> bool:
        """Whether a PAD is needed."""
        return any(self.before + self.after)


def window(desk: Desk, node: onnx.NodeProto, kernel: Sequence[int]) -> Window:
    """Return the window of a Conv or a pool over an image. Raises RefusedError where it is not of two dimensions."""
    source, result = desk.shape(node.input[0]), desk.shape(node.output[0])
    if len(source) != 4 or len(result) != 4:
        raise RefusedError(f"it has {max(len(source) - 2, 0)} spatial dimensions; 2 are supported")
    strides, dilations = ([int(n) for n in desk.attribute(node, name, [1, 1])] for name in ("strides", "dilations"))
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    needed = [(result[2 + i] - 1) * strides[i] + span[i] - source[2 + i] for i in range(2)]
    before = _before(desk, node, needed)
    pairs = (_pair(kernel), _pair(strides), _pair(dilations))
    if not any(before) and max(needed) <= 0:
        return Window(*pairs, tflite.Padding.VALID)
    same = all(result[2 + i] == -(-source[2 + i] // strides[i]) and before[i] == max(needed[i], 0) // 2 for i in range(2))
    if same:
        return Window(*pairs, tflite.Padding.SAME)
    after = [max(needed[i] - before[i], 0) for i in range(2)]
    return Window(*pairs, tflite.Padding.VALID, _pair(before), _pair(after))


def padded(desk: Desk, value: Value, found: Window, fill: float | None = None) -> Value:
    """Return the image `value`, NHWC, with what `found` has to have around it: zeros, or the lowest number (`fill`)."""
    if not found.pads:
        return value
    sides = np.zeros((4, 2), np.int32)
    sides[1:3, 0], sides[1:3, 1] = found.before, found.after
    shape = tuple(int(size) for size in np.asarray(value.shape) + sides.sum(1))
    name = desk.draft.tensors[value.number].name
    number = desk.new(f"{name}_padded", shape, value.grid)
    inputs = [value.number, desk.draft.constant("paddings", sides)]
    if fill is not None:
        code = np.asarray([-128], np.int8) if value.grid is not None else np.asarray([fill], np.float32)
        inputs.append(desk.draft.constant("lowest", code, value.grid))
        desk.draft.add("PADV2", inputs, [number], "PadV2Options")
    else:
        desk.draft.add("PAD", inputs, [number], "PadOptions")
    return Value(number, shape, value.order, value.grid)


def _before(desk: Desk, node: onnx.NodeProto, needed: Sequence[int]) -> list[int]:
    mode = desk.attribute(node, "auto_pad", b"NOTSET")
    total = [max(size, 0) for size in needed]
    if mode == b"SAME_UPPER":
        return [size // 2 for size in total]
    if mode == b"SAME_LOWER":
        return [size - size // 2 for size in total]
    if mode == b"VALID":
        return [0, 0]
    return [int(size) for size in desk.attribute(node, "pads", [0, 0, 0, 0])[:2]]


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    return int(numbers[0]), int(numbers[1])
