"""Where targets differ: between a layer and the Add behind it, and behind the last layers."""

from __future__ import annotations

from graphs import graph
from placement.residual import BITS, RESIDUAL, activation_bits

from genie_onnx.placement import explain, place
from genie_onnx.targets import Constraints

FUSED, ROUNDED_OUTPUTS = Constraints(sums="fused"), Constraints(outputs="rounded")
DOWNSAMPLING = graph("""
    agraph (float[N,4,8,8] x, float[4,4,3,3] w1, float[4,4,1,1] w2, float[4,4,3,3] w3, float[5,4] w4)
        => (float[N,5] y, float[N,4] f)
    {
        c1 = Conv<pads=[1,1,1,1]>(x, w1)
        short = Conv(c1, w2)
        c3 = Conv<pads=[1,1,1,1]>(c1, w3)
        sum = Add(c3, short)
        pool = GlobalAveragePool(sum)
        f = Flatten(pool)
        y = Gemm<transB=1>(f, w4)
    }""")


def test_nothing_is_rounded_between_a_layer_and_the_add_it_is_fused_with():
    changed = set(activation_bits(place(RESIDUAL, BITS)).items()) ^ set(activation_bits(place(RESIDUAL, BITS, FUSED)).items())
    assert changed == {("c3", 7)}
    assert all(row.value != "c3" for row in explain(RESIDUAL, BITS, FUSED))


def test_of_two_layers_before_an_add_the_later_is_fused():
    assert {"short", "c3"} <= set(activation_bits(place(DOWNSAMPLING, BITS)))
    found = set(activation_bits(place(DOWNSAMPLING, BITS, FUSED)))
    assert "short" in found
    assert "c3" not in found


def test_a_sum_behind_an_activation_or_with_other_readers_is_not_fused():
    two_readers = graph("""
        agraph (float[N,4,8,8] x, float[4,4,1,1] w1, float[4,4,1,1] w2, float[4,4,1,1] w3) => (float[N,4,8,8] y) {
            c1 = Conv(x, w1)  c2 = Conv(c1, w2)  r2 = Relu(c2)  sum = Add(c1, r2)  y = Conv(sum, w3)
        }""")
    assert place(two_readers, BITS, FUSED).activations == place(two_readers, BITS).activations


def test_what_the_last_layers_write_is_rounded_where_outputs_are():
    assert "y" not in activation_bits(place(DOWNSAMPLING, BITS))
    rounded = place(DOWNSAMPLING, BITS, ROUNDED_OUTPUTS)
    assert activation_bits(rounded)["y"] == BITS.other_bits
    heads = graph("""
        agraph (float[N,4,8,8] x, float[4,4,1,1] w1, float[4,4,1,1] w2, float[4,4,1,1] w3)
            => (float[N,8,64] y, float[N,4,8,8] p) {
            c1 = Conv(x, w1)  a = Conv(c1, w2)  b = Conv(c1, w3)
            both = Concat<axis=1>(a, b)
            shape = Constant<value = int64[3] {0, 8, 64}>()
            y = Reshape(both, shape)
            p = Sigmoid(c1)
        }""")
    placement = place(heads, BITS, ROUNDED_OUTPUTS)
    assert set(placement.activation_of("y").values) == {"a", "b", "both", "y"}  # type: ignore[union-attr]
    assert placement.activation_of("p") is None  # computed in float behind the layers


def test_the_gate_of_a_silu_is_left_alone_where_it_is_fused():
    silu = graph("""
        agraph (float[N,4,8,8] x, float[4,4,1,1] w1, float[4,4,1,1] w2, float[4,4,1,1] w3) => (float[N,4,8,8] y) {
            c1 = Conv(x, w1)  g1 = Sigmoid(c1)  s1 = Mul(c1, g1)
            c2 = Conv(s1, w2)  g2 = Sigmoid(c2)  s2 = Mul(s1, g2)
            y = Conv(s2, w3)
        }""")
    rounded = set(activation_bits(place(silu, BITS)))
    assert {"g1", "g2"} <= rounded
    assert rounded - set(activation_bits(place(silu, BITS, Constraints(gates="float")))) == {"g1"}  # g2 gates another value


def test_average_pools_may_have_to_write_on_the_grid_they_read():
    assert place(RESIDUAL, BITS).activation_of("pool") != place(RESIDUAL, BITS).activation_of("c4")
    shared = place(RESIDUAL, BITS, Constraints(pools="shared")).activation_of("pool")
    assert shared is not None
    assert shared.values == ("c4", "pool", "flat")
    assert shared.roots == ("c4", "pool")  # new numbers, rounded again
