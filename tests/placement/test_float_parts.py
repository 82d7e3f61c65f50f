"""What stays float, and why: last layers and what is behind them, what a Softmax computes, layers without integer form."""

from __future__ import annotations

import pytest
from graphs import graph
from placement.residual import BITS, activation_bits

from genie_onnx.placement import place


def test_heads_are_all_last_and_what_follows_them_stays_float():
    placement = place(
        graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3, float[4,2,1,1] w4)
            => (float[N,2,4,4] y, float[N,6,4,4] z)
        {
            a = Conv(x, w1)
            b = Conv(a, w2)
            r = Relu(b)
            score = Conv(r, w3)
            y = Softmax<axis=1>(score)
            box = Conv(r, w4)
            e = Exp(box)
            z = Concat<axis=1>(e, r)
        }"""),
        BITS,
    )
    assert {w.value: w.bits for w in placement.weights} == {"w1": 8, "w2": 3, "w3": 8, "w4": 8}
    assert activation_bits(placement) == {"x": 7, "a": 8, "r": 8}


def test_what_a_softmax_computes_is_never_rounded():
    """Split attention: the logits have codes, a and its copy by Reshape have none, and the Mul that reads it asks for nothing."""
    placement = place(
        graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3) => (float[N,2,4,4] y)
        <int64[4] shape = {0, 0, 4, 4}> {
            b = Conv(x, w1)
            logits = Conv(b, w2)
            a = Softmax<axis=1>(logits)
            copy = Reshape(a, shape)
            weighed = Mul(b, copy)
            both = Concat<axis=1>(a, b)
            s = ReduceMax<keepdims=1>(both)
            n = Mul(s, weighed)
            h = HardSwish(n)
            y = Conv(h, w3)
        }"""),
        BITS,
    )
    assert activation_bits(placement) == {"x": 7, "b": 8, "logits": 7, "weighed": 7, "s": 7, "n": 7, "h": 8}


def test_a_layer_that_reads_a_softmax_stays_float_and_the_one_before_it_is_last():
    """DFL, the box head of YOLO since v8: the mean of 0 .. 2 under a Softmax, as a convolution."""
    placement = place(
        graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[12,2,1,1] w2, float[1,3,1,1] w3) => (float[N,1,4,16] y)
        <int64[4] shape = {0, 4, 3, 16}> {
            a = Conv(x, w1)
            box = Conv(a, w2)
            sides = Reshape(box, shape)
            t = Transpose<perm=[0,2,1,3]>(sides)
            p = Softmax<axis=1>(t)
            y = Conv(p, w3)
        }"""),
        BITS,
    )
    assert {w.value: w.bits for w in placement.weights} == {"w1": 8, "w2": 8}
    assert activation_bits(placement) == {"x": 7, "a": 8}
    assert "Softmax" in placement.float_nodes["y"]


FLOAT_LAYERS = {
    "its input is a vector; a MatMul is quantised where it is a matrix or a stack of matrices": (
        "float[4] x, float[4,4] w1",
        "y = MatMul(x, w1)",
    ),
    "its input is of unknown rank; a MatMul is quantised where it is a matrix or a stack of matrices": (
        "float[4,4] x, int64[M] shape, float[4,4] w1",
        "r = Reshape(x, shape) y = MatMul(r, w1)",
    ),
    "its weight 'w1' has rank 3; a MatMul is quantised where the weight is a matrix": (
        "float[N,3,4] x, float[1,4,4] w1",
        "y = MatMul(x, w1)",
    ),
    "its weight 'w1' is the left factor; a MatMul is quantised where the weight is the right one": (
        "float[N,4,3] x, float[4,4] w1",
        "y = MatMul(w1, x)",
    ),
    "it multiplies two computed values, and has no weight": (
        "float[N,4,4] x",
        "k = Relu(x) y = MatMul(x, k)",
    ),
    "its weight is computed by the graph, not stored in it": ("float[4,4] x, float[4,4] w1", "k = Relu(x) y = Gemm(x, k)"),
    "its weight 'w1' is also input 1 of Add 'z'": ("float[4,4] x, float[4,4] w1", "y = Gemm(x, w1) z = Add(x, w1)"),
    "its weight 'w1' is also input 2 of Gemm 'y'": ("float[4,4] x, float[4,4] w1", "y = Gemm(x, w1, w1)"),
    "its weight 'w1' is tied with Gemm 'z', which has its channels on another axis": (
        "float[4,4] x, float[4,4] w1",
        "y = Gemm(x, w1) z = Gemm<transB=1>(x, w1)",
    ),
    "it works on DOUBLE weights and DOUBLE input; only FLOAT (32 bit) is quantised": (
        "float[4,4] x, double[4,4] w1",
        "d = Cast<to=11>(x) y = Gemm(d, w1)",
    ),
}


@pytest.mark.parametrize("reason", FLOAT_LAYERS)
def test_layers_that_stay_float_say_why_and_ask_for_nothing(reason: str):
    inputs, body = FLOAT_LAYERS[reason]
    outputs = ", ".join(f"float[?] {name}" for name in ("y", "z") if f"{name} =" in body)
    placement = place(graph(f"agraph ({inputs}) => ({outputs}) {{ {body} }}"), BITS)
    assert placement.float_nodes["y"] == reason
    assert placement.weights == placement.activations == ()
