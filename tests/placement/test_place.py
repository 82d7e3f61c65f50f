"""Which values are rounded, to how many bits and on which shared grid, on graphs small enough to know the answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx_ir as ir
import pytest
from graphs import graph
from placement.residual import BITS, LAYER_INPUTS, RESIDUAL, activation_bits

from genie_onnx.config import PlacementConfig
from genie_onnx.graph import fold_batchnorm, load, normalise, query
from genie_onnx.placement import Placement, explain, place

QDROP = dataclasses.replace(BITS, setting="qdrop")


def groups(placement: Placement) -> list[tuple[str, ...]]:
    return [group.values for group in placement.activations if len(group.values) > 1]


def test_bits_and_points_of_a_residual_network():
    placement = place(RESIDUAL, BITS)
    assert activation_bits(placement) == {
        "x": 7,  # the network's input
        "r1": 8,  # read by the second layer and by the skip: one grid
        "r2": 4,
        "c3": 7,  # read by the Add alone
        "r3": 4,
        "c4": 7,
        "pool": 8,  # on its way into the last layer
        "flat": 8,
    }
    assert {w.value: w.bits for w in placement.weights} == {"w1": 8, "w2": 3, "w3": 3, "w4": 3, "w5": 8}
    assert {w.value: w.axis for w in placement.weights} == {"w1": 0, "w2": 0, "w3": 0, "w4": 0, "w5": 0}
    assert groups(placement) == [("pool", "flat")]
    assert placement.float_nodes == {}


def test_nothing_is_rounded_between_a_kernel_and_its_fused_activation_nor_behind_the_last_layer():
    for value in ("c1", "c2", "sum", "y"):
        assert place(RESIDUAL, BITS).activation_of(value) is None


def test_qdrop_setting_gives_the_second_layer_ordinary_bits():
    assert activation_bits(place(RESIDUAL, QDROP))["r1"] == 4
    changed = {
        v for v, bits in activation_bits(place(RESIDUAL, QDROP)).items() if bits != activation_bits(place(RESIDUAL, BITS))[v]
    }
    assert changed == {"r1"}


def test_a_layer_s_bits_outrank_those_of_other_readers():
    """r3 with a skip behind it keeps 4 bits, although an Add reads it, which asks for 7."""
    model = graph("""
        agraph (float[N,4,8,8] x, float[4,4,1,1] w1, float[4,4,1,1] w2, float[4,4,1,1] w3, float[4,4,1,1] w4)
            => (float[N,4,8,8] y)
        {
            a = Conv(x, w1)
            b = Conv(a, w2)
            c = Conv(b, w3)
            s = Add(b, c)
            y = Conv(s, w4)
        }""")
    assert activation_bits(place(model, BITS)) == {"x": 7, "a": 8, "b": 4, "c": 7, "s": 8}


def test_layer_inputs_are_the_points_of_the_paper():
    placement = place(RESIDUAL, LAYER_INPUTS)
    assert activation_bits(placement) == {"r1": 8, "r2": 4, "r3": 4, "flat": 8}
    assert [group.roots for group in placement.activations] == [("r1",), ("r2",), ("r3",), ("flat",)]


SHORTCUT = """
    agraph (float[N,4,8,8] x, float[4,4,3,3] w1, float[8,4,3,3] w2, float[8,8,1,1] w3, float[2,8,1,1] w4) => (float[N,2,4,4] y)
    <int64[2] start = {0, 0}, int64[2] end = {99, 99}, int64[2] axes = {2, 3}, int64[2] steps = {2, 2},
     int64[8] pads = {0, 2, 0, 0, 0, 2, 0, 0}, float fill = {FILL}> {
        c1 = Conv<pads=[1,1,1,1]>(x, w1)
        r1 = Relu(c1)
        c2 = Conv<pads=[1,1,1,1], strides=[2,2]>(r1, w2)
        half = Slice(r1, start, end, axes, steps)
        wide = Pad(half, pads, fill)
        sum = Add(c2, wide)
        r2 = Relu(sum)
        c3 = Conv(r2, w3)
        y = Conv(c3, w4)
    }"""


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


def test_second_layers_read_first_ones_and_nothing_deeper():
    """Both convolutions behind the stem are second; the one behind the sum of stem and branch is not."""
    placement = place(
        graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3, float[2,2,1,1] w4, float[2,2,1,1] w5)
            => (float[N,2,4,4] y)
        {
            stem = Conv(x, w1)
            pool = MaxPool<kernel_shape=[1,1]>(stem)
            act = HardSwish(pool)
            a = Conv(act, w2)
            b = Conv(act, w3)
            sum = Add(a, b)
            more = Add(sum, act)
            c = Conv(more, w4)
            y = Conv(c, w5)
        }"""),
        BITS,
    )
    assert activation_bits(placement) == {
        "x": 7, "stem": 7, "pool": 7, "act": 8, "a": 7, "b": 7, "sum": 7, "more": 4, "c": 8,
    }  # fmt: skip


def test_squeeze_excite_gate():
    placement = place(
        graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3, float[2,2,1,1] w4, float[2,2,1,1] w5)
            => (float[N,2,4,4] y)
        {
            stem = Conv(x, w1)
            a = Conv(stem, w2)
            p = GlobalAveragePool(a)
            e = Conv(p, w3)
            r = Relu(e)
            f = Conv(r, w4)
            g = HardSigmoid(f)
            m = Mul(a, g)
            y = Conv(m, w5)
        }"""),
        BITS,
    )
    assert activation_bits(placement) == {"x": 7, "stem": 8, "a": 7, "p": 4, "r": 4, "f": 7, "g": 7, "m": 8}


def test_arithmetic_with_constants_and_squares_stays_float():
    """HardSwish written out: x * clip(x + 3, 0, 6) / 6, and x / mean(x * x)."""
    placement = place(
        graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3) => (float[N,2,4,4] y)
        <float three = {3.0}, float zero = {0.0}, float six = {6.0}> {
            a = Conv(x, w1)
            plus = Add(a, three)
            clip = Clip(plus, zero, six)
            div = Div(clip, six)
            swish = Mul(a, div)
            b = Conv(swish, w2)
            square = Mul(b, b)
            mean = ReduceMean<axes=[1,2,3]>(square)
            norm = Div(b, mean)
            y = Conv(norm, w3)
        }"""),
        BITS,
    )
    assert activation_bits(placement) == {"x": 7, "a": 7, "div": 7, "swish": 8, "b": 7, "norm": 8}


def test_the_bias_of_a_matmul_and_its_activation_are_fused():
    placement = place(
        graph("""
        agraph (float[N,4] x, float[4,4] w1, float[4] b1, float[4,4] w2, float[4] b2, float[4,2] w3) => (float[N,2] y)
        {
            m1 = MatMul(x, w1)
            s1 = Add(m1, b1)
            r1 = Relu(s1)
            m2 = MatMul(r1, w2)
            s2 = Add(b2, m2)
            y = MatMul(s2, w3)
        }"""),
        BITS,
    )
    assert activation_bits(placement) == {"x": 7, "r1": 8, "s2": 8}
    assert [w.axis for w in placement.weights] == [1, 1, 1]


def test_an_activation_with_other_readers_is_not_fused():
    """The Conv's own output is rounded too, and HardSwish, which has no integer kernel, is not the one who asks."""
    model = graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,4,1,1] w3) => (float[N,2,4,4] y)
        {
            a = Conv(x, w1)
            r = Relu(a)
            b = Conv(r, w2)
            h = HardSwish(a)
            cat = Concat<axis=1>(h, b)
            y = Conv(cat, w3)
        }""")
    assert activation_bits(place(model, BITS)) == {"x": 7, "a": 7, "r": 8, "h": 8, "b": 8, "cat": 8}


def test_outputs_of_the_network_stay_float_unless_a_layer_reads_them():
    """`a` has to be handed out, so no kernel writes codes there or behind the Relu; `h` is what the next layer reads."""
    model = graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2) => (float[N,2,4,4] a, float[N,2,4,4] h, float[N,2,4,4] y)
        {
            a = Conv(x, w1)
            r = Relu(a)
            h = HardSwish(r)
            y = Conv(h, w2)
        }""")
    assert activation_bits(place(model, BITS)) == {"x": 7, "h": 8}


def test_nobody_behind_the_last_layers_asks_for_anything():
    model = graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2) => (float[N,2,4,4] y)
        {
            a = Conv(x, w1)
            h = HardSwish(a)
            e = Exp(h)
            b = Conv(e, w2)
            y = Add(b, h)
        }""")
    assert activation_bits(place(model, BITS)) == {"x": 7, "a": 7, "e": 8}, "h is read by an Add, but that one decodes"


def test_a_tied_weight_has_one_spec_with_the_most_bits_of_its_layers():
    placement = place(
        graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3) => (float[N,2,4,4] y)
        {
            a = Conv(x, w1)
            b = Conv(a, w2)
            c = Conv(b, w1)
            d = Conv(c, w3)
            e = Conv(d, w2)
            y = Conv(e, w3)
        }"""),
        BITS,
    )
    assert [(w.value, w.bits, w.nodes) for w in placement.weights] == [
        ("w1", 8, ("a", "c")),
        ("w2", 3, ("b", "e")),
        ("w3", 8, ("d", "y")),
    ]


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


def test_roles_are_those_of_quantised_layers():
    """The float MatMul in front makes the second layer the first; nothing is rounded for its sake."""
    placement = place(
        graph("""
        agraph (float[N,3,4] x, float[1,4,4] w1, float[3,3,1] w2, float[3,3,1] w3) => (float[N,3,4] y)
        {
            m = MatMul(x, w1)
            a = Conv(m, w2)
            y = Conv(a, w3)
        }"""),
        BITS,
    )
    assert list(placement.float_nodes) == ["m"]
    assert activation_bits(placement) == {"m": 7, "a": 8}


def test_a_single_layer_is_first_and_last():
    model = graph("agraph (float[N,4,2,2] x, float[4,4,1,1] w1) => (float[N,4,2,2] y) { y = Conv(x, w1) }")
    assert activation_bits(place(model, BITS)) == {"x": 8}
    assert activation_bits(place(model, LAYER_INPUTS)) == {}


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_the_input_of_a_product_of_matrices_is_rounded_even_where_it_comes_first(op: str):
    """Left float, it would be rounded by onnxruntime's MatMulNBits, unseen by the simulation."""
    model = graph(f"agraph (float[N,4] x, float[4,4] w1) => (float[N,4] y) {{ y = {op}(x, w1) }}")
    assert activation_bits(place(model, LAYER_INPUTS)) == {"x": 8}


@pytest.mark.parametrize("config", [BITS, QDROP, LAYER_INPUTS], ids=["brecq", "qdrop", "layer-inputs"])
def test_every_rounded_value_is_explained(config: PlacementConfig):
    placement = place(RESIDUAL, config)
    rows = explain(RESIDUAL, config)
    weights, activations = rows[: len(placement.weights)], rows[len(placement.weights) :]
    assert [(r.value, r.bits) for r in weights] == [(w.value, w.bits) for w in placement.weights]
    assert {r.value: r.bits for r in activations} == activation_bits(placement)


def test_explanations_name_who_asks():
    why = {row.value: row.why for row in explain(RESIDUAL, BITS)}
    assert why["w1"] == "weight of first layer 'c1'"
    assert why["x"] == "input of first layer 'c1'"
    assert why["r1"] == "written by Conv 'c1'; input of second layer 'c2'; read by Add 'sum'"
    assert why["c3"] == "written by Conv 'c3'; read by Add 'sum'"
    assert why["flat"] == "input of last layer 'y'"
    shortcut = {row.value: row.why for row in explain(graph(SHORTCUT.replace("FILL", "0.0")), BITS)}
    assert shortcut["half"] == "repeats numbers of 'r1'; selected: a grid of its own where calibration images show that it pays"


# Rounded values (groups, values, roots) and weights by bits; of RFB's 9 weights of 8 bits one is the first, 8 are heads.
BENCH = {
    "cifar/resnet20_bn.onnx": ((30, 37, 30), {4: 18, 8: 2}),
    "cifar/resnet20_folded.onnx": ((30, 37, 30), {4: 18, 8: 2}),
    "imagenet/mobilenet_v1_075_224_bn.onnx": ((29, 31, 29), {4: 26, 8: 2}),
    "zoo/mlperf_resnet8_bn.onnx": ((14, 15, 14), {4: 8, 8: 2}),
    "zoo/version-RFB-320.onnx": ((44, 47, 46), {4: 43, 8: 9}),
}


@pytest.mark.parametrize("file", BENCH)
def test_published_models(bench: Path, file: str):
    model = fold_batchnorm(normalise(load(bench / file)))
    placement = place(model, PlacementConfig())
    assert placement == place(model, PlacementConfig())
    assert not placement.float_nodes
    sizes = tuple(sum(len(x) for x in xs) for xs in zip(*[([1], g.values, g.roots) for g in placement.activations], strict=True))
    assert sizes == BENCH[file][0]
    assert {bits: sum(w.bits == bits for w in placement.weights) for bits in (4, 8)} == BENCH[file][1]
    values = query.value_map(model)
    order = {name: i for i, name in enumerate(values)}
    for group in placement.activations:
        assert list(group.values) == sorted(group.values, key=order.__getitem__)
        assert all(values[v].dtype == ir.DataType.FLOAT and not query.is_constant(values[v]) for v in group.values)


def test_the_paper_s_points_on_resnet20(bench: Path):
    """19 of the 20 layers have a rounded input: the image stays float."""
    model = fold_batchnorm(normalise(load(bench / "cifar/resnet20_bn.onnx")))
    placement = place(model, PlacementConfig(points="layer-inputs"))
    bits = [group.bits for group in placement.activations]
    assert (len(bits), bits.count(8), bits[0], bits[-1]) == (19, 2, 8, 8)
    assert all(len(group.values) == 1 for group in placement.activations)
