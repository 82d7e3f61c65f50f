"""Small networks whose channels are worth equalising: each layer writes some a dozen times as strong as others."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from simulation import model

from genie_onnx import DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig

SHAPE = (3, 12, 12)
HEAD = '<ir_version: 8, opset_import: ["" : 17]>\nnet (float[N, 3, 12, 12] image) => (float[N, 5] scores)'
MOBILE = """ {
    a = Conv<pads=[1,1,1,1]>(image, w1, b1) r = Clip(a, zero, six)
    d = Conv<pads=[1,1,1,1], group=8>(r, w2, b2) s = Clip(d, zero, six)
    p = Conv(s, w3, b3)
    e = Conv(p, w4, b4) t = Clip(e, zero, six)
    f = Conv<pads=[1,1,1,1], group=16>(t, w5, b5) u = Clip(f, zero, six)
    g = Conv(u, w6, b6) v = Add(g, p)
    m = GlobalAveragePool(v) n = Flatten(m) scores = Gemm<transB=1>(n, w7, b7)
}"""
RESIDUAL = """ {
    a = Conv<pads=[1,1,1,1]>(image, w1, b1) r = Relu(a)
    d = Conv<pads=[1,1,1,1]>(r, w2) s = Relu(d)
    e = Conv<pads=[1,1,1,1]>(s, w3, b3) f = Add(e, r) t = Relu(f)
    g = Conv<strides=[2,2]>(t, w4, b4) u = Relu(g)
    h = Conv(u, w5, b5) v = Relu(h)
    m = GlobalAveragePool(v) n = Flatten(m) scores = Gemm<transB=1>(n, w6, b6)
}"""
WEIGHTS = {
    MOBILE: [(8, 3, 3, 3), (8, 1, 3, 3), (8, 8, 1, 1), (16, 8, 1, 1), (16, 1, 3, 3), (8, 16, 1, 1), (5, 8)],
    RESIDUAL: [(8, 3, 3, 3), (8, 8, 3, 3), (8, 8, 3, 3), (12, 8, 3, 3), (12, 12, 1, 1), (5, 12)],
}


def network(text: str, spread: float = 3.0) -> onnx.ModelProto:
    """The network `text`: MOBILE, depthwise-separable with ReLU6, or RESIDUAL, with ReLU. Channels of a layer are up to
    `spread`^2 times as strong as others."""
    rng = np.random.default_rng(5)
    tensors: dict[str, np.ndarray] = {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)} if text == MOBILE else {}
    for number, shape in enumerate(WEIGHTS[text], start=1):
        strength = np.exp(rng.uniform(-np.log(spread), np.log(spread), shape[0]))
        fan_in = int(np.prod(shape[1:]))
        weight = rng.standard_normal(shape) * (2 / fan_in) ** 0.5 * strength.reshape(-1, *(1,) * (len(shape) - 1))
        tensors[f"w{number}"] = weight.astype(np.float32)
        if f"b{number}" in text:
            tensors[f"b{number}"] = (0.3 * rng.standard_normal(shape[0]) * strength).astype(np.float32)
    proto = model(HEAD + text, **tensors)
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    return proto


def images(count: int = 32, seed: int = 0) -> np.ndarray:
    """Float32 [count, *SHAPE], smooth enough to have something in common."""
    x = np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)
    return (x + np.roll(x, 1, 2) + np.roll(x, 1, 3)) / np.float32(3**0.5)


def config(**changes: object) -> QuantizeConfig:
    """Settings of a quick run at W4A4, the second layer included."""
    settings = QuantizeConfig(
        samples=24,
        placement=PlacementConfig(setting="qdrop"),
        distill=DistillConfig(iterations=2),
        reconstruct=ReconstructConfig(iterations=0),
        device="cpu",
        precision="fp32",
    )
    return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]
