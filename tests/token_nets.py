"""Networks with MatMuls on stacks of matrices. Their images are [N, 3, 8, 8]: ONNX text for graphs.graph."""

from __future__ import annotations

CHANNELS_LAST = """
    agraph (float[N,3,8,8] x, float[4,3,1,1] w1, float[4,1,3,3] w2, float[4] bscale, float[4] bshift, float[4,8] w3, float[8] b3,
            float[8,4] w4, float[4] b4, float[2,4,1,1] w5) => (float[N,2,8,8] y)
    {
        stem = Conv(x, w1)
        deep = Conv<group=4, pads=[1,1,1,1]>(stem, w2)
        last = Transpose<perm=[0,2,3,1]>(deep)
        norm = LayerNormalization(last, bscale, bshift)
        wide = MatMul(norm, w3)
        wide_b = Add(wide, b3)
        act = HardSwish(wide_b)
        narrow = MatMul(act, w4)
        narrow_b = Add(b4, narrow)
        back = Transpose<perm=[0,3,1,2]>(narrow_b)
        sum = Add(stem, back)
        y = Conv(sum, w5)
    }"""
"""A ConvNeXt block: depthwise convolution, then an MLP on [N, H, W, C]."""

ATTENTION = """
    agraph (float[N,3,8,8] x, float[4,3,2,2] w1, float[4,4] w2, float[4,4] w3, float[4,4] w4, float[4,4] w5, float[4,3] w6)
        => (float[N,16,3] y)
    <int64[3] rows = {0, 4, 16}> {
        a = Conv<strides=[2,2]>(x, w1)
        flat = Reshape(a, rows)
        t = Transpose<perm=[0,2,1]>(flat)
        q = MatMul(t, w2)
        k = MatMul(t, w3)
        v = MatMul(t, w4)
        kt = Transpose<perm=[0,2,1]>(k)
        scores = MatMul(q, kt)
        map = Softmax<axis=-1>(scores)
        mixed = MatMul(map, v)
        o = MatMul(mixed, w5)
        z = Add(t, o)
        y = MatMul(z, w6)
    }"""
"""One head of attention on tokens [N, T, C]."""

BATCH_SECOND = """
    agraph (float[N,3,8,8] x, float[4,3,2,2] w1, float[4,4] w2, float[4,4] w3, float[4,4] w4, float[4,4] w5, float[4,3] w6)
        => (float[N,16,3] y)
    <int64[3] rows = {0, 4, 16}> {
        a = Conv<strides=[2,2]>(x, w1)
        flat = Reshape(a, rows)
        t = Transpose<perm=[2,0,1]>(flat)
        q = MatMul(t, w2)
        k = MatMul(t, w3)
        v = MatMul(t, w4)
        qn = Transpose<perm=[1,0,2]>(q)
        kn = Transpose<perm=[1,2,0]>(k)
        vn = Transpose<perm=[1,0,2]>(v)
        scores = MatMul(qn, kn)
        map = Softmax<axis=-1>(scores)
        mixed = MatMul(map, vn)
        moved = Transpose<perm=[1,0,2]>(mixed)
        o = MatMul(moved, w5)
        z = Add(t, o)
        zn = Transpose<perm=[1,0,2]>(z)
        y = MatMul(zn, w6)
    }"""
"""The same on tokens [T, N, C], as torch.nn.MultiheadAttention has them."""
