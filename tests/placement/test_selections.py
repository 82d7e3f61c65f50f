"""Selections on grids of their own: what is cut off, what reads floats for it, and what stays as it was."""

from __future__ import annotations

import pytest
from graphs import graph

from genie_onnx.config import PlacementConfig
from genie_onnx.placement import ActivationSpec, Placement, hand_out_floats, place, selections
from genie_onnx.targets import TARGETS, Constraints

BITS = PlacementConfig(wbits=3, abits=4, setting="qdrop")  # 4 bits for the second layer too

SELECTING = {
    "slice": ("half = Slice(pool, start, end, axis)", "half"),
    "strided slice": ("half = Slice(pool, start, all, axis, step)", "half"),
    "split": ("half, rest = Split<axis=1>(pool)", "half"),
    "gather": ("half = Gather<axis=1>(pool, picked)", "half"),
    "gather elements": ("half = GatherElements<axis=1>(pool, everywhere)", "half"),
}


def selecting(operator: str) -> str:
    """A layer whose result goes through MaxPool and a selecting operator to the next layer, and as it is to an average."""
    return f"""
    agraph (float[N,3,8,8] x, float[4,3,3,3] w1, float[2,2,1,1] w2, float[2,4,1,1] w4, float[2,2,1,1] w5)
        => (float[N,2,4,4] y, float[N,2,1,1] z)
    <int64[1] start = {{0}}, int64[1] end = {{2}}, int64[1] all = {{4}}, int64[1] axis = {{1}}, int64[1] step = {{2}},
     int64[2] picked = {{0, 3}}, int64[1,2,4,4] everywhere = {{{", ".join("03"[k // 16] for k in range(32))}}}> {{
        first = Conv<pads=[1,1,1,1]>(x, w1)
        source = Relu(first)
        pool = MaxPool<kernel_shape=[2,2], strides=[2,2]>(source)
        {SELECTING[operator][0]}
        turned = Transpose<perm=[0,1,3,2]>(half)
        second = Conv(turned, w2)
        y = Conv(second, w5)
        average = GlobalAveragePool(source)
        z = Conv(average, w4)
    }}"""


def spec_of(placement: Placement, value: str) -> ActivationSpec:
    """The group of a value that has one."""
    found = placement.activation_of(value)
    assert found is not None, value
    return found


@pytest.mark.parametrize("operator", SELECTING)
def test_a_selection_leaves_the_group_of_its_source_and_reads_floats(operator: str) -> None:
    model = graph(selecting(operator))
    shared = spec_of(place(model, BITS), "half")
    assert (shared.name, shared.roots, shared.bits) == ("source", ("source",), 4)

    placement = place(model, BITS, own={"half"})
    assert spec_of(placement, "half") == ActivationSpec(name="half", values=("half", "turned"), roots=("half",), bits=4)
    assert spec_of(placement, "source") == ActivationSpec(name="source", values=("source",), roots=("source",), bits=8)
    assert placement.activation_of("pool") is None  # between the two nothing is rounded
    assert {"pool", "half"} <= placement.from_floats <= {"pool", "half", "rest"}
    assert placement.own_grids == {"half"}
    assert hand_out_floats(model, {"half"}) == ("first",)


def test_what_else_a_source_is_read_by_stays_on_its_grid() -> None:
    """The pool is read by another layer too: it is rounded for that one, behind a MaxPool of floats, with the numbers it had."""
    model = graph("""
    agraph (float[N,3,8,8] x, float[4,3,3,3] w1, float[2,2,1,1] w2, float[2,4,1,1] w4, float[2,2,1,1] w5, float[2,2,1,1] w6)
        => (float[N,2,4,4] y, float[N,2,4,4] z)
    <int64[1] start = {0}, int64[1] end = {2}, int64[1] axis = {1}> {
        source = Conv<pads=[1,1,1,1]>(x, w1)
        pool = MaxPool<kernel_shape=[2,2], strides=[2,2]>(source)
        half = Slice(pool, start, end, axis)
        second = Conv(half, w2)
        y = Conv(second, w5)
        third = Conv(pool, w4)
        z = Conv(third, w6)
    }""")
    placement = place(model, BITS, own={"half"})
    assert spec_of(placement, "pool") == ActivationSpec(name="pool", values=("pool",), roots=("pool",), bits=4)
    assert placement.activation_of("source") is None  # read by the MaxPool alone
    assert spec_of(placement, "half").values == ("half",)


def test_pieces_that_are_joined_again_share_a_grid_with_each_other_but_not_with_their_source() -> None:
    model = graph("""
    agraph (float[N,3,8,8] x, float[4,3,3,3] w1, float[2,4,1,1] w2, float[2,2,1,1] w3) => (float[N,2,8,8] y)
    <int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}, int64[1] axis = {1}> {
        source = Conv<pads=[1,1,1,1]>(x, w1)
        low = Slice(source, zero, two, axis)
        high = Slice(source, two, four, axis)
        turned = Concat<axis=1>(high, low)
        second = Conv(turned, w2)
        y = Conv(second, w3)
    }""")
    placement = place(model, BITS, own={"low", "high"})
    assert spec_of(placement, "low").values == ("low", "high", "turned")
    assert spec_of(placement, "low").roots == ("low", "high")


def test_a_name_that_no_node_computes_changes_nothing() -> None:
    model = graph(selecting("slice"))
    assert place(model, BITS, own={"x", "w1", "nothing"}) == place(model, BITS)
    assert [(str(v.name), str(source.name)) for v, source in selections(model)] == [("half", "pool")]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_has_no_floats_between_integers_keeps_the_shared_grid(target: str) -> None:
    integers = {"qnn", "stm32n6", "tidl", "rknn", "vitis", "litert", "encodings"}
    constraints: Constraints = TARGETS[target].constraints
    own = place(graph(selecting("slice")), BITS, constraints, {"half"})
    assert (constraints.selections == "shared") == (target in integers)
    assert (own == place(graph(selecting("slice")), BITS, constraints)) == (target in integers)
