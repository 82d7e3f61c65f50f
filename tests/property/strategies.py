"""hypothesis strategies of small CNNs: valid by construction, and smaller when a failure is shrunk.

models() -> RandomModel, whose repr is the graph as ONNX text. A network is a sequence of STRUCTURES, each of which takes the
value it is given and draws what it makes of it; then one or more heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.printer
from hypothesis import strategies as st
from property.builder import Builder, Feature, Style, Window

MAX_CHANNELS = 12
MAX_SIZE = 24  # height and width that nothing is enlarged beyond
Draw = Callable[[st.SearchStrategy[Any]], Any]


class RandomModel:
    """A model as drawn."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto

    def __repr__(self) -> str:
        """The graph as text, weights left out."""
        graph = onnx.ModelProto()
        graph.CopyFrom(self.proto)
        del graph.graph.initializer[:]
        return f"RandomModel(\n{onnx.printer.to_text(graph)})"


class Net:
    """The network so far: its builder, every value that a later layer may come back to, and weights that it may use again."""

    def __init__(self, draw: Draw, builder: Builder) -> None:
        self.draw = draw
        self.builder = builder
        self.seen: list[Feature] = []
        self.weights: list[tuple[str, int, int, tuple[int, int]]] = []  # of convolutions: name, in, out, kernel

    def flag(self) -> bool:
        """False when shrunk."""
        return bool(self.draw(st.booleans()))

    def pick(self, *options: Any) -> Any:
        """One of the options; the first when shrunk."""
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        """An integer; `low` when shrunk."""
        return int(self.draw(st.integers(low, high)))


def style(draw: Draw) -> Style:
    """How the file is written."""
    return Style(
        opset=draw(st.integers(11, 22)),
        batch=draw(st.sampled_from(["N", 1])),
        channels=draw(st.integers(1, 4)),
        height=draw(st.integers(4, 13)),
        width=draw(st.integers(4, 13)),
        weights=draw(st.sampled_from(["initializer", "input", "constant"])),
        named=not draw(st.booleans()),
        shapes=draw(st.sampled_from(["constant", "computed"])),
        seed=draw(st.integers(0, 1000)),
    )


# -- the operators of a layer


def activation(net: Net, x: Feature) -> Feature:
    """Any of the usual activations, or none; those of mobile networks also in the pieces that exporters make of them."""
    b, kind = net.builder, net.pick("Relu", "none", "Clip", "LeakyRelu", "PRelu", "swish", "hardswish", "HardSwish", "Tanh")
    if kind == "none":
        return x
    if kind == "Clip":
        return b.unary("Clip", x, b.constant(0.0), b.constant(net.pick(6.0, 1.0)))
    if kind == "LeakyRelu":
        return b.unary("LeakyRelu", x, alpha=0.1)
    if kind == "PRelu":
        return b.unary("PRelu", x, b.positive(x.channels, 1, 1))
    if kind == "swish":
        return b.like(x, b.node("Mul", x.name, b.node("Sigmoid", x.name)))
    if kind == "HardSwish" and b.style.opset >= 14:
        return b.unary("HardSwish", x)
    if kind in ("hardswish", "HardSwish"):
        clipped = b.node("Clip", b.node("Add", x.name, b.constant(3.0)), b.constant(0.0), b.constant(6.0))
        return b.like(x, b.node("Div", b.node("Mul", x.name, clipped), b.constant(6.0)))
    return b.unary(kind, x)


def normalised(net: Net, x: Feature) -> Feature:
    """BatchNormalization or not, activation or not."""
    return activation(net, net.builder.batchnorm(x) if net.flag() else x)


def window(net: Net, x: Feature) -> Window:
    """A window that fits into `x` with its pads."""
    kernel = net.pick(3, 1, 2), net.pick(3, 1, 2)
    dilations = (2, 2) if net.flag() and min(x.size) >= 5 else (1, 1)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    top, left = (net.number(0, e // 2) for e in extents)
    # what is missing for one full window comes at the other side
    bottom, right = (max(net.number(0, e // 2), e - i - p) for e, i, p in zip(extents, x.size, (top, left), strict=True))
    return Window(kernel, (net.number(1, 2), net.number(1, 2)), dilations, (top, left, bottom, right))


def same(kernel: int = 3) -> Window:
    """A window that keeps the size."""
    return Window(kernel=(kernel, kernel), pads=(kernel // 2,) * 4)


def conv(net: Net, x: Feature) -> Feature:
    """Convolution of any kind: pointwise, depthwise, grouped, strided, dilated, padded to one side."""
    out, kind = net.number(1, MAX_CHANNELS), net.pick("dense", "depthwise", "grouped")
    group = 1
    if kind == "depthwise":
        out, group = x.channels * net.pick(*([1, 2] if x.channels * 2 <= MAX_CHANNELS else [1])), x.channels
    elif kind == "grouped" and x.channels % 2 == 0:
        out, group = 2 * max(1, out // 2), 2
    return normalised(net, net.builder.conv(x, out, window(net, x), group=group, bias=net.flag()))


def plain(net: Net, x: Feature, out: int) -> Feature:
    """A convolution that keeps the size, as branches need it."""
    kernel = net.pick(3, 1)
    weight = net.builder.weight(out, x.channels, kernel, kernel, fan_in=x.channels * kernel**2)
    net.weights.append((weight, x.channels, out, (kernel, kernel)))
    return normalised(net, net.builder.conv(x, out, same(kernel), bias=net.flag(), weight=weight))


# -- structures: value in, value out


def residual(net: Net, x: Feature) -> Feature:
    """x + f(x), or a projection of x where the channels change."""
    out = x.channels if not net.flag() else net.number(1, MAX_CHANNELS)
    y = plain(net, x, out)
    if net.flag():
        y = plain(net, y, out)
    skip = x if out == x.channels and not net.flag() else net.builder.conv(x, out, same(1))
    return activation(net, net.builder.add(y, skip))


def branches(net: Net, x: Feature) -> Feature:
    """Concat of two or three convolutions of x, or of x itself and its max pooling among them."""
    parts = [plain(net, x, net.number(1, 4)), plain(net, x, net.number(1, 4))]
    if net.flag():
        parts.append(net.builder.unary("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    if net.flag():
        parts.append(x)
    return shrunk(net, net.builder.concat(*parts))


def divided(net: Net, x: Feature) -> Feature:
    """Split, a convolution on one part, Concat, and maybe a channel shuffle: CSP and ShuffleNet blocks."""
    if x.channels < 2:
        return conv(net, x)
    first = net.number(1, x.channels - 1)
    a, c = net.builder.split(x, [first, x.channels - first])
    return shuffle(net, net.builder.concat(a, plain(net, c, c.channels)))


def shuffle(net: Net, x: Feature) -> Feature:
    """Reshape, Transpose, Reshape, where the channels can be halved."""
    b = net.builder
    if x.channels % 2 or not net.flag():
        return x
    apart = b.reshape(x.name, 2, x.channels // 2, *x.size)
    return b.like(x, b.reshape(b.node("Transpose", apart, perm=[0, 2, 1, 3, 4]), x.channels, *x.size))


def shrunk(net: Net, x: Feature) -> Feature:
    """x with a pointwise convolution behind it where its channels have become many."""
    return x if x.channels <= MAX_CHANNELS else net.builder.conv(x, MAX_CHANNELS // 2, same(1))


def gate(net: Net, x: Feature) -> Feature:
    """Squeeze and excitation."""
    b = net.builder
    pooled = b.mean(x) if net.flag() else b.node("GlobalAveragePool", x.name)
    squeezed = b.unary("Relu", b.conv(Feature(pooled, x.channels, 1, 1), max(1, x.channels // 2), same(1), bias=True))
    excited = b.conv(squeezed, x.channels, same(1), bias=net.flag())
    return b.like(x, b.node("Mul", x.name, b.node(net.pick("Sigmoid", "HardSigmoid"), excited.name)))


def pool(net: Net, x: Feature) -> Feature:
    """MaxPool or AveragePool; ceil_mode where it makes a difference that all runtimes agree on."""
    b, op, kernel, stride = net.builder, net.pick("MaxPool", "AveragePool"), net.number(2, 3), net.number(1, 2)
    if min(x.size) < kernel:
        return x
    pad = net.number(0, 1)
    view = Window((kernel, kernel), (stride, stride), (1, 1), (pad, pad, pad, pad))
    attributes: dict[str, Any] = {k: v for k, v in view.attributes().items() if k != "dilations"}
    if op == "AveragePool":
        attributes["count_include_pad"] = int(net.flag())
    ceil = pad == 0 and net.flag()
    height, width = (-(-(i - kernel) // stride) + 1 for i in x.size) if ceil else view.out(x)
    return Feature(b.node(op, x.name, ceil_mode=int(ceil), **attributes), x.channels, height, width)


def enlarge(net: Net, x: Feature) -> Feature:
    """Resize (nearest or linear) or a transposed convolution to about twice the size."""
    b = net.builder
    if 2 * max(x.size) > MAX_SIZE:
        return pool(net, x)
    if net.flag():
        group = 2 if x.channels % 2 == 0 and net.flag() else 1
        out = group * net.number(1, 4)
        return normalised(net, b.transposed(x, out, group=group, bias=net.flag(), extra=net.number(0, 1)))
    mode, coordinates = net.pick(("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners"))
    return b.resize(x, (2 * x.height, 2 * x.width), mode, coordinates)


def tied(net: Net, x: Feature) -> Feature:
    """A convolution with the weight of an earlier one."""
    fits = [w for w in net.weights if w[1] == x.channels]
    if not fits:
        return plain(net, x, x.channels)
    weight, _, out, kernel = net.pick(*fits)
    return normalised(net, net.builder.conv(x, out, same(kernel[0]), weight=weight))


def long_skip(net: Net, x: Feature) -> Feature:
    """Add or Concat of an earlier value of the same size."""
    earlier = [f for f in net.seen if f.size == x.size and f != x]
    if not earlier:
        return residual(net, x)
    other = net.pick(*earlier)
    joined = net.builder.add(x, other) if other.channels == x.channels and net.flag() else net.builder.concat(x, other)
    return activation(net, shrunk(net, joined))


def noise(net: Net, x: Feature) -> Feature:
    """What exporters leave behind: Identity, Dropout, an explicit Pad, a Mul and Add that was a BatchNormalization."""
    b, kind = net.builder, net.pick("Identity", "Dropout", "Pad", "affine")
    if kind == "Pad":  # of a convolution: onnxruntime (1.31.1) makes one of Pad and MaxPool that pads with -infinity, not 0
        name = b.node("Pad", x.name, b.constant([0, 0, 1, 0, 0, 0, 0, 1], np.int64, "pads"))
        padded = Feature(name, x.channels, x.height + 1, x.width + 1)
        return activation(net, b.conv(padded, x.channels, Window((2, 2), pads=(0, 0, 0, 0)), group=x.channels))
    if kind == "affine":
        scaled = b.node("Mul", x.name, b.positive(x.channels, 1, 1))
        return b.like(x, b.node("Add", scaled, b.weight(1, x.channels, 1, 1, fan_in=4)))
    return b.unary(kind, x)


def mlp(net: Net, x: Feature) -> Feature:
    """Two dense layers on the channels-last map, as ConvNeXt and mixers have them: MatMul and mostly the Add of a bias."""
    b, hidden = net.builder, net.number(1, MAX_CHANNELS)
    value = b.node("Transpose", x.name, perm=[0, 2, 3, 1])
    for k, (fan_in, fan_out) in enumerate([(x.channels, hidden), (hidden, x.channels)]):
        value = b.node("MatMul", value, b.weight(fan_in, fan_out, fan_in=fan_in))
        if not net.flag():
            value = b.node("Add", value, b.weight(fan_out, fan_in=4))
        if k == 0:
            kind = net.pick("Relu", "gelu", "none")
            if kind == "Relu":
                value = b.node("Relu", value)
            elif kind == "gelu":
                erf = b.node("Erf", b.node("Div", value, b.constant(math.sqrt(2))))
                value = b.node("Mul", b.node("Mul", value, b.node("Add", erf, b.constant(1.0))), b.constant(0.5))
    y = b.like(x, b.node("Transpose", value, perm=[0, 3, 1, 2]))
    return b.add(x, y) if net.flag() else y


STRUCTURES = (conv, residual, branches, divided, gate, pool, enlarge, tied, long_skip, noise, mlp)


# -- heads


def dense(net: Net, x: Feature) -> tuple[str, tuple[int, ...]]:
    """A classifier: pooled or flattened, Gemm or MatMul."""
    b, classes = net.builder, net.number(2, 6)
    if net.flag() and x.elements <= 400:
        width = x.elements
        flat = b.reshape(x.name, width) if net.flag() else b.node("Flatten", x.name)
    else:
        width = x.channels
        flat = b.mean(x, 0) if net.flag() else b.node("Flatten", b.node("GlobalAveragePool", x.name))
    if net.flag():
        product = b.node("MatMul", flat, b.weight(width, classes, fan_in=width))
        return b.node("Add", product, b.weight(classes, fan_in=4)), (classes,)
    transposed = net.flag()
    weight = b.weight(*((classes, width) if transposed else (width, classes)), fan_in=width)
    bias = [b.weight(classes, fan_in=4, name="bias")] if net.flag() else []
    return b.node("Gemm", flat, weight, *bias, transB=int(transposed)), (classes,)


def map_(net: Net, x: Feature) -> tuple[str, tuple[int, ...]]:
    """A pointwise convolution, as detectors and segmenters end."""
    y = net.builder.conv(x, net.number(1, 4), same(1), bias=True)
    last = net.builder.unary("Sigmoid", y) if net.flag() else y
    return last.name, (y.channels, *y.size)


def value(net: Net, x: Feature) -> tuple[str, tuple[int, ...]]:
    """A value inside the network, read by others too."""
    return x.name, (x.channels, *x.size)


@st.composite
def models(draw: Draw) -> RandomModel:
    """A random model: one to six structures, a weighted head, and up to two outputs more."""
    net = Net(draw, Builder(style(draw)))
    x = net.builder.image
    for structure in draw(st.lists(st.sampled_from(STRUCTURES), min_size=1, max_size=6)):
        x = structure(net, x)
        net.seen.append(x)
    outputs = dict([net.pick(dense, map_)(net, x)])
    for head in draw(st.lists(st.sampled_from((map_, dense, value)), max_size=2)):
        source = net.pick(*net.seen)
        if source.name != net.builder.image.name:
            name, sizes = head(net, source)
            outputs[name] = sizes
    return RandomModel(net.builder.model(list(outputs.items())))
