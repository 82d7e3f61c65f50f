"""Which values are rounded, to how many bits and on which shared grid, on graphs small enough to know the answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx_ir as ir
import pytest
from graphs import graph
from placement.residual import BITS, LAYER_INPUTS, RESIDUAL, SHORTCUT, activation_bits

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
