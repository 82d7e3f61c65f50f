"""One small classifier as different exporters write it: channels first, and channels last in each of their manners.

All compute the same: their weights are those of FIRST. Red, green and blue do different things in it, as do rows and columns.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

FIRST = """net (float[N, 3, 12, 16] x) => (float[N, 5] scores) {
    scaled = Mul (x, scale)  t = Add (scaled, shift)
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (t, w1, b1)  r = Relu (a)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8> (r, w2)
    n = BatchNormalization (d, g2, o2, m2, v2)  s = Relu (n)
    p = Conv <kernel_shape = [1, 1]> (s, w3, b3)  q = Add (p, r)
    pooled = GlobalAveragePool (q)  flat = Flatten (pooled)  scores = Gemm <transB = 1> (flat, w4, b4)
}"""
# Keras with TensorFlow, tf2onnx: Rescaling in front of one Transpose, depthwise BatchNorm as Mul and Add
KERAS = """net (float[N, 12, 16, 3] x) => (float[N, 5] scores) {
    scaled = Mul (x, scale)  shifted = Add (scaled, shift)  t = Transpose <perm = [0, 3, 1, 2]> (shifted)
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (t, w1, b1)  r = Relu (a)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8> (r, w2)  dm = Mul (d, mul2)  n = Add (dm, add2)  s = Relu (n)
    p = Conv <kernel_shape = [1, 1]> (s, w3, b3)  q = Add (p, r)
    pooled = GlobalAveragePool (q)  flat = Flatten (pooled)  scores = Gemm <transB = 1> (flat, w4, b4)
}"""
# Keras with torch: every layer between two Transposes, BatchNorm as Sub, Mul, Add on the last axis
KERAS_TORCH = """net (float[N, 12, 16, 3] x) => (float[N, 5] scores) {
    scaled = Mul (x, scale)  shifted = Add (scaled, shift)  t = Transpose <perm = [0, 3, 1, 2]> (shifted)
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (t, w1)  al = Transpose <perm = [0, 2, 3, 1]> (a)
    ab = Add (al, b1)  ai = Identity (ab)  r = Relu (ai)
    rt = Transpose <perm = [0, 3, 1, 2]> (r)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8> (rt, w2)  dl = Transpose <perm = [0, 2, 3, 1]> (d)
    dc = Cast <to = 1> (dl)  c = Sub (dc, mean2)  m = Mul (factor2, c)  n = Add (o2, m)  s = Relu (n)
    st = Transpose <perm = [0, 3, 1, 2]> (s)
    p = Conv <kernel_shape = [1, 1]> (st, w3, b3)  pl = Transpose <perm = [0, 2, 3, 1]> (p)  q = Add (pl, r)
    pooled = ReduceMean <axes = [1, 2], keepdims = 0> (q)  scores = Gemm <transB = 1> (pooled, w4, b4)
}"""
# jax2onnx: Transposes at both ends of each layer too, BatchNormalization kept, the mean as ReduceSum and Div
JAX = """net (float[N, 12, 16, 3] x) => (float[N, 5] scores) {
    scaled = Mul (x, scale)  shifted = Add (scaled, shift)  t = Transpose <perm = [0, 3, 1, 2]> (shifted)
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (t, w1, b1)  al = Transpose <perm = [0, 2, 3, 1]> (a)  r = Relu (al)
    rt = Transpose <perm = [0, 3, 1, 2]> (r)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8> (rt, w2)  n = BatchNormalization (d, g2, o2, m2, v2)
    nl = Transpose <perm = [0, 2, 3, 1]> (n)  s = Relu (nl)  st = Transpose <perm = [0, 3, 1, 2]> (s)
    p = Conv <kernel_shape = [1, 1]> (st, w3, b3)  pl = Transpose <perm = [0, 2, 3, 1]> (p)  q = Add (pl, r)
    summed = ReduceSum <keepdims = 0> (q, axes)  pooled = Div (summed, count)  scores = Gemm <transB = 1> (pooled, w4, b4)
}"""
TEXTS = {
    "first": FIRST,
    "keras": KERAS,
    "open": KERAS.replace("12, 16", "H, W"),
    "fixed batch": KERAS.replace("[N, ", "[1, "),
    "keras torch": KERAS_TORCH,
    "jax": JAX,
}
LAST = tuple(name for name in TEXTS if name != "first")


def arrays() -> dict[str, np.ndarray]:
    """Return the constants of all forms."""
    rng = np.random.default_rng(3)
    made = {
        "w1": rng.normal(size=(8, 3, 3, 3)) * np.array([3, 1, 0.3]).reshape(1, 3, 1, 1) / 5,
        "b1": rng.normal(size=8) / 5,
        "w2": rng.normal(size=(8, 1, 3, 3)) / 2,
        "g2": rng.uniform(0.5, 2, 8),
        "o2": rng.normal(size=8) / 3,
        "m2": rng.normal(size=8) / 3,
        "v2": rng.uniform(0.3, 2, 8),
        "w3": rng.normal(size=(8, 8, 1, 1)) / 3,
        "b3": rng.normal(size=8) / 5,
        "w4": rng.normal(size=(5, 8)),
        "b4": rng.normal(size=5),
        "scale": np.array(1 / 127.5),
        "shift": np.array(-1.0),
        "count": np.array(12.0 * 16.0),
    }
    factor = made["g2"] / np.sqrt(made["v2"] + 1e-5)
    made |= {"factor2": factor, "mean2": made["m2"], "mul2": factor.reshape(8, 1, 1)}
    made["add2"] = (made["o2"] - factor * made["m2"]).reshape(1, 8, 1, 1)
    return {name: array.astype(np.float32) for name, array in made.items()} | {"axes": np.array([1, 2])}


def net(kind: str) -> onnx.ModelProto:
    """The network in the form `kind` of TEXTS."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {TEXTS[kind]}')
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays().items() if n in used)
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    return model
