"""MatMuls on stacks of matrices: dense layers of channels-last maps and of tokens, and attention between them."""

from __future__ import annotations

import pytest
from graphs import graph
from placement.residual import BITS, activation_bits

from genie_onnx.placement import float_operators, place

# A ConvNeXt block: depthwise convolution, then an MLP on [N, H, W, C]
CHANNELS_LAST = graph("""
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
    }""")

# Tokens [N, T, C]: one head of attention
ATTENTION = graph("""
    agraph (float[N,4,2,2] x, float[4,4,1,1] w1, float[4,4] w2, float[4,4] w3, float[4,4] w4, float[4,4] w5, float[4,3] w6)
        => (float[N,4,3] y)
    <int64[3] rows = {0, 4, 4}> {
        a = Conv(x, w1)
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
    }""")


def test_dense_layers_of_a_channels_last_map():
    """The MLP reads `abits`; what its MatMuls write stays float until a layer or an integer Add reads it."""
    placement = place(CHANNELS_LAST, BITS)
    assert placement.float_nodes == {}
    assert {w.value: (w.bits, w.axis) for w in placement.weights} == {
        "w1": (8, 0),
        "w2": (3, 0),
        "w3": (3, 1),
        "w4": (3, 1),
        "w5": (8, 0),
    }
    assert activation_bits(placement) == {
        "x": 7,
        "stem": 8,  # the second layer's input
        "deep": 7,  # written by a convolution
        "last": 7,
        "norm": 4,
        "act": 4,
        "narrow_b": 7,  # on its way into the Add
        "back": 7,
        "sum": 8,
    }


def test_only_products_with_weights_are_quantised():
    placement = place(ATTENTION, BITS)
    assert placement.float_nodes == dict.fromkeys(("scores", "mixed"), "it multiplies two computed values, and has no weight")
    assert [w.value for w in placement.weights] == ["w1", "w2", "w3", "w4", "w5", "w6"]
    bits = activation_bits(placement)
    assert {v: bits.get(v) for v in ("t", "mixed", "o", "z")} == {"t": 8, "mixed": 4, "o": 7, "z": 8}
    assert bits.keys().isdisjoint(("q", "k", "v", "kt", "scores", "map"))


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (CHANNELS_LAST, {"norm": "no integer kernel in onnxruntime", "act": "no integer kernel in onnxruntime"}),
        (ATTENTION, {"map": "no integer kernel in onnxruntime"}),
    ],
    ids=["channels last", "attention"],
)
def test_biases_belong_to_their_layers_and_norms_and_attention_are_float(net, expected):
    assert float_operators(net, BITS) == expected
