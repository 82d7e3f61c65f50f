"""Conv and ConvTranspose -> CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV.

    ONNX weight  [O, C/g, H, W]  ->  [O, H, W, C/g],   depthwise [1, H, W, O];     of a ConvTranspose [C, O, H, W] -> [O, H, W, C]

In integers where the input, the weight and the output have codes, else in floats. The bias is INT32 in steps of s_x s_w.
"""

from __future__ import annotations

import numpy as np
import onnx
import tflite

from genie_onnx.exporter.litert.desk import NHWC, Desk, RefusedError, Value
from genie_onnx.exporter.litert.draft import Array, Grid
from genie_onnx.exporter.litert.fusing import fused
from genie_onnx.exporter.litert.layers import layer
from genie_onnx.exporter.litert.windows import padded, window


def conv(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Conv of two dimensions."""
    shape = desk.shape(node.input[1])
    found = window(desk, node, shape[2:])
    groups, channels = int(desk.attribute(node, "group", 1)), desk.shape(node.input[0])[1]
    depthwise = groups == channels and groups > 1
    parts = layer(desk, node, (1, 2, 3, 0) if depthwise else (0, 2, 3, 1), 3 if depthwise else 0)
    source = padded(desk, desk.ordered(parts.source, NHWC), found)
    activation, grid = fused(parts.grid)
    n, o, h, w = desk.shape(node.output[0])
    number = desk.new(parts.name, (n, h, w, o), grid)
    options = {
        "Padding": found.padding,
        "StrideH": found.strides[0],
        "StrideW": found.strides[1],
        "DilationHFactor": found.dilations[0],
        "DilationWFactor": found.dilations[1],
        "FusedActivationFunction": activation,
    }
    inputs = [source.number, parts.weight, parts.bias]
    if depthwise:
        desk.draft.add("DEPTHWISE_CONV_2D", inputs, [number], "DepthwiseConv2DOptions", DepthMultiplier=o // channels, **options)
    else:
        desk.draft.add("CONV_2D", inputs, [number], "Conv2DOptions", **options)
    desk.put(node, Value(number, (n, h, w, o), NHWC, grid))


def conv_transpose(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a ConvTranspose of one group: VALID, which writes everything the windows reach, then what ONNX's pads leave of it."""
    source, result, weight = (desk.shape(name) for name in (node.input[0], node.output[0], node.input[1]))
    if len(source) != 4:
        raise RefusedError(f"it has {max(len(source) - 2, 0)} spatial dimensions; 2 are supported")
    if int(desk.attribute(node, "group", 1)) != 1:
        raise RefusedError("it has groups, and TRANSPOSE_CONV has none")
    if any(int(d) != 1 for d in desk.attribute(node, "dilations", [1, 1])):
        raise RefusedError("it is dilated, and TRANSPOSE_CONV is not")
    if desk.attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise RefusedError("it has auto_pad, and its pads have to be explicit")
    strides = [int(n) for n in desk.attribute(node, "strides", [1, 1])]
    before = [int(n) for n in desk.attribute(node, "pads", [0, 0, 0, 0])[:2]]
    n, o, h, w = result
    reach = [max((source[2 + i] - 1) * strides[i] + weight[2 + i], before[i] + result[2 + i]) for i in range(2)]
    parts = layer(desk, node, (1, 2, 3, 0), 0)
    image = desk.ordered(parts.source, NHWC)
    _, grid = fused(None if parts.grid is None else Grid(parts.grid.scale, parts.grid.zero_point))
    whole = (n, *reach, o)
    cut = tuple(reach) != (h, w)
    number = desk.new(f"{parts.name}_whole" if cut else parts.name, whole, grid)
    shape = desk.draft.constant("output_shape", np.asarray(whole, np.int32))
    desk.draft.add(
        "TRANSPOSE_CONV",
        [shape, parts.weight, image.number, parts.bias],
        [number],
        "TransposeConvOptions",
        Padding=tflite.Padding.VALID,
        StrideH=strides[0],
        StrideW=strides[1],
    )
    value = Value(number, whole, NHWC, grid)
    if cut:
        value = sliced(desk, value, parts.name, [0, *before, 0], [n, before[0] + h, before[1] + w, o], [1, 1, 1, 1])
    desk.put(node, value)


def sliced(desk: Desk, value: Value, name: str, begin: list[int], end: list[int], steps: list[int]) -> Value:
    """Return a part of `value`, in the order it lies in."""
    shape = tuple(-(-(e - b) // s) for b, e, s in zip(begin, end, steps, strict=True))
    number = desk.new(name, shape, value.grid)
    limits: list[Array] = [np.asarray(limit, np.int32) for limit in (begin, end, steps)]
    constants = [desk.draft.constant(kind, limit) for kind, limit in zip(("begin", "end", "strides"), limits, strict=True)]
    desk.draft.add("STRIDED_SLICE", [value.number, *constants], [number], "StridedSliceOptions")
    return Value(number, shape, value.order, value.grid)
