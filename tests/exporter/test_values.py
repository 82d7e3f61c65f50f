"""Q/DQ on values: the codes in the file, who reads what, and float clips that move onto the codes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from simulation import Case, Codes, everywhere, minmax_grid, model, quantised

from genie_onnx.qparams import QParams, quantize
from genie_onnx.validate import integer_kernels, run

RNG = np.random.default_rng(0)
X = {"x": RNG.standard_normal((3, 4, 6, 6)).astype(np.float32)}
IDENTITY = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,4,6,6] x) => (float[N,4,6,6] y) { y = Neg(x) }"""
CONVS = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,4,6,6] x) => (float[N,4,6,6] y) {
        c = Conv<pads=[1,1,1,1]>(x, w, b)
        a = %s
        y = Conv<pads=[1,1,1,1]>(a, v)
    }"""


def _conv_weights() -> dict[str, np.ndarray]:
    shapes = {"w": (4, 4, 3, 3), "v": (4, 4, 3, 3), "b": (4,)}
    return {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def _grid(bits: int, scale: float, zero_point: int) -> QParams:
    return QParams(bits=bits, scale=np.array(scale, np.float32), zero_point=np.array(zero_point))


def _ops(case: Case) -> list[str]:
    return [node.op_type for node in case.proto.graph.node]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0], ids=lambda s: f"zero_point_at_{s}")
def test_codes_in_the_file_are_those_of_the_grid(bits: int, share: float) -> None:
    zero_point = min(round(share * 2**bits), 2**bits - 1)
    grid = _grid(bits, 2.0 / 2**bits, zero_point)
    case = quantised(model(IDENTITY), everywhere(8, bits, "x"), X, codes=Codes(activations={"x": grid}))
    expected = quantize(X["x"], grid)
    assert len(np.unique(expected.codes)) > 2 ** (bits - 1), "the test data should exercise the grid"
    for optimise in (False, True):
        found = run(case.proto, X, ["x_quantized", "y"], optimise)
        np.testing.assert_array_equal(found["x_quantized"], expected.codes)
        np.testing.assert_array_equal(found["y"], -expected.dequantize())
    assert ("Clip" in _ops(case)) == (bits < 8)


def test_all_readers_read_the_dequantised_value() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4,6,6] x) => (float[N,4,6,6] y) { a = Abs(x) b = Neg(a) c = Exp(a) d = Add(b, c) y = Mul(d, a) }"""
    case = quantised(model(text), everywhere(8, 2, "a"), X)
    readers = [node.name for node in case.proto.graph.node if "a" in node.input]
    assert readers == ["a_QuantizeLinear"]
    a = quantize(np.abs(X["x"]), case.codes.activations["a"]).dequantize()
    np.testing.assert_allclose(run(case.proto, X)["y"], (-a + np.exp(a)) * a, rtol=1e-5)


def test_graph_output_stays_float_where_its_readers_are_rounded() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4,6,6] x) => (float[N,4,6,6] a, float[N,4,6,6] y) { a = Relu(x) y = Neg(a) }"""
    # zero point 1: a Relu that could move onto the codes, were its output not wanted as it is
    codes = Codes(activations={"a": _grid(3, 0.25, 1)})
    case = quantised(model(text), everywhere(8, 3, "a"), X, codes=codes)
    found = run(case.proto, X)
    np.testing.assert_array_equal(found["a"], np.maximum(X["x"], 0))
    np.testing.assert_array_equal(found["y"], -quantize(np.maximum(X["x"], 0), codes.activations["a"]).dequantize())


def test_values_of_a_group_share_scale_and_zero_point() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4,6,6] x) => (float[N,M] y) {
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) q = Flatten(p) y = Neg(q) }"""
    case = quantised(model(text), everywhere(8, 4, "x=p=q"), X)
    grids = {
        tuple(n.input[1:]) for n in case.proto.graph.node if n.op_type.endswith("quantizeLinear") or n.op_type == "QuantizeLinear"
    }
    assert grids == {("x_scale", "x_zero_point")}
    expected = case.simulate(X)
    for optimise in (False, True):
        found = run(case.proto, X, ["q_quantized", "y"], optimise)
        np.testing.assert_array_equal(found["q_quantized"], expected.activations["q"].codes)
        np.testing.assert_array_equal(found["y"], expected.outputs["y"])


ACTIVATIONS = {
    "relu": ("Relu(c)", {}),
    "relu6": ("Clip(c, lo, hi)", {"lo": np.float32(0), "hi": np.float32(6)}),
    "relu6_bound_shape_1": ("Clip(c, lo, hi)", {"lo": np.float32([0]), "hi": np.float32([6])}),
    "clip_above": ("Clip(c,, hi)", {"hi": np.float32(1.3)}),
    "clip_both": ("Clip(c, lo, hi)", {"lo": np.float32(-1.7), "hi": np.float32(2.4)}),
    "clip_crossed": ("Clip(c, lo, hi)", {"lo": np.float32(2.0), "hi": np.float32(1.0)}),
}


@pytest.mark.parametrize(
    ("bits", "zero_point", "scale"), [(3, 0, 0.8), (3, 1, 0.8), (3, 0, 4.0), (8, 0, 0.02), (8, 1, 0.02), (8, 0, 0.1)]
)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_float_clip_on_the_codes_is_exact_and_fuses(kind: str, bits: int, zero_point: int, scale: float) -> None:
    """Whatever the scale: bounds on a grid point, between two, on a tie (6 / 4.0), inside and outside of the grid."""
    expression, bounds = ACTIVATIONS[kind]
    arrays = _conv_weights()
    weights = {name: quantize(arrays[name], minmax_grid(arrays[name], 4, axis=0)) for name in ("w", "v")}
    codes = Codes(weights=weights, activations={"x": _grid(8, 0.03, 128), "a": _grid(bits, scale, zero_point)})
    case = quantised(model(CONVS % expression, **arrays, **bounds), everywhere(4, bits, "x", "a"), X, codes=codes)
    expected = case.simulate(X)
    for optimise in (False, True):
        found = run(case.proto, X, ["a_quantized", "y"], optimise)
        np.testing.assert_array_equal(found["a_quantized"], expected.activations["a"].codes)
        np.testing.assert_allclose(found["y"], expected.outputs["y"], atol=1e-4)
    assert integer_kernels(case.proto).integer == {"QLinearConv": 1}, "the first convolution; the second has no Q behind it"
    assert ("Relu" in _ops(case)) == (kind == "relu" and zero_point == 0)


def test_clip_read_by_others_too_moves_with_them() -> None:
    text = CONVS.replace("y = Conv", "z = Conv").replace("a, v)", "a, v) y = Add(z, a)")
    proto = model(text % "Clip(c, lo, hi)", **_conv_weights(), lo=np.float32(0), hi=np.float32(1))
    case = quantised(proto, everywhere(4, 3, "x", "a"), X)
    np.testing.assert_allclose(run(case.proto, X)["y"], case.simulate(X).outputs["y"], atol=1e-4)


def test_clip_with_computed_bound_is_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4,6,6] x) => (float[N,4,6,6] y) { m = ReduceMax<keepdims=0>(x) a = Clip(x,, m) y = Neg(a) }"""
    case = quantised(model(text), everywhere(8, 4, "a"), X)
    assert "a" in {name for node in case.proto.graph.node for name in node.output}


def test_per_channel_grid_is_refused() -> None:
    grid = minmax_grid(X["x"], 4, axis=1)
    with pytest.raises(ValueError, match="value 'x' is per channel"):
        quantised(model(IDENTITY), everywhere(8, 4, "x"), X, codes=Codes(activations={"x": grid}))


def test_names_that_are_taken_are_avoided() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4,6,6] x) => (float[N,4,6,6] x_quantized) {
            x_dequantized = Abs(x) x_scale = Neg(x_dequantized) x_quantized = Exp(x_scale) }"""
    case = quantised(model(text), everywhere(8, 4, "x"), X)
    onnx.checker.check_model(case.proto, full_check=True)
    np.testing.assert_allclose(run(case.proto, X)["x_quantized"], case.simulate(X).outputs["x_quantized"], rtol=1e-6)
