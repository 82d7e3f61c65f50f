"""Ranks that are open with the size of the input, and known once it is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import difference, image, parse, run

from genie_onnx.config import PlacementConfig
from genie_onnx.graph import check, load, name_ranks, query, set_ranks
from genie_onnx.preparation.prepare import prepare

# What reads text: maps of height 1 become columns, and these rows of a matrix
READER = """g (float[{dims}] x, float[16,3,3,3] w1, float[16,20] w2) => (float[] y) {{
    a = Conv<pads=[1,1,1,1]>(x, w1) b = Relu(a) p = AveragePool<kernel_shape=[8,1], strides=[8,1]>(b) {squeeze}
    t = Transpose<perm=[0,2,1]>(s) y = MatMul(t, w2) }}"""
# A rank that only a run tells: of a shape that is computed while the model runs
RUNNING = """g (float[N,3,H,W] x, float[16,3,3,3] w1, float[16,20] w2) => (float[] y) {{
    a = Conv<pads=[1,1,1,1]>(x, w1) {shape} r = Reshape(a, shape) y = MatMul(r, w2) }}"""
SQUEEZES = {
    "no axes": "s = Squeeze(p)",
    "axes": "two = Constant<value_ints=[2]>() s = Squeeze(p, two)",
    "computed axes": "n = Shape<start=1, end=2>(p) eight = Constant<value_ints=[14]>() two = Sub(n, eight) s = Squeeze(p, two)",
}


@pytest.mark.parametrize("dims", ["N,3,H,W", "N,3,8,W", "N,3,8,32"])
@pytest.mark.parametrize("squeeze", SQUEEZES)
def test_a_squeeze_of_open_sizes(dims: str, squeeze: str) -> None:
    """The MatMul behind it is quantized, and one sample is squeezed as several are."""
    proto = parse(READER.format(dims=dims, squeeze=SQUEEZES[squeeze]))
    prepared = prepare(proto, PlacementConfig(), (8, 32))
    assert prepared.placement.float_nodes == {}
    assert len(query.value_map(prepared.deploy)["t"].shape or ()) == 3
    x = image(3, 3, 8, 32)
    whole = run(prepared.deploy, x)
    assert difference(whole, run(proto, x)) == 0
    one = run(prepared.deploy, x[:1])["y"]
    np.testing.assert_allclose(one, whole["y"][:1], rtol=1e-5, atol=1e-6)


def test_sizes_stay_open() -> None:
    """The model may be fed images of other sizes: 8 x 32 is what it is calibrated on."""
    model = check(load(parse(READER.format(dims="N,3,H,W", squeeze=SQUEEZES["no axes"]))))
    assert name_ranks(model, (2, 3, 8, 32)) == []
    found = query.value_map(model)
    assert query.dims(found["t"]) == (None, None, 16)
    wide = image(2, 3, 8, 48)
    assert run(model, wide)["y"].shape == (2, 48, 20)


def test_a_rank_that_only_a_run_tells() -> None:
    """The one shape is cut from another, which inference does not follow; nothing is guessed where nothing is known."""
    shape = """n = Shape<start=0, end=1>(a) h = ReduceMax<keepdims=0>(a) big = Constant<value_float=1000000.0>()
        less = Less(h, big)
        k = Cast<to=7>(less) one = Constant<value_int=1>() zero = Constant<value_ints=[0]>() to = Add(k, one)
        rest = Constant<value_ints=[-1, 16, 16]>()
        end = Unsqueeze(to, zero) start = Sub(end, end) picked = Slice(rest, start, end)
        shape = Concat<axis=0>(picked)"""
    proto = parse(RUNNING.format(shape=shape))
    model = check(load(proto))
    assert name_ranks(model, (2, 3, 8, 32)) == ["r", "y"]
    prepared = prepare(proto, PlacementConfig(), (8, 32))
    assert [len(query.value_map(prepared.deploy)[v].shape or ()) for v in ("r", "y")] == [2, 2]
    assert prepared.placement.float_nodes == {}


def test_known_shapes_are_left_alone() -> None:
    model = check(load(parse(READER.format(dims="N,3,8,W", squeeze=SQUEEZES["axes"]))))
    before = query.dims(query.value_map(model)["a"])
    set_ranks(model, {"a": 7, "nobody": 1})
    assert query.dims(query.value_map(model)["a"]) == before
