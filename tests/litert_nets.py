"""Tiny networks for target litert, one an operator, placed and exported as `quantize` does it, with crude codes."""

from __future__ import annotations

import numpy as np
import onnx
from simulation import Codes, minmax_codes, minmax_grid, model

from genie_onnx import graph
from genie_onnx.config import PlacementConfig
from genie_onnx.exporter import export, fix_shapes
from genie_onnx.placement import place
from genie_onnx.qparams import QTensor, quantize
from genie_onnx.targets import TARGETS

RNG = np.random.default_rng(5)
LITERT = TARGETS["litert"]
TAIL = "p = GlobalAveragePool(h)  f = Flatten(p)  y = Gemm<transB=1>(f, wo, bo)"

# Between a convolution, `a` [N, 8, 10, 9] (behind a Relu: `r`), and the pool and Gemm behind `h`: the channels of `h`
PIECES: dict[str, tuple[str, int]] = {
    "Conv, stride 2": ("h = Conv<pads=[1,1,1,1], strides=[2,2]>(r, w3, b8)", 8),
    "Conv, dilated": ("h = Conv<pads=[2,2,2,2], dilations=[2,2]>(r, w3, b8)", 8),
    "Conv, uneven pads": ("h = Conv<pads=[0,1,2,0], strides=[2,1]>(r, w3)", 8),
    "Conv of groups": ("h = Conv<group=2, pads=[1,1,1,1]>(r, wg, b8)", 8),
    "depthwise": ("h = Conv<group=8, pads=[1,1,1,1], strides=[2,2]>(a, wd, b8)", 8),
    "depthwise, two a channel": ("h = Conv<group=8>(r, wd2, b16)", 16),
    "ConvTranspose": ("h = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(r, wt, b8)", 8),
    "ConvTranspose, output padding": ("h = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(r, w3, b8)", 8),
    "Add, Relu": ("c = Conv<pads=[1,1,1,1]>(r, w3, b8)  s = Add(c, r)  h = Relu(s)", 8),
    "Mul by a gate": (
        "g = GlobalAveragePool(r)  c = Conv(g, w1, b8)  s = Sigmoid(c)  m = Mul(r, s)  h = Conv(m, w1, b8)",
        8,
    ),
    "SiLU": ("s = Sigmoid(a)  m = Mul(a, s)  h = Conv(m, w1, b8)", 8),
    "Concat": ("c = Conv(r, w1, b8)  d = Relu(c)  j = Concat<axis=1>(r, d)  h = Conv(j, w16, b8)", 8),
    "MaxPool, padded": ("m = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(a)  h = Conv(m, w1, b8)", 8),
    "MaxPool, ceil": ("m = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(r)  h = Conv(m, w1, b8)", 8),
    "AveragePool": ("m = AveragePool<kernel_shape=[2,3], strides=[2,2]>(r)  h = Conv(m, w1, b8)", 8),
    "AveragePool, counted": (
        "m = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(r)  h = Conv(m, w1, b8)",
        8,
    ),
    "ReLU6": ("c = Conv<pads=[1,1,1,1]>(r, w3, b8)  k = Clip(c, zero, six)  h = Conv(k, w1, b8)", 8),
    "Clip": ("c = Conv<pads=[1,1,1,1]>(r, w3, b8)  k = Clip(c, low, high)  h = Conv(k, w1, b8)", 8),
    "LeakyRelu": ("l = LeakyRelu<alpha=0.1>(a)  h = Conv(l, w1, b8)", 8),
    "Resize, nearest": (
        'm = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(r, , twice)  '
        "h = Conv(m, w1, b8)",
        8,
    ),
    "Resize, linear": (
        'm = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(r, , twice)  h = Conv(m, w1, b8)',
        8,
    ),
    "Split and shuffle": ("u, v = Split<axis=1, num_outputs=2>(r)  j = Concat<axis=1>(v, u)  h = Conv(j, w1, b8)", 8),
    "channel shuffle": (
        "q = Reshape(r, five)  t = Transpose<perm=[0,2,1,3,4]>(q)  m = Reshape(t, four)  h = Conv(m, w1, b8)",
        8,
    ),
    "Slice": ("m = Slice(r, begin, end, both)  h = Conv(m, w1, b8)", 8),
    "Pad": ("m = Pad(r, sides)  h = Conv<strides=[2,2]>(m, w3, b8)", 8),
    "maximum, sum": ("k = ReduceMax(r, ax)  s = ReduceSum(a, ax)  j = Concat<axis=1>(k, s)  h = Conv(j, w16, b8)", 8),
    "MatMul, bias": (
        "g = GlobalAveragePool(r)  e = Flatten(g)  q = MatMul(e, wm)  s = Add(q, b8)  t = Relu(s)  h = Reshape(t, map)",
        8,
    ),
    "HardSwish": ("m = HardSwish(a)  h = Conv(m, w1, b8)", 8),
}


def tensors() -> dict[str, np.ndarray]:
    """Every constant that a piece may read."""

    def random(*shape: int) -> np.ndarray:
        return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    floats = {"zero": 0.0, "six": 6.0, "low": -0.3, "high": 0.9}
    return {
        "wi": random(8, 3, 3, 3), "bi": random(8, 1)[:, 0], "w3": random(8, 8, 3, 3), "w1": random(8, 8, 1, 1),
        "wg": random(8, 4, 3, 3), "wd": random(8, 1, 3, 3), "wd2": random(16, 1, 3, 3), "wt": random(8, 8, 4, 4),
        "wm": random(8, 8), "map": np.asarray([-1, 8, 1, 1]),
        "w16": random(8, 16, 1, 1), "b8": random(8, 1)[:, 0], "b16": random(16, 1)[:, 0],
        "twice": np.asarray([1, 1, 2, 2], np.float32), "five": np.asarray([-1, 2, 4, 10, 9]), "four": np.asarray([-1, 8, 10, 9]),
        "ax": np.asarray([2, 3]), "begin": np.asarray([1, 0]), "end": np.asarray([9, 9]), "both": np.asarray([2, 3]),
        "sides": np.asarray([0, 0, 1, 2, 0, 0, 0, 1]), **{name: np.asarray(n, np.float32) for name, n in floats.items()},
    }  # fmt: skip


def net(piece: str, channels: int, tail: str = TAIL, **more: np.ndarray) -> onnx.ModelProto:
    """A network with `piece` in its middle."""
    known = {**tensors(), "wo": RNG.standard_normal((5, channels)).astype(np.float32) / 3, "bo": np.ones(5, np.float32), **more}
    body = f"a = Conv<pads=[1,1,1,1]>(x, wi, bi)  r = Relu(a)  {piece}  {tail}"
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[N,3,10,9] x) => (float[N,5] y) {{ {body} }}'
    used = {
        name: array for name, array in known.items() if any(f"{left}{name}{right}" in body for left in ", (" for right in ",)")
    }
    return model(text, **used)


def exported(proto: onnx.ModelProto, wbits: int, abits: int, images: np.ndarray) -> tuple[onnx.ModelProto, Codes]:
    """The QDQ file of `proto` for litert, of batch 1, and its codes."""
    user = graph.load(proto)
    deploy = graph.fold_batchnorm(graph.normalise(user))
    placement = place(deploy, PlacementConfig(wbits=wbits, abits=abits), LITERT.constraints)
    codes = minmax_codes(deploy, placement, {"x": images})
    for name, weight in codes.weights.items():
        array = np.asarray(graph.query.constant(deploy.graph.initializers[name]), np.float32)
        codes.weights[name] = symmetric(array, weight.qparams.bits, weight.qparams.axis)
    written = export(deploy, user, placement, codes, LITERT, {})
    shape = images.shape[1:]
    return fix_shapes(written, (shape[0], shape[1], shape[2])), codes


def symmetric(array: np.ndarray, bits: int, axis: int | None) -> QTensor:
    """Codes of `array` on symmetric grids, as the target has them."""
    return quantize(array, minmax_grid(array, bits, axis, symmetric=True))
