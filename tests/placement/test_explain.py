"""Why operators without weights compute in float."""

from __future__ import annotations

import pytest
from graphs import graph

from genie_onnx.config import PlacementConfig
from genie_onnx.placement import float_operators

NET = graph("""
    agraph (float[N,4,8,8] x, float[4,4,1,1] w1, float[4,4,1,1] w2, float[4,4,1,1] w3, float[4,4,1,1] w4) => (float[N,4,8,8] y)
    <float three = {3.0}, int64[4] shape = {0, 4, 8, 8}> {
        plain = Relu(x)
        a = Conv(plain, w1)
        r = Relu(a)
        h = HardSwish(r)
        p = Add(h, three)
        q = Mul(p, p)
        t = Reshape(q, shape)
        b = Conv(t, w2)
        c = Conv(t, w3)
        s = Sigmoid(c)
        m = Mul(b, s)
        d = Conv(m, w4)
        e = Relu(d)
        g = Sigmoid(e)
        y = Softmax(g)
    }""")
ALWAYS = {
    "plain": "not fused: no layer or Add stands alone before it",
    "h": "no integer kernel in onnxruntime",
    "p": "its other operand is a constant, or itself",
    "q": "its other operand is a constant, or itself",
    "g": "behind the last layers",
    "y": "behind the last layers",
}


@pytest.mark.parametrize(
    ("config", "more"),
    [
        (PlacementConfig(), {}),
        (
            PlacementConfig(points="layer-inputs"),
            dict.fromkeys(("s", "m"), "--points layer-inputs rounds inputs of layers only"),
        ),
        (PlacementConfig(keep_float=("s",)), {"s": "asked for with --keep-float", "m": "beside a node that is kept float"}),
        (PlacementConfig(keep_float=("b",)), {"m": "beside a node that is kept float"}),
    ],
    ids=["full", "layer-inputs", "kept operator", "kept layer"],
)
def test_each_has_its_reason(config: PlacementConfig, more: dict[str, str]):
    """r and e are fused with the convolutions before them, t repeats numbers."""
    assert float_operators(NET, config) == ALWAYS | more


def test_beside_a_softmax():
    net = graph("""
        agraph (float[N,4,8,8] x, float[4,4,1,1] w1, float[4,4,1,1] w2) => (float[N,4,8,8] y) {
            a = Conv(x, w1)
            s = Softmax<axis=1>(a)
            m = Mul(a, s)
            y = Conv(m, w2)
        }""")
    assert float_operators(net, PlacementConfig()) == {
        "s": "no integer kernel in onnxruntime",
        "m": "beside a Softmax, whose results stay float",
    }
