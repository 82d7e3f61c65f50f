"""MatMuls on stacks of matrices: dense layers of channels-last maps and of tokens, and attention between them."""

from __future__ import annotations

import pytest
from graphs import graph
from placement.residual import BITS, activation_bits
from token_nets import ATTENTION, CHANNELS_LAST

from genie_onnx.placement import float_operators, place


def test_dense_layers_of_a_channels_last_map():
    """The MLP reads `abits`; what its MatMuls write stays float until a layer or an integer Add reads it."""
    placement = place(graph(CHANNELS_LAST), BITS)
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
    placement = place(graph(ATTENTION), BITS)
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
    assert float_operators(graph(net), BITS) == expected
