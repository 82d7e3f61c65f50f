"""Small sound models, each written another way: what the mutations start from."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper
from property.builder import Builder, Feature, Style, Window

_OLD = """
<ir_version: 3, opset_import: ["" : 9]>
old (float[1, 2, 6, 6] image, float[4, 2, 3, 3] w, float[4] scales) => (float[] scores) {
    a = Conv <pads = [1, 1, 1, 1], auto_pad = "NOTSET"> (image, w)
    b = Clip <min = 0.0, max = 6.0> (a)
    c = Upsample <mode = "nearest"> (b, scales)
    d = Shape (c)
    e = Constant <value = int64[1] {0}> ()
    f = Gather <axis = 0> (d, e)
    g = Constant <value = int64[1] {-1}> ()
    h = Concat <axis = 0> (f, g)
    i = Reshape (c, h)
    scores = Softmax <axis = 1> (i)
}
"""
_FUNCTIONS = """
<ir_version: 9, opset_import: ["" : 18, "net" : 1]>
modules (float[N, 3, 5, 5] image) => (float[N, 4, 5, 5] map) <float[4, 3, 3, 3] w, float[4, 4, 1, 1] v> {
    a = net.Layer (image, w)
    map = Conv (a, v)
}
<opset_import: ["" : 18, "net" : 1], domain: "net">
Layer (x, weight) => (y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, weight)
    y = net.Activation (a)
}
<opset_import: ["" : 18], domain: "net">
Activation (x) => (y) {
    s = Sigmoid (x)
    y = Mul (x, s)
}
"""


def base_models() -> dict[str, onnx.ModelProto]:
    """The models by name."""
    made = (_classifier, _detector, _old, _functions, _keras, _flax, _tokens, _queries)
    return {make.__name__.removeprefix("_"): make() for make in made}


def _classifier() -> onnx.ModelProto:
    """Residual block, BatchNormalization, pooling, Gemm; dynamic batch."""
    b = Builder(Style(height=7, width=6))
    x = b.unary("Relu", b.batchnorm(b.conv(b.image, 4, Window(strides=(2, 2)))))
    y = b.batchnorm(b.conv(x, 4, Window(), group=2, bias=True))
    z = b.unary("Relu", b.add(x, y))
    flat = b.node("Flatten", b.node("GlobalAveragePool", z.name))
    return b.model([(b.node("Gemm", flat, b.weight(5, 4), b.weight(5), transB=1), (5,))])


def _detector() -> onnx.ModelProto:
    """Split, Concat, MaxPool, Resize, ConvTranspose, channel shuffle; computed shapes, weights as Constant nodes, batch 1."""
    b = Builder(Style(opset=13, batch=1, channels=1, height=8, width=8, weights="constant", shapes="computed"))
    x = b.conv(b.image, 4, Window(), bias=True)
    first, second = b.split(x, [1, 3])
    shuffled = b.reshape(b.node("Transpose", b.reshape(b.concat(second, first).name, 2, 2, 8, 8), perm=[0, 2, 1, 3, 4]), 4, 8, 8)
    small = Feature(b.node("MaxPool", shuffled, kernel_shape=[2, 2], strides=[2, 2]), 4, 4, 4)
    up = b.resize(small, (8, 8), "nearest", "asymmetric")
    other = b.transposed(small, 4, group=2, bias=True, extra=0)
    joined = b.concat(up, b.conv(other, 2, Window(pads=(1, 1, 1, 1))))
    padded = Feature(b.node("Pad", joined.name, b.constant([0, 0, 1, 1, 0, 0, 0, 0], np.int64)), 6, 9, 9)
    head = b.conv(padded, 3, Window(kernel=(1, 1), pads=(0, 0, 0, 0)))
    boxes = b.node("Transpose", b.reshape(head.name, 3, -1), perm=[0, 2, 1])
    return b.model([(b.node("Sigmoid", boxes), (81, 3)), (x.name, (4, 8, 8))])


def _old() -> onnx.ModelProto:
    model = onnx.parser.parse_model(_OLD)
    weight = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    scales = np.array([1, 1, 2, 2], np.float32)
    model.graph.initializer.extend([numpy_helper.from_array(weight, "w"), numpy_helper.from_array(scales, "scales")])
    return model


def _functions() -> onnx.ModelProto:
    model = onnx.parser.parse_model(_FUNCTIONS)
    random = np.random.default_rng(0)
    for name, shape in {"w": (4, 3, 3, 3), "v": (4, 4, 1, 1)}.items():
        model.graph.initializer.append(numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name))
    del model.graph.value_info[:]
    return model


def _keras() -> onnx.ModelProto:
    """Channels last behind a rescaling, batch -1; BatchNormalization as Mul and Add behind a depthwise convolution."""
    b = Builder(Style(opset=15, batch=-1, layout="nhwc", rescaled=True))
    x = b.unary("Relu", b.conv(b.image, 4, Window(strides=(2, 2)), bias=True))
    y = b.conv(x, 4, Window(), group=4)
    y = b.unary("Add", b.unary("Mul", y, b.positive(4, 1, 1)), b.weight(4, 1, 1, fan_in=4))
    flat = b.node("Squeeze", b.mean(b.unary("Clip", y, b.constant(0.0), b.constant(6.0))), b.constant([2, 3], np.int64))
    return b.model([(b.node("Softmax", b.node("MatMul", flat, b.weight(4, 5, fan_in=4)), axis=-1), (5,))])


def _flax() -> onnx.ModelProto:
    """Transposes at both ends, relu6 as Max and Min, a mean as sum and division; opset 23."""
    b = Builder(Style(opset=23, batch="B", layout="nhwc"))
    x = b.batchnorm(b.conv(b.image, 4, Window()))
    x = b.unary("Min", b.unary("Max", x, b.constant(0.0)), b.constant(6.0))
    summed = b.node("ReduceSum", x.name, b.constant([2, 3], np.int64), keepdims=0)
    scores = b.node("Gemm", b.node("Div", summed, b.constant(64.0)), b.weight(4, 3, fan_in=4), b.weight(3))
    return b.model([(scores, (3,)), (b.node("Transpose", x.name, perm=[0, 2, 3, 1]), (8, 8, 4))])


def _tokens() -> onnx.ModelProto:
    """Operators of opset 16 to 20: LayerNormalization, attention, Gelu, Mish, GroupNormalization; axes of Pad and Resize."""
    b = Builder(Style(opset=20, batch=1))
    x = b.unary("Mish", b.conv(b.image, 4, Window(strides=(2, 2)), bias=True))
    tokens = b.node("Transpose", b.reshape(x.name, 4, 16), perm=[0, 2, 1])
    normal = b.node("LayerNormalization", tokens, b.positive(4), b.weight(4), axis=-1)
    q, k, v = (b.node("MatMul", normal, b.weight(4, 4, fan_in=4)) for _ in range(3))
    scores = b.node("Softmax", b.node("MatMul", q, b.node("Transpose", k, perm=[0, 2, 1])), axis=-1)
    tokens = b.node("Gelu", b.node("Add", tokens, b.node("MatMul", scores, v)), approximate="tanh")
    y = Feature(b.reshape(b.node("Transpose", tokens, perm=[0, 2, 1]), 4, 4, 4), 4, 4, 4)
    y = b.unary("HardSwish", y)
    axes = b.constant([-2, -1], np.int64)
    padded = b.node("Pad", y.name, b.constant([1, 0, 0, 1], np.int64), "", axes)
    up = b.node("Resize", padded, "", "", b.constant([10, 10], np.int64), axes=[2, 3], mode="linear")
    grouped = b.node("InstanceNormalization", b.reshape(up, 2, -1), b.positive(2), b.weight(2))
    return b.model([(b.conv(Feature(b.reshape(grouped, 4, 10, 10), 4, 10, 10), 2, Window()).name, (2, 10, 10))])


def _queries() -> onnx.ModelProto:
    """The best of many: integers from TopK choose rows, and positions computed by a layer are read by GridSample."""
    b = Builder(Style(opset=17, batch=1))
    x = b.unary("Relu", b.conv(b.image, 4, Window(), bias=True))
    rows = b.node("Transpose", b.reshape(x.name, 4, 64), perm=[0, 2, 1])
    best = b.node("ReduceMax", b.node("MatMul", rows, b.weight(4, 3, fan_in=4)), axes=[-1], keepdims=0)
    _, which = b.node("TopK", best, b.constant([6], np.int64), outputs=2)
    places = b.node("Tile", b.node("Unsqueeze", which, b.constant([-1], np.int64)), b.constant([1, 1, 4], np.int64))
    chosen = b.node("GatherElements", b.node("MatMul", rows, b.weight(4, 4, fan_in=4)), places, axis=1)
    boxes = b.node("Sigmoid", b.node("MatMul", chosen, b.weight(4, 2, fan_in=4)))
    grid = b.node("Sub", b.reshape(boxes, 2, 3, 2), b.constant(0.5))
    return b.model([(boxes, (6, 2)), (b.node("GridSample", x.name, grid), (4, 2, 3))])
