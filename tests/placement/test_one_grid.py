"""Which values share one grid: those that an operator only moves, or joins."""

from __future__ import annotations

import pytest
from graphs import graph
from placement.residual import BITS, LAYER_INPUTS, SHORTCUT, activation_bits

from genie_onnx.placement import Placement, place


def groups(placement: Placement) -> list[tuple[str, ...]]:
    return [group.values for group in placement.activations if len(group.values) > 1]


def test_slice_and_zero_pad_keep_their_producer_s_grid():
    placement = place(graph(SHORTCUT.replace("FILL", "0.0")), BITS)
    assert groups(placement) == [("r1", "half", "wide")]
    group = placement.activation_of("wide")
    assert group is not None
    assert (group.name, group.roots, group.bits) == ("r1", ("r1",), 8)


def test_padding_with_another_number_is_not_on_the_grid():
    placement = place(graph(SHORTCUT.replace("FILL", "1.0")), BITS)
    assert groups(placement) == [("r1", "half")]
    assert activation_bits(placement)["wide"] == 7


@pytest.mark.parametrize(("mode", "shared"), [("nearest", True), ("linear", False)])
def test_only_nearest_resizing_repeats_numbers(mode: str, shared: bool):
    placement = place(
        graph(f"""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3) => (float[N,2,8,8] y)
        <float[4] scales = {{1, 1, 2, 2}}> {{
            a = Conv(x, w1)
            b = Conv(a, w2)
            big = Resize<mode="{mode}">(b, , scales)
            y = Conv(big, w3)
        }}"""),
        BITS,
    )
    assert groups(placement) == ([("b", "big")] if shared else [])
    assert activation_bits(placement) == {"x": 7, "a": 8, "b": 8 if shared else 7, "big": 8}


CONCAT = graph("""
    agraph (float[N,2,4,4] x, float[2,2,1,1] w0, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3, float[2,4,1,1] w4,
            float[2,2,1,1] w5) => (float[N,2,4,4] y)
    {
        s = Conv(x, w0)
        a = Conv(s, w1)
        b = Conv(a, w2)
        h = HardSwish(b)
        cat = Concat<axis=1>(h, a)
        c = Conv(cat, w4)
        y = Conv(c, w5)
    }""")


def test_operands_and_result_of_a_concat_share_one_grid():
    placement = place(CONCAT, BITS)
    assert groups(placement) == [("a", "h", "cat")]
    assert placement.activations[2].roots == ("a", "h")
    assert activation_bits(placement) == {"x": 7, "s": 8, "a": 4, "b": 7, "h": 4, "cat": 4, "c": 8}


def test_with_layer_inputs_an_operand_that_no_layer_reads_stays_float():
    placement = place(CONCAT, LAYER_INPUTS)
    assert activation_bits(placement) == {"s": 8, "a": 4, "cat": 4, "c": 8}
    assert groups(placement) == [("a", "cat")], "still one grid: what is rounded as `a` is not rounded again as part of `cat`"
    assert placement.activations[1].roots == ("a", "cat")


def test_a_concat_with_a_constant_is_rounded_itself():
    """`normalise` makes it a Pad, which repeats numbers and zeros, and an Add of the constant (graph.joined_constants)."""
    placement = place(
        graph("""
        agraph (float[1,2,4,4] x, float[2,2,1,1] w1, float[1,2,4,4] b, float[2,4,1,1] w2) => (float[1,2,4,4] y)
        {
            a = Conv(x, w1)
            cat = Concat<axis=1>(a, b)
            y = Conv(cat, w2)
        }"""),
        BITS,
    )
    assert groups(placement) == [("a", "cat.padded")]
    spec = placement.activation_of("cat")
    assert spec is not None
    assert spec.roots == ("cat",)


def test_split_and_layout_operators_join_one_group():
    placement = place(
        graph("""
        agraph (float[N,4,4,4] x, float[4,4,1,1] w1, float[4,4,1,1] w2, float[2,2,1,1] w3, float[2,2,1,1] w4)
            => (float[N,2,4,4] y)
        <int64[5] five = {0, 2, 2, 4, 4}, int64[4] four = {0, 4, 4, 4}> {
            s = Conv(x, w1)
            a = Conv(s, w2)
            r = Reshape(a, five)
            t = Transpose<perm=[0,2,1,3,4]>(r)
            u = Reshape(t, four)
            left, right = Split<axis=1>(u)
            p = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(left)
            b = Conv(p, w3)
            sum = Add(b, right)
            y = Conv(sum, w4)
        }"""),
        BITS,
    )
    assert groups(placement) == [("a", "r", "t", "u", "left", "right", "p")]
    assert placement.activations[2].roots == ("a",)
    assert placement.activations[2].bits == 4, "the convolution behind the pooling decides, not the Add"
