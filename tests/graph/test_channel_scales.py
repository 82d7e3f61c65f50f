"""Scaled channels leave the function as it was, whatever is between the layers; what would not is pinned, and says why."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import graph, raw_graph
from onnx_models import image, run

from genie_onnx.graph import query
from genie_onnx.graph.channel_scales import Channels, Factors, channels, factors_of, scaled

# Weights are rounded to float32 once more for each factor: 2^-24 each, in sums of up to a few dozen that partly cancel
ROUNDING = 2e-5


def net(inside: str, weights: str, *, x: str = "N,4,8,8", constants: str = "") -> ir.Model:
    """A normalised graph from x to y; nodes without a name have that of their output."""
    listed = f"<{constants}>" if constants else ""
    return graph(f"g (float[{x}] x, {weights}) => (float[] y) {listed} {{ {inside} }}")


def free(found: Channels) -> set[str]:
    """The values all of whose channels may be scaled."""
    return {value for value, ids in found.of.items() if len(found.free(value)) == len(ids)}


def layers(model: ir.Model) -> list[str]:
    return [str(node.name) for node in query.weighted_nodes(model)]


def random_factors(found: Channels, largest: float = 8.0, least: float = 0.125) -> Factors:
    """Far from 1, but for what is pinned."""
    count = 1 + max((int(ids.max(initial=0)) for ids in found.of.values()), default=0)
    numbers = np.exp(np.random.default_rng(0).uniform(np.log(least), np.log(largest), count)).astype(np.float32)
    numbers[list(found.pinned)] = 1
    return numbers


def values(model: ir.Model, names: Collection[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """The values of these names and the outputs."""
    model = model.clone()
    shown = query.value_map(model)
    model.graph.outputs.extend(shown[name] for name in names if not shown[name].is_graph_output())
    return run(model, x)


def assert_same_function(model: ir.Model, found: Channels, factors: Factors, x: np.ndarray) -> None:
    """Outputs are what they were, and each value between is what it was times its factors."""
    before = values(model, found.of, x)
    after = values(scaled(model, found, factors), found.of, x)
    for name, was in before.items():
        e = factors_of(found, name, factors)
        expected = was if e is None else was * e.reshape(1, -1, *(1,) * (was.ndim - 2))
        error = np.abs(after[name] - expected).max() / np.abs(expected).max()
        assert error < ROUNDING, f"{name} {was.shape}: {error:.1e}"


TWO = "float[4,4,3,3] w1, float[4,4,3,3] w2"
FIRST = "float[4,4,3,3] w1, float[4] b1"
CONV = f"{FIRST}, float[5,4,1,1] w2"
SCALED = {
    # name: (nodes, initializers, further constants, values with free channels)
    "chain": ("a = Conv(x, w1, b1) r = Relu(a) y = Conv(r, w2)", CONV, "", "a r"),
    "no bias": ("a = Conv(x, w1) y = Conv(a, w2)", "float[4,4,3,3] w1, float[5,4,1,1] w2", "", "a"),
    "residual": (
        "a = Conv(x, w1, b1) r = Relu(a) c = Conv<pads=[1,1,1,1]>(r, w3) s = Add(r, c) t = Relu(s) y = Conv(t, w2)",
        CONV + ", float[4,4,3,3] w3",
        "",
        "a r c s t",
    ),
    "added to a map of one pixel": (
        "a = Conv(x, w1, b1) m = GlobalAveragePool(a) c = Conv(m, w3) s = Add(c, a) y = Conv(s, w2)",
        CONV + ", float[4,4,1,1] w3",
        "",
        "a m c s",
    ),
    "concat": (
        "a = Conv(x, w1, b1) c = Conv(x, w3) j = Concat<axis=1>(a, c, a) y = Conv(j, w4)",
        "float[4,4,3,3] w1, float[4] b1, float[2,4,3,3] w3, float[3,10,1,1] w4",
        "",
        "a c j",
    ),
    "concat counted from the end": (
        "a = Conv(x, w1, b1) c = Conv(x, w1b) j = Concat<axis=-3>(a, c) y = Conv(j, w4)",
        "float[4,4,3,3] w1, float[4,4,3,3] w1b, float[4] b1, float[3,8,1,1] w4",
        "",
        "a c j",
    ),
    "depthwise": (
        "a = Conv(x, w1, b1) d = Conv<group=4>(a, w3, b3) y = Conv(d, w4)",
        FIRST + ", float[8,1,3,3] w3, float[8] b3, float[3,8,1,1] w4",
        "",
        "a d",
    ),
    "grouped": (
        "a = Conv(x, w1, b1) d = Conv<group=2>(a, w3, b3) y = Conv(d, w4)",
        FIRST + ", float[6,2,3,3] w3, float[6] b3, float[3,6,1,1] w4",
        "",
        "a d",
    ),
    "transposed": (
        "a = ConvTranspose<strides=[2,2]>(x, w1, b1) r = Relu(a) c = ConvTranspose(r, w3) y = Conv(c, w2)",
        "float[4,6,2,2] w1, float[6] b1, float[6,4,3,3] w3, float[5,4,1,1] w2",
        "",
        "a r c",
    ),
    "classifier": (
        "a = Conv(x, w1, b1) m = MaxPool<kernel_shape=[2,2], pads=[1,1,0,0]>(a) p = AveragePool<kernel_shape=[3,3], "
        "strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(m) q = AveragePool<kernel_shape=[2,2], pads=[0,1,1,0]>(p) "
        "v = GlobalAveragePool(q) f = Flatten(v) r = Relu(f) y = Gemm<transB=1, alpha=0.5>(r, w3, b3)",
        "float[4,4,3,3] w1, float[4] b1, float[3,4] w3, float[3] b3",
        "",
        "a m p q v f r",
    ),
    "classifier by MatMul": (
        "a = Conv(x, w1, b1) v = GlobalMaxPool(a) f = Squeeze(v, axes) y = MatMul(f, w3)",
        "float[4,4,3,3] w1, float[4] b1, float[4,3] w3",
        "int64[2] axes = {2, 3}",
        "a v f",
    ),
    "classifier by Reshape": (
        "a = Conv(x, w1, b1) v = GlobalMaxPool(a) f = Reshape(v, flat) g = Relu(f) s = Add(f, g) y = Gemm(s, w3)",
        "float[4,4,3,3] w1, float[4] b1, float[4,3] w3",
        "int64[2] flat = {-1, 4}",
        "a v f g s",
    ),
    "slopes": (
        "a = Conv(x, w1, b1) p = PRelu(a, w3) q = PRelu(p, w4) s = PRelu(q, w5) l = LeakyRelu<alpha=0.3>(s) y = Conv(l, w2)",
        CONV + ", float[4,1,1] w3, float[1] w4, float[1,4,6,6] w5",
        "",
        "a p q s l",
    ),
    "pads": (
        'a = Conv(x, w1, b1) p = Pad(a, around, zero) q = Pad<mode="reflect">(p, around) e = Pad<mode="edge">(q, less) '
        "y = Conv(e, w2)",
        CONV,
        "int64[8] around = {0, 0, 1, 2, 0, 0, 0, 1}, int64[8] less = {0, 0, -1, 1, 0, 0, 0, 0}, float zero = {0}",
        "a p q e",
    ),
    "a Clip without an end": ("a = Conv(x, w1, b1) r = Clip(a, zero) y = Conv(r, w2)", CONV, "float zero = {0}", "a r"),
    **{
        f"resized, {mode}": (
            f'a = Conv(x, w1, b1) u = Resize<mode="{mode}", coordinate_transformation_mode="{place}">(a, , scales) '
            "y = Conv(u, w2)",
            CONV,
            "float[4] scales = {1.0, 1.0, 2.0, 1.5}",
            "a u",
        )
        for mode, place in (("nearest", "asymmetric"), ("linear", "half_pixel"), ("cubic", "align_corners"))
    },
}


@pytest.mark.parametrize("case", SCALED)
def test_scaled_channels_leave_the_function_as_it_was(case: str) -> None:
    inside, weights, constants, expected = SCALED[case]
    model = net(inside, weights, constants=constants)
    found = channels(model, layers(model))
    assert free(found) == set(expected.split())
    assert_same_function(model, found, random_factors(found), image(2, 4, 8, 8))


def test_signals_of_one_dimension() -> None:
    text = "a = Conv(x, w1, b1) r = Relu(a) p = MaxPool<kernel_shape=[6]>(r) f = Flatten(p) y = Gemm(f, w2)"
    model = net(text, "float[4,3,3] w1, float[4] b1, float[4,2] w2", x="N,3,8")
    found = channels(model, layers(model))
    assert free(found) == {"a", "r", "p", "f"}
    assert_same_function(model, found, random_factors(found), image(2, 3, 8))


def test_dropout_and_identity_where_they_are_still_there() -> None:
    """Normalising drops them."""
    text = f"g (float[2,4,8,8] x, {CONV}) => (float[] y) {{ a = Conv(x, w1, b1) d = Dropout(a) i = Identity(d) y = Conv(i, w2) }}"
    model = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(raw_graph(text))))
    found = channels(model, layers(model))
    assert free(found) == {"a", "d", "i"}
    assert_same_function(model, found, random_factors(found), image(2, 4, 8, 8))


@pytest.mark.parametrize(("nodes", "tied"), [("s = Add(a, c)", True), ("s = Concat<axis=1>(a, c)", False)], ids=["Add", "Concat"])
def test_an_add_ties_channels_and_a_concat_does_not(nodes: str, tied: bool) -> None:
    width = 4 if tied else 8
    model = net(f"a = Conv(x, w1) c = Conv(x, w2) {nodes} y = Conv(s, w3)", f"{TWO}, float[3,{width},1,1] w3")
    found = channels(model, layers(model))
    assert len({int(v) for ids in (found.of["a"], found.of["c"]) for v in ids}) == width
    assert (found.of["a"].tolist() == found.of["c"].tolist()) is tied


def test_dense_readers_are_told_from_depthwise_ones() -> None:
    inside, weights, constants, _ = SCALED["depthwise"]
    found = channels(model := net(inside, weights, constants=constants), layers(model))
    assert found.dense.isdisjoint(found.of["a"].tolist())
    assert found.dense >= set(found.of["d"].tolist())


PINNED = {
    # name: (nodes, further initializers, constants, value, in the reason)
    "sigmoid": ("s = Sigmoid(a) y = Conv(s, w2)", "", "", "a", "Sigmoid 's'"),
    "gate": ("s = Sigmoid(c) m = Mul(a, s) y = Conv(m, w2)", "", "", "a", "Mul 'm'"),
    "softmax": ("s = Softmax<axis=1>(a) y = Conv(s, w2)", "", "", "a", "Softmax 's'"),
    "output": ("y = Relu(a)", "", "", "a", "output of the model"),
    "weight shared": ("d = Conv(a, w2) e = Conv(c, w2) y = Add(d, e)", "", "", "a", "its weight is shared"),
    "bias shared": ("d = Conv(a, w2, b2) e = Conv(c, w3, b2) y = Add(d, e)", "float[5] b2, float[5,4,1,1] w3", "", "a", "bias"),
    "bias computed": ("m = ReduceMax<axes=[0,2,3], keepdims=0>(x) y = Conv(a, w3, m)", "float[4,4,1,1] w3", "", "a", "bias"),
    "Clip from below 0": ("r = Clip(a, low, six) y = Conv(r, w2)", "", "float low = {-1}, float six = {6}", "a", "Clip 'r'"),
    "Clip from above 0": ("r = Clip(a, low, six) y = Conv(r, w2)", "", "float low = {1}, float six = {6}", "a", "Clip 'r'"),
    "Clip from nowhere": ("r = Clip(a, , six) y = Conv(r, w2)", "", "float six = {6}", "a", "Clip 'r'"),
    "Clip to a computed end": (
        "m = ReduceMax<keepdims=0>(x) r = Clip(a, zero, m) y = Conv(r, w2)",
        "",
        "float zero = {0}",
        "a",
        "Clip",
    ),
    "Clips that differ": (
        "r = Clip(a, zero, six) q = Clip(c, zero, four) s = Add(r, q) y = Conv(s, w2)",
        "",
        "float zero = {0}, float six = {6}, float four = {4}",
        "a",
        "different bounds",
    ),
    "Clip after Clip": (
        "r = Clip(a, zero, six) q = Clip(r, zero, four) y = Conv(q, w2)",
        "",
        "float zero = {0}, float six = {6}, float four = {4}",
        "a",
        "different bounds",
    ),
    "a constant added": ("s = Add(a, b2) y = Conv(s, w2)", "float[1,4,1,1] b2", "", "a", "Add 's'"),
    "one channel added to all": ("d = Conv(x, w3) s = Add(a, d) y = Conv(s, w2)", "float[1,4,3,3] w3", "", "a", "Add 's'"),
    "a value added that nobody scales": ("d = Sigmoid(c) s = Add(a, d) y = Conv(s, w2)", "", "", "a", "Add 's'"),
    "subtracted": ("s = Sub(a, c) y = Conv(s, w2)", "", "", "a", "Sub 's'"),
    "joined with a constant": (
        "s = Concat<axis=1>(a, b2) y = Conv(s, w3)",
        "float[2,1,6,6] b2, float[3,5,1,1] w3",
        "",
        "a",
        "Concat 's'",
    ),
    "joined along the height": ("s = Concat<axis=2>(a, c) y = Conv(s, w2)", "", "", "a", "Concat 's'"),
    "joined along the batch": ("s = Concat<axis=0>(a, c) y = Conv(s, w2)", "", "", "a", "Concat 's'"),
    "flattened pixels": ("f = Flatten(a) y = Gemm(f, w3)", "float[144,2] w3", "", "a", "Flatten 'f'"),
    "multiplied by one another": ("y = MatMul(a, c)", "", "", "c", "MatMul 'y'"),
    "padded with ones": (
        "p = Pad(a, around, one) y = Conv(p, w2)",
        "",
        "int64[8] around = {0, 0, 1, 1, 0, 0, 1, 1}, float one = {1}",
        "a",
        "Pad 'p'",
    ),
    "padded channels": (
        "p = Pad(a, around) y = Conv(p, w3)",
        "float[3,5,1,1] w3",
        "int64[8] around = {0, 1, 0, 0, 0, 0, 0, 0}",
        "a",
        "Pad 'p'",
    ),
    "resized channels": (
        'u = Resize<mode="nearest">(a, , scales) y = Conv(u, w3)',
        "float[3,8,1,1] w3",
        "float[4] scales = {1, 2, 1, 1}",
        "a",
        "Resize 'u'",
    ),
    "resized with a number from outside": (
        'u = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=1.0>(a, roi, scales) '
        "y = Conv(u, w2)",
        "",
        "float[8] roi = {0, 0, 0, 0, 1, 1, 2, 2}, float[4] scales = {1, 1, 2, 2}",
        "a",
        "Resize 'u'",
    ),
    "channels moved": ("t = Transpose<perm=[0,2,3,1]>(a) y = MatMul(t, w3)", "float[4,2] w3", "", "a", "Transpose 't'"),
    "transposed in groups": ("y = ConvTranspose<group=2>(a, w3)", "float[4,3,2,2] w3", "", "a", "groups"),
}


@pytest.mark.parametrize("case", PINNED)
def test_what_does_not_commute_is_pinned_and_says_why(case: str) -> None:
    """And so the function stays."""
    inside, weights, constants, value, reason = PINNED[case]
    weights = ", ".join(filter(None, ("float[4,4,3,3] w1, float[4,4,3,3] w9, float[5,4,1,1] w2", weights)))
    model = net(f"a = Conv(x, w1) c = Conv(x, w9) {inside}", weights, x="2,4,8,8", constants=constants)
    found = channels(model, layers(model))
    assert len(found.of[value]) == 4
    assert found.free(value).size == 0
    assert all(reason in found.pinned[int(v)] for v in found.of[value])
    assert_same_function(model, found, random_factors(found, least=1), 0.01 * image(2, 4, 8, 8))


def test_layers_in_floats_are_not_rescaled() -> None:
    """Neither one that reads, nor one that writes."""
    weights = ", ".join(f"float[4,4,3,3] w{k}" for k in range(4))
    model = net("a = Conv(x, w0) b = Conv(a, w1) c = Conv(b, w2) y = Conv(c, w3)", weights, x="N,4,16,16")
    found = channels(model, ["a", "c", "y"])
    assert set(found.of) == {"a", "c", "y"}
    assert all("Conv 'b' reads it, and it is not quantised" in found.pinned[int(v)] for v in found.of["a"])
    assert found.free("c").size == 4
    assert_same_function(model, found, random_factors(found), image(2, 4, 16, 16))


RELU6 = "a = Conv(x, w1, b1) r = Clip(a, zero, six) y = Conv(r, w2)"


def test_below_its_ceiling_a_clip_commutes() -> None:
    model = net(RELU6, CONV, constants="float zero = {0}, float six = {6}")
    found = channels(model, layers(model))
    assert {found.ceiling[int(v)] for v in found.of["r"]} == {6.0}
    assert found.free("a").tolist() == [0, 1, 2, 3]
    factors = random_factors(found, least=1, largest=3)
    small = 0.05 * image(2, 4, 8, 8)
    assert 0 < values(model, ["r"], small)["r"].max() < 6 / 3
    assert_same_function(model, found, factors, small)


def test_above_its_ceiling_a_clip_cuts_off_earlier() -> None:
    model = net(RELU6, CONV, constants="float zero = {0}, float six = {6}")
    found = channels(model, layers(model))
    factors = random_factors(found, least=1, largest=3)
    e = factors[found.of["r"]].reshape(1, -1, 1, 1)
    large = 5 * image(2, 4, 8, 8)
    before, after = (values(m, ["r"], large)["r"] for m in (model, scaled(model, found, factors)))
    np.testing.assert_allclose(after / e, np.minimum(before, 6 / e), rtol=1e-4, atol=1e-4)
    assert (before > 6 / e).any()


def test_a_ceiling_holds_for_all_that_is_tied() -> None:
    text = "a = Conv(x, w1) c = Conv(x, w3) r = Clip(c, zero, six) s = Add(a, r) y = Conv(s, w2)"
    weights = "float[4,4,3,3] w1, float[4,4,3,3] w3, float[5,4,1,1] w2"
    for order in (text, text.replace("Add(a, r)", "Add(r, a)")):
        model = net(order, weights, constants="float zero = {0}, float six = {6}")
        found = channels(model, layers(model))
        assert {found.ceiling.get(int(v)) for v in found.of["a"]} == {6.0}
        assert free(found) == {"a", "c", "r", "s"}


def test_the_model_itself_is_left_alone_and_pinned_factors_are_refused() -> None:
    inside, weights, constants, _ = SCALED["residual"]
    model = net(inside, weights, constants=constants)
    before = ir.to_proto(model).SerializeToString()
    found = channels(model, layers(model))
    again = scaled(model, found, random_factors(found))
    assert ir.to_proto(model).SerializeToString() == before
    assert [n.name for n in again.graph] == [n.name for n in model.graph]
    assert again.graph.initializers.keys() == model.graph.initializers.keys()
    onnx.checker.check_model(ir.to_proto(again), full_check=True)
    pinned = channels(model, ["a"])
    with pytest.raises(AssertionError):
        scaled(model, pinned, np.full(4, 2, np.float32))
