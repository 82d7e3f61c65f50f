"""What patterns mean, and what placement makes of nodes that stay float and of layers with bits of their own."""

from __future__ import annotations

import dataclasses
import re

import pytest
from graphs import graph
from placement.residual import BITS, LAYER_INPUTS, RESIDUAL, activation_bits

from genie_onnx.config import LayerBits, PlacementConfig
from genie_onnx.errors import ConfigError
from genie_onnx.placement import Placement, explain, place

PLAIN = {"x": 7, "r1": 8, "r2": 4, "c3": 7, "r3": 4, "c4": 7, "pool": 8, "flat": 8}


def kept(*patterns: str, config: PlacementConfig = BITS) -> PlacementConfig:
    return dataclasses.replace(config, keep_float=patterns)


def given(*bits: tuple[str, int, int], config: PlacementConfig = BITS) -> PlacementConfig:
    return dataclasses.replace(config, layer_bits=tuple(LayerBits(pattern=p, wbits=w, abits=a) for p, w, a in bits))


def weights(placement: Placement) -> dict[str, int]:
    return {spec.value: spec.bits for spec in placement.weights}


def changed(placement: Placement) -> dict[str, int | None]:
    """What is not as without patterns."""
    found = activation_bits(placement)
    return {v: found.get(v) for v in {**PLAIN, **found} if found.get(v) != PLAIN.get(v)}


def test_a_kept_layer_asks_for_nothing_and_changes_nothing_else():
    """r2, which c2's kernel writes, has no other reader: it stays float. The layer's own result goes into the Add as it is."""
    placement = place(RESIDUAL, kept("c3"))
    assert changed(placement) == {"r2": None, "c3": None}
    assert weights(placement) == {"w1": 8, "w2": 3, "w4": 3, "w5": 8}
    assert placement.float_nodes == {"c3": "asked for with --keep-float 'c3'"}


def test_what_another_layer_reads_stays_rounded():
    placement = place(RESIDUAL, kept("c4"))
    assert changed(placement) == {"r3": None, "c4": None}, "pool is what the last layer reads"
    assert activation_bits(place(RESIDUAL, kept("c2")))["r2"] == 4


@pytest.mark.parametrize(("layer", "gone"), [("c1", {"x"}), ("y", {"pool", "flat"})])
def test_the_first_or_last_layer_kept_leaves_its_neighbours_their_bits(layer: str, gone: set[str]):
    """What the second layer reads keeps its 8 bits, and the last but one does not become the last."""
    placement = place(RESIDUAL, kept(layer))
    assert weights(placement)["w2"] == weights(placement)["w4"] == 3
    assert changed(placement) == dict.fromkeys(gone)


def test_a_kept_operator_asks_for_nothing_but_its_neighbours_do():
    """c3 and c4 are what kernels of convolutions write; pool is what the last layer reads."""
    placement = place(RESIDUAL, kept("Add", "GlobalAveragePool"))
    assert changed(placement) == {}
    assert placement.float_nodes == {}
    why = {row.value: row.why for row in explain(RESIDUAL, kept("Add"))}
    assert why["c3"] == "written by Conv 'c3'"


def test_a_weightless_operator_beside_a_kept_node_is_float_as_well():
    """x * sigmoid(x) behind a kept layer: Sigmoid and Mul have no codes to work on, so nothing between them is rounded."""
    model = graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3, float[2,2,1,1] w4)
            => (float[N,2,4,4] y)
        {
            a = Conv(x, w1)
            b = Conv(a, w2)
            s = Sigmoid(b)
            m = Mul(b, s)
            c = Conv(m, w3)
            y = Conv(c, w4)
        }""")
    assert activation_bits(place(model, BITS)) == {"x": 7, "a": 8, "b": 7, "s": 7, "m": 4, "c": 8}
    assert activation_bits(place(model, kept("b"))) == {"x": 7, "m": 4, "c": 8}
    assert activation_bits(place(model, kept("Sigmoid"))) == {"x": 7, "a": 8, "b": 7, "m": 4, "c": 8}, (
        "b is what a layer's kernel writes"
    )


CONCAT = graph("""
    agraph (float[N,2,4,4] x, float[2,2,1,1] w0, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,4,1,1] w4, float[2,2,1,1] w5)
        => (float[N,2,4,4] y)
    {
        s = Conv(x, w0)
        a = Conv(s, w1)
        b = Conv(a, w2)
        cat = Concat<axis=1>(b, a)
        pool = MaxPool<kernel_shape=[1,1]>(cat)
        c = Conv(pool, w4)
        y = Conv(c, w5)
    }""")


@pytest.mark.parametrize(
    ("config", "shared", "apart"),
    [
        (BITS, [("a", "b", "cat", "pool")], [("a",), ("b",), ("cat", "pool")]),
        (LAYER_INPUTS, [("a",), ("pool",)], [("a",), ("pool",)]),
    ],
    ids=["full", "layer-inputs"],
)
def test_a_kept_concat_makes_nobody_share_a_grid(
    config: PlacementConfig, shared: list[tuple[str, ...]], apart: list[tuple[str, ...]]
):
    def groups(settings: PlacementConfig) -> list[tuple[str, ...]]:
        return [g.values for g in place(CONCAT, settings).activations if g.name not in ("x", "s", "c")]

    assert groups(config) == shared
    assert groups(kept("Concat", config=config)) == apart
    assert groups(kept("MaxPool", "Concat", config=config))[-1] == ("pool",)


def test_what_is_kept_behind_a_repeating_operator_is_not_rounded_before_it():
    """The kernel that writes cat asks for codes, but pool, which only repeats them, is read by a kept layer."""
    found = activation_bits(place(CONCAT, kept("c")))
    assert found == {"x": 7, "s": 8, "a": 4, "b": 4, "cat": 4, "pool": 4, "c": 8}, "a layer reads a, of the same grid"
    chain = graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3) => (float[N,2,4,4] y)
        {
            a = Conv(x, w1)
            p = MaxPool<kernel_shape=[1,1]>(a)
            b = Conv(p, w2)
            y = Conv(b, w3)
        }""")
    assert activation_bits(place(chain, kept("b"))) == {"x": 7, "b": 8}


def test_bits_of_a_layer_are_those_of_its_weight_and_of_what_it_reads():
    placement = place(RESIDUAL, given(("c3", 5, 6)))
    assert changed(placement) == {"r2": 6}
    assert weights(placement) == {"w1": 8, "w2": 3, "w3": 5, "w4": 3, "w5": 8}


@pytest.mark.parametrize(("layer", "value"), [("c1", "x"), ("c2", "r1"), ("y", "flat")])
@pytest.mark.parametrize("config", [BITS, LAYER_INPUTS], ids=["full", "layer-inputs"])
def test_bits_outrank_the_roles_of_layers(layer: str, value: str, config: PlacementConfig):
    placement = place(RESIDUAL, given((layer, 5, 2), config=config))
    assert weights(placement)[f"w{ {'c1': 1, 'c2': 2, 'y': 5}[layer] }"] == 5
    assert activation_bits(placement)[value] == 2


def test_of_two_layers_that_read_one_value_the_larger_bits_hold():
    model = graph("""
        agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3, float[2,2,1,1] w4, float[2,4,1,1] w5)
            => (float[N,2,4,4] y)
        {
            a = Conv(x, w1)
            b = Conv(a, w2)
            c = Conv(b, w3)
            d = Conv(b, w4)
            cat = Concat<axis=1>(c, d)
            y = Conv(cat, w5)
        }""")
    assert activation_bits(place(model, given(("c", 2, 2))))["b"] == 4, "d reads it with 4 bits"
    assert activation_bits(place(model, given(("c", 2, 2), ("d", 2, 3))))["b"] == 3
    assert activation_bits(place(model, given(("c", 2, 6))))["b"] == 6


def test_the_most_exact_pattern_holds_and_of_two_equal_ones_the_larger_bits():
    asked = (("Conv", 8, 8), ("c[34]", 2, 5), ("c4", 6, 3))
    for order in (asked, asked[::-1]):
        assert weights(place(RESIDUAL, given(*order))) == {"w1": 8, "w2": 8, "w3": 2, "w4": 6, "w5": 8}
    assert activation_bits(place(RESIDUAL, given(*asked)))["r2"] == 5
    assert weights(place(RESIDUAL, given(("c[34]", 2, 5), ("c*", 7, 2))))["w3"] == 7
    assert activation_bits(place(RESIDUAL, given(("c[34]", 2, 5), ("c*", 7, 2))))["r2"] == 5


TIED = """
    agraph (float[N,2,4,4] x, float[2,2,1,1] w1, float[2,2,1,1] w2, float[2,2,1,1] w3) => (float[N,2,4,4] y)
    {
        a = Conv(x, w1)
        b = Conv(a, w2)
        c = Conv(b, w2)
        y = Conv(c, w3)
    }"""


def test_tied_layers_are_kept_together():
    placement = place(graph(TIED), kept("c"))
    assert [spec.value for spec in placement.weights] == ["w1", "w3"]
    assert placement.float_nodes == {
        "b": "its weight 'w2' is tied with Conv 'c', which stays float",
        "c": "asked for with --keep-float 'c'",
    }
    assert activation_bits(placement) == {"x": 7, "c": 8}


def test_a_weight_tied_with_a_layer_that_cannot_be_quantised_stays_float():
    placement = place(
        graph("""
        agraph (float[1,4] x, float[4,4] w1, float[4,2] w3) => (float[1,2] y)
        <int64[1] first = {0}> {
            a = MatMul(x, w1)
            vector = Squeeze(a, first)
            b = MatMul(vector, w1)
            matrix = Unsqueeze(b, first)
            y = MatMul(matrix, w3)
        }"""),
        BITS,
    )
    assert [spec.value for spec in placement.weights] == ["w3"]
    assert placement.float_nodes == {
        "a": "its weight 'w1' is tied with MatMul 'b', which stays float",
        "b": "its input is a vector; a MatMul is quantised where it is a matrix or a stack of matrices",
    }


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            kept("flat1"),
            "'flat1' means no node of the network (as quantized: constants and BatchNormalization folded); near: 'flat'",
        ),
        (kept("conv"), "near: 'Conv'"),
        (kept("head*"), "`genie-onnx inspect -v` lists all nodes"),
        (given(("c[9]", 4, 4)), "--bits 'c[9]' means no node"),
        (
            given(("Relu", 4, 4)),
            "--bits 'Relu' means Relu 'r1', which has no weights; bits are for layers (Conv, ConvTranspose, Gemm,",
        ),
        (
            dataclasses.replace(kept("c2", "c3"), layer_bits=given(("c[23]", 4, 4)).layer_bits),
            "--bits 'c[23]' is without effect: Conv 'c2' stays float, asked for with --keep-float 'c2'",
        ),
    ],
)
def test_patterns_that_mean_nothing_are_errors(config: PlacementConfig, text: str):
    with pytest.raises(ConfigError, match=re.escape(text)):
        place(RESIDUAL, config)


def test_all_such_patterns_are_named_at_once():
    config = dataclasses.replace(kept("c9", "head*"), layer_bits=given(("Relu", 4, 4)).layer_bits)
    with pytest.raises(ConfigError) as error:
        place(RESIDUAL, config)
    assert len(error.value.problems) == 3


def test_a_name_outranks_a_type_and_a_type_a_glob():
    """A node called Gemm is that node alone; brackets in a name are no glob."""
    model = graph("""
        agraph (float[N,4] x, float[4,4] w1, float[4,4] w2, float[4,4] w3) => (float[N,4] y)
        {
            a = Gemm(x, w1)
            b = Gemm(a, w2)
            y = Gemm(b, w3)
        }""")
    nodes = list(model.graph)
    nodes[0].name, nodes[1].name = "Gemm", "b[0]"
    assert set(place(model, kept("Gemm")).float_nodes) == {"Gemm"}
    assert set(place(model, kept("b[0]")).float_nodes) == {"b[0]"}
    nodes[0].name = "a"
    assert set(place(model, kept("Gemm")).float_nodes) == {"a", "b[0]", "y"}


def test_explanations_say_who_asked():
    why = {row.value: row.why for row in explain(RESIDUAL, given(("c[3]", 5, 6)))}
    assert why["w3"] == "weight of layer 'c3' (--bits c[3])"
    assert why["r2"] == "written by Conv 'c2'; input of layer 'c3' (--bits c[3])"
