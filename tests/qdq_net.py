"""A convolution between Q and DQ, and class scores behind it: the smallest file that runs in integer kernels."""

from __future__ import annotations

import numpy as np
import onnx
from onnx_models import parse


def qdq_net(batch: str = "N", size: str = "8", largest: int = 64) -> onnx.ModelProto:
    """Return the file for input [batch, 3, size, size], its weights up to `largest`; y is [N, 4]."""
    codes = np.random.default_rng(0).integers(-largest, largest, (4, 3, 3, 3), endpoint=True).astype(np.int8)
    codes[0, 0, 0, 0] = largest
    text = f"""net (float[{batch}, 3, {size}, {size}] x, int8[4, 3, 3, 3] codes) => (float[{batch}, 4] y)
        <float s = {{0.02}}, uint8 z = {{128}}, float[4] ws = {{0.01, 0.02, 0.03, 0.04}}, int8[4] wz = {{0, 0, 0, 0}},
         float so = {{0.1}}, uint8 zo = {{0}}> {{
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            w = DequantizeLinear<axis = 0>(codes, ws, wz)
            c = Conv<pads = [1, 1, 1, 1]>(d, w)
            r = Relu(c)
            p = QuantizeLinear(r, so, zo)
            e = DequantizeLinear(p, so, zo)
            g = GlobalAveragePool(e)
            y = Flatten(g)
        }}"""
    return parse(text, opset=13, ir_version=7, codes=codes)


def float_net() -> onnx.ModelProto:
    """Return a float model with the same interface."""
    text = """net (float[N, 3, 8, 8] x, float[4, 3, 3, 3] w) => (float[N, 4] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g) }"""
    return parse(text, opset=13, ir_version=7)
