"""Structures of random networks that came with newer exporters: opset 17 and later, as strategies.py has the older ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from property.builder import Builder, Feature, Style
from property.strategies import STRUCTURES, Draw, Net, RandomModel, dense, map_, plain, same, style, value


def tokens(net: Net, x: Feature) -> Feature:
    """The map as tokens [batch, height * width, channels], normalised, through a layer or attention, and back: x + f(x)."""
    b, c = net.builder, x.channels
    rows = b.node("Transpose", b.reshape(x.name, c, x.height * x.width), perm=[0, 2, 1])
    y = b.node("LayerNormalization", rows, b.positive(c), *([] if net.flag() else [b.weight(c)]), axis=-1)
    if net.flag():
        q, k, v = (b.node("MatMul", y, b.weight(c, c, fan_in=c)) for _ in range(3))
        y = b.node("MatMul", b.node("Softmax", b.node("MatMul", q, b.node("Transpose", k, perm=[0, 2, 1])), axis=-1), v)
    else:
        y = b.node("Add", b.node("MatMul", y, b.weight(c, c, fan_in=c)), b.weight(c, fan_in=4))
        y = b.node("Gelu", y, approximate=net.pick("none", "tanh")) if b.style.opset >= 20 else b.node("Erf", y)
    y = b.node("Add", rows, y)
    return b.like(x, b.reshape(b.node("Transpose", y, perm=[0, 2, 1]), c, *x.size))


def grouped(net: Net, x: Feature) -> Feature:
    """Normalised in groups of channels: InstanceNormalization between two Reshapes, or GroupNormalization (opset 21)."""
    b, c = net.builder, x.channels
    groups = 2 if c % 2 == 0 and net.flag() else 1
    if b.style.opset >= 21 and net.flag():
        return b.unary("GroupNormalization", x, b.positive(c), b.weight(c), num_groups=groups)
    y = b.node("InstanceNormalization", b.reshape(x.name, groups, -1), b.constant(np.ones(groups)), b.constant(np.zeros(groups)))
    y = b.node("Mul", b.reshape(y, c, *x.size), b.positive(c, 1, 1))
    return b.like(x, b.node("Add", y, b.weight(c, 1, 1)))


def newer_activation(net: Net, x: Feature) -> Feature:
    """A convolution and one of the activations that became operators late."""
    y = plain(net, x, x.channels)
    op = net.pick("Mish", "HardSwish", "Gelu", "Swish")
    if op == "Gelu" and net.builder.style.opset >= 20:
        return net.builder.unary("Gelu", y)
    if op == "Swish" and net.builder.style.opset >= 24:
        return net.builder.unary("Swish", y)
    return net.builder.unary("Mish" if op == "Mish" and net.builder.style.opset >= 18 else "HardSwish", y)


def along_axes(net: Net, x: Feature) -> Feature:
    """Pad or Resize of the axes that are named, counted from either end, in any order; opset 18."""
    b = net.builder
    if b.style.opset < 18 or 2 * max(x.size) > 24:
        return grouped(net, x)
    if net.flag():
        axes, before = net.pick([2, 3], [-1], [3, -2]), net.number(0, 2)
        pads = [before] * len(axes) + [1] * len(axes)
        name = b.node(
            "Pad", x.name, b.constant(pads, np.int64), "", b.constant(axes, np.int64), mode=net.pick("constant", "edge")
        )
        added = before + 1
        return b.conv(Feature(name, x.channels, x.height + added * (len(axes) == 2), x.width + added), x.channels, same(1))
    axes, sizes = net.pick(([2, 3], [2 * x.height, x.width + 1]), ([3, 2], [x.width + 1, 2 * x.height]))
    name = b.node("Resize", x.name, "", "", b.constant(sizes, np.int64), axes=axes, mode=net.pick("nearest", "linear"))
    return Feature(name, x.channels, 2 * x.height, x.width + 1)


def unfolded(net: Net, x: Feature) -> Feature:
    """A depthwise convolution whose BatchNormalization became Mul and Add, as Keras leaves it."""
    b, c = net.builder, x.channels
    y = b.unary("Mul", b.conv(x, c, same(3), group=c), b.positive(c, 1, 1))
    y = b.unary("Add", y, b.weight(c, 1, 1, fan_in=4))
    return b.unary("Min", b.unary("Max", y, b.constant(0.0)), b.constant(6.0))


def selected(net: Net, x: Feature) -> tuple[str, tuple[int, ...]]:
    """A head: the best rows of a map, chosen by the indices of TopK, through a layer."""
    b, c, rows = net.builder, x.channels, x.height * x.width
    count, out = net.number(1, min(rows, 6)), net.number(1, 4)
    values = b.node("Transpose", b.reshape(x.name, c, rows), perm=[0, 2, 1])
    best = b.node("MatMul", values, b.weight(c, 3, fan_in=c))
    if b.style.opset < 18:
        best = b.node("ReduceMax", best, axes=[-1], keepdims=0)
    else:
        best = b.node("ReduceMax", best, b.constant([-1], np.int64), keepdims=0)
    _, which = b.node("TopK", best, b.constant([count], np.int64), outputs=2)
    places = b.node("Tile", b.node("Unsqueeze", which, b.constant([-1], np.int64)), b.constant([1, 1, c], np.int64))
    return b.node("MatMul", b.node("GatherElements", values, places, axis=1), b.weight(c, out, fan_in=c)), (count, out)


def newer_style(draw: Draw) -> Style:
    """How the file is written: channels last or not, behind a rescaling or not, the batch open as -1 or by name, or fixed."""
    return replace(
        style(draw),
        opset=draw(st.integers(17, 24)),
        batch=draw(st.sampled_from(["N", -1, 1])),
        layout=draw(st.sampled_from(["nhwc", "nchw"])),
        rescaled=draw(st.booleans()),
    )


@st.composite
def newer_models(draw: Draw) -> RandomModel:
    """A random model: one to five structures, at least one of them newer, and one or two heads."""
    net = Net(draw, Builder(newer_style(draw)))
    x = net.builder.image
    chosen = draw(st.lists(st.sampled_from(NEWER + STRUCTURES), max_size=4))
    for structure in (draw(st.sampled_from(NEWER)), *chosen):
        x = structure(net, x)
        net.seen.append(x)
    outputs = dict(net.pick(*heads)(net, x) for heads in ((dense, map_, selected), (map_, value))[: net.number(1, 2)])
    return RandomModel(net.builder.model(list(outputs.items())))


NEWER = (tokens, grouped, newer_activation, along_axes, unfolded)
