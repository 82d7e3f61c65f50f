"""Networks in which integers or truth values go from block to block, and to the user: indices, masks, counts."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

BODY = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3, 8, 8] x) => (float[N, 8, 6] y, float[N, 8, 16] z{outputs}) {{
    k8 = Constant <value_ints = [8]> ()  last = Constant <value_ints = [2]> ()  flat = Constant <value_ints = [0, 16, 64]> ()
    tiles = Constant <value_ints = [1, 1, 16]> ()  half = Constant <value_float = 0.5> ()  nil = Constant <value_float = 0.0> ()
    start = Constant <value_ints = [0]> ()  axis = Constant <value_ints = [1]> ()
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)  b = Relu (a)  c = Conv <pads = [1, 1, 1, 1]> (b, w2)  d = Relu (c)
    e = Reshape (d, flat)  tokens = Transpose <perm = [0, 2, 1]> (e)
    {nodes}
}}"""

# RT-DETR: which tokens are looked at is found by one branch, another is read there
TOP_K = """
    s1 = MatMul (tokens, m1)  s2 = Relu (s1)  s3 = MatMul (s2, m2)  s = ReduceMax <axes = [2], keepdims = 0> (s3)
    best, index = TopK <axis = 1> (s, k8)  wide = Unsqueeze (index, last)  where = Tile (wide, tiles)
    v1 = MatMul (tokens, m3)  v2 = Relu (v1)  v = MatMul (v2, m4)
    picked = GatherElements <axis = 1> (v, where)  h = MatMul (picked, m5)  r = Relu (h)  y = MatMul (r, m6)
    other = GatherElements <axis = 1> (v2, where)  z = MatMul (other, m7)"""

# A mask of truth values that later blocks read, beside what it was made of
MASK = """
    s1 = MatMul (tokens, m1)  s2 = Relu (s1)  s3 = MatMul (s2, m2)  s = ReduceMax <axes = [2], keepdims = 1> (s3)
    mask = Greater (s, half)  no = Not (mask)
    v1 = MatMul (tokens, m3)  v2 = Relu (v1)  v = Where (mask, v2, nil)  v3 = MatMul (v, m4)  v4 = Relu (v3)  v5 = MatMul (v4, m5)
    v6 = Where (no, v5, nil)
    cut = Slice (v6, start, k8, axis)  y = MatMul (cut, m6)
    u1 = MatMul (tokens, m7)  u = Where (mask, u1, nil)  z = Slice (u, start, k8, axis)"""

# What a block hands on is nothing but integers: a class a token, as numbers of another type
CLASSES = """
    s1 = MatMul (tokens, m1)  s2 = Relu (s1)  s3 = MatMul (s2, m2)  class = ArgMax <axis = 2, keepdims = 1> (s3)
    small = Cast <to = 6> (class)
    v1 = MatMul (tokens, m3)  v2 = Relu (v1)  v = MatMul (v2, m4)
    number = Cast <to = 1> (small)  sum = Add (v, number)  h = MatMul (sum, m5)  r = Relu (h)
    cut = Slice (r, start, k8, axis)  y = MatMul (cut, m6)
    u1 = MatMul (tokens, m7)  float = Cast <to = 1> (small)  u = Mul (u1, float)  z = Slice (u, start, k8, axis)"""

NETS = {
    "indices": (TOP_K, ""),
    "indices for the user": (TOP_K, ", int64[N, 8] index"),
    "mask": (MASK, ""),
    "mask for the user": (MASK, ", bool[N, 64, 1] mask"),
    "classes": (CLASSES, ""),
    "classes for the user": (CLASSES, ", int32[N, 64, 1] small"),
}


def integer_net(name: str) -> onnx.ModelProto:
    """One of NETS."""
    nodes, outputs = NETS[name]
    model = onnx.parser.parse_model(BODY.format(nodes=nodes, outputs=outputs))
    random = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "w2": (16, 8, 3, 3), **{f"m{k}": (16, 16) for k in range(1, 6)}, "m6": (16, 6), "m7": (16, 16)}
    for weight, shape in shapes.items():
        fan = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
        array = random.standard_normal(shape) * (2 / fan) ** 0.5
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), weight))
    return model
