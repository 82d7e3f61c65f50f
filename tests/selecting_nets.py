"""Networks in which half of a layer's channels are selected and span far less than the others, and the settings of their runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from simulation import model as onnx_model

from genie_onnx import PlacementConfig, QuantizeConfig, ReconstructConfig

SHAPE = (3, 12, 12)
SELECTING = {
    "slice": "half = Slice(pool, zero, four, axis)",
    "strided slice": "half = Slice(pool, zero, eight, axis, two)",
    "split": "half, rest = Split<axis=1>(pool, sizes)",
    "gather": "half = Gather<axis=1>(pool, evens)",
    "slice in a chain": "r = Reshape(pool, flat) t = Transpose<perm=[0,2,1]>(r) u = Slice(t, zero, four, last) "
    "v = Transpose<perm=[0,2,1]>(u) half = Reshape(v, square)",
}
EVENS = {"strided slice", "gather"}


def network(operator: str = "slice", ratio: float = 300.0) -> onnx.ModelProto:
    """Half of the channels of a layer, read by the next one, span 1 / ratio of the others; an average reads all of them."""
    rng = np.random.default_rng(3)
    large = np.ones(8, np.float32)
    large[1 :: 2 if operator in EVENS else 1][-4:] = ratio
    tensors = {
        "w1": rng.standard_normal((8, 3, 3, 3)).astype(np.float32) * large[:, None, None, None] / 5,
        "w2": rng.standard_normal((8, 4, 3, 3)).astype(np.float32) / 6,
        "w3": rng.standard_normal((8, 8, 3, 3)).astype(np.float32) / 8,
        "w4": rng.standard_normal((5, 8)).astype(np.float32),
        "w5": rng.standard_normal((2, 8, 1, 1)).astype(np.float32) / ratio,
        "zero": np.array([0]),
        "two": np.array([2]),
        "four": np.array([4]),
        "eight": np.array([8]),
        "axis": np.array([1]),
        "last": np.array([-1]),
        "sizes": np.array([4, 4]),
        "evens": np.array([0, 2, 4, 6]),
        "flat": np.array([0, 8, 36]),
        "square": np.array([0, 4, 6, 6]),
    }
    return onnx_model(
        f"""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 3, 12, 12] image) => (float[N, 5] scores, float[N, 2, 1, 1] other) {{
            a = Conv<pads=[1,1,1,1]>(image, w1)
            source = Relu(a)
            pool = MaxPool<kernel_shape=[2,2], strides=[2,2]>(source)
            {SELECTING[operator]}
            b = Conv<pads=[1,1,1,1]>(half, w2)
            c = Relu(b)
            d = Conv<pads=[1,1,1,1]>(c, w3)
            e = Relu(d)
            f = GlobalAveragePool(e)
            g = Flatten(f)
            scores = Gemm<transB=1>(g, w4)
            h = GlobalAveragePool(source)
            other = Conv(h, w5)
        }}""",
        **tensors,
    )


def config(bits: int = 4, **changes: object) -> QuantizeConfig:
    """Settings of a quick run, with all layers at 8-bit weights and values at `bits`."""
    placement = PlacementConfig(wbits=8, abits=bits, first_last_bits=8, setting="qdrop")
    settings = QuantizeConfig(samples=16, placement=placement, reconstruct=ReconstructConfig(iterations=2))
    return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]
