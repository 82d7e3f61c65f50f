"""Scales of weights that leave INT32 room for the bias, for every form of layer and every kind of grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from awkward_nets import ALL_TARGETS, decibels, he, net, quantized

from genie_onnx.validate import integer_kernels

RNG = np.random.default_rng(7)
GOOD = 30.0  # dB at 8 bits
TINY = {
    "convolution": ("c = Conv<pads=[1,1,1,1]>(a, small, big) y = Relu(c)", he(RNG, 8, 8, 3, 3)),
    "depthwise": ("c = Conv<pads=[1,1,1,1], group=8>(a, small, big) y = Relu(c)", he(RNG, 8, 1, 3, 3)),
    "transposed": ("c = ConvTranspose(a, small, big) y = Relu(c)", he(RNG, 8, 8, 3, 3)),
    "tied": ("c = Conv<pads=[1,1,1,1]>(a, small, big) d = Conv<pads=[1,1,1,1]>(c, small, b) y = Add(c, d)", he(RNG, 8, 8, 3, 3)),
    "dense": (
        "g = GlobalAveragePool(a) f = Flatten(g) c = Gemm<beta=2.0>(f, small, big) r = Reshape(c, square) y = Relu(r)",
        he(RNG, 8, 8),
    ),
}


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        pytest.param(layer, size, marks=[] if size == 1e-9 or layer == "convolution" else pytest.mark.slow)
        for layer in TINY
        for size in (1e-5, 1e-9, 1e-30)
    ],
)
def test_layers_that_are_nearly_their_bias(tmp_path: Path, layer: str, size: float) -> None:
    piece, weight = TINY[layer]
    bias = RNG.normal(0, 2, 8)
    proto = net(piece, small=weight * np.float32(size), big=bias.astype(np.float32), square=np.array([-1, 8, 1, 1]))
    file, report = quantized(proto, tmp_path)
    assert decibels(report) > GOOD
    if "Transpose" not in piece and "Gemm" not in piece:  # for which onnxruntime has no integer kernel here
        assert not integer_kernels(file).floating, "no layer has to be left in float for it"


@pytest.mark.parametrize("layer", ["convolution", "dense"])
def test_a_float_bias_has_room_too(tmp_path: Path, layer: str) -> None:
    """onnxruntime makes INT32 of it by itself, unlooked at (findings/onnxruntime-makes-float-bias-int32-that-overflows.sh)."""
    piece, weight = TINY[layer]
    bias = RNG.normal(0, 2, 8).astype(np.float32)
    proto = net(piece, small=weight * np.float32(1e-9), big=bias, square=np.array([-1, 8, 1, 1]))
    file, report = quantized(proto, tmp_path, "tensorrt")
    assert decibels(report) > GOOD
    (node,) = (node for node in onnx.load(file).graph.node if "big" in node.input)
    assert node.op_type in ("Conv", "Gemm")
    kept = next(t for t in onnx.load(file).graph.initializer if t.name == "big")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept).dtype, np.float32)


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_every_kind_of_grid(tmp_path: Path, target: str) -> None:
    """One channel is tiny among ordinary ones, with a bias that is none: one scale a tensor, powers of two, signed values."""
    weight, bias = he(RNG, 8, 8, 3, 3), np.zeros(8, np.float32)
    weight[3] *= np.float32(1e-12)
    bias[3] = 1.5
    _, report = quantized(net(TINY["convolution"][0], small=weight, big=bias), tmp_path, target)
    assert decibels(report) > 20
