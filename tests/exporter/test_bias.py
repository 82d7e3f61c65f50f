"""INT32 biases in integer kernels, those that would overflow included: the scales of weights make room (bias_room)."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from simulation import Case, Codes, everywhere, model, quantised

from genie_onnx.delivery.bias_room import with_room_for_biases
from genie_onnx.exporter.bias import binary_grid
from genie_onnx.qparams import QParams, QTensor, bias_scale
from genie_onnx.targets import PORTABLE
from genie_onnx.validate import integer_kernels, run

RNG = np.random.default_rng(1)
IMAGE = {"x": RNG.standard_normal((3, 4, 6, 6)).astype(np.float32)}
ROWS = {"x": RNG.standard_normal((200, 16)).astype(np.float32)}


def _array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _conv(**extra: np.ndarray) -> Case:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4,6,6] x) => (float[N,5,4,4] z) { y = Conv(x, w, b) z = Neg(y) }"""
    proto = model(text, w=_array(5, 4, 3, 3), b=_array(5) * 3)
    case = quantised(proto, everywhere(4, 8, "x", "y"), IMAGE)
    return case if not extra else quantised(proto, everywhere(4, 8, "x", "y"), IMAGE, codes=_rescaled(case, extra["factor"]))


def _rescaled(case: Case, factor: np.ndarray) -> Codes:
    """The codes of `case` with the scales of weight w multiplied by `factor`."""
    w = case.codes.weights["w"]
    grid = QParams(
        bits=4, scale=(w.qparams.scale * factor).astype(np.float32), zero_point=w.qparams.zero_point, axis=w.qparams.axis
    )
    return Codes(weights={"w": QTensor(codes=w.codes, qparams=grid)}, activations=case.codes.activations)


def _stored(case: Case, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(t for t in case.proto.graph.initializer if t.name == name))


def _agrees(case: Case, feeds: dict[str, np.ndarray]) -> None:
    expected = case.simulate(feeds)
    for optimise in (False, True):
        found = run(case.proto, feeds, ["y_quantized"], optimise)["y_quantized"]
        np.testing.assert_array_equal(found, expected.activations["y"].codes)


def test_bias_is_int32_on_the_product_grid() -> None:
    case = _conv()
    _agrees(case, IMAGE)
    scale = bias_scale(case.codes.activations["x"].scale, case.codes.weights["w"].qparams.scale)
    np.testing.assert_array_equal(_stored(case, "b_scale"), scale)
    assert _stored(case, "b_quantized").dtype == np.int32
    assert integer_kernels(case.proto).integer["QLinearConv"] == 1


def test_overflowing_bias_is_no_file() -> None:
    """Left in float it would be quantised, and saturated, by onnxruntime itself: off by several codes."""
    with pytest.raises(ValueError, match="Conv 'Conv_y': INT32 cannot hold its bias"):
        _conv(factor=np.float32([1, 1, 1e-9, 1, 1]))


@pytest.mark.parametrize("bias", [np.float32([0.1, -3e5, 0, 1e-30, 7]), np.float32([3.4e38, -1.2e-30])])
def test_binary_grid_is_exact(bias: np.ndarray) -> None:
    codes, scale = binary_grid(bias)
    np.testing.assert_array_equal((codes.astype(np.float32) * scale).astype(np.float32), bias)
    assert np.abs(codes).max() < 2**31
    np.testing.assert_array_equal(np.frexp(scale)[0], 0.5, "a power of two")


GEMM = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,16] x) => (float[N,10] z) {{ y = Gemm<alpha={}, beta={}, transB={}>(x, w, b) z = Neg(y) }}"""


@pytest.mark.parametrize("overflow", [False, True], ids=["fits", "overflows"])
@pytest.mark.parametrize("shape", [(10,), (1, 10), (1,), ()], ids=str)
@pytest.mark.parametrize(("alpha", "beta", "trans"), [(1.0, 1.0, 1), (1.0, 1.0, 0), (0.5, 1.0, 0), (1.0, 2.0, 1)])
def test_gemm(alpha: float, beta: float, trans: int, shape: tuple[int, ...], overflow: bool) -> None:
    w = _array(10, 16) if trans else _array(16, 10)
    proto = model(GEMM.format(alpha, beta, trans), w=w, b=_array(*shape))
    place = everywhere(4, 8, "x", "y")
    case = quantised(proto, place, ROWS)
    if overflow:
        tight = _rescaled(case, np.where(np.arange(10) == 3, 1e-9, 1))
        roomy = with_room_for_biases(case.deploy, case.placement, tight, PORTABLE.constraints)
        case = quantised(proto, place, ROWS, codes=roomy)
    _agrees(case, ROWS)
    if alpha == beta == 1:
        assert integer_kernels(case.proto).integer == {"QGemm": 1}


def test_bias_of_two_layers_is_stored_for_each() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4,6,6] x) => (float[N,4,6,6] z) {
            a = Conv<pads=[1,1,1,1]>(x, w, b) y = Conv<pads=[1,1,1,1]>(a, v, b) z = Neg(y) }"""
    case = quantised(model(text, w=_array(4, 4, 3, 3), v=_array(4, 4, 3, 3), b=_array(4)), everywhere(4, 8, "x", "a", "y"), IMAGE)
    _agrees(case, IMAGE)
    assert integer_kernels(case.proto).integer == {"QLinearConv": 2}


def test_bias_stays_float_beside_a_float_input() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4,6,6] x) => (float[N,5,4,4] z) { y = Conv(x, w, b) z = Neg(y) }"""
    case = quantised(model(text, w=_array(5, 4, 3, 3), b=_array(5)), everywhere(4, 8, "y"), IMAGE)
    _agrees(case, IMAGE)
    assert _stored(case, "b").dtype == np.float32


@pytest.mark.parametrize("order", ["p, b", "b, p"])
@pytest.mark.parametrize("rows", ["N", "1,7", "N,2,7", "3,2,7"])
@pytest.mark.parametrize("opset", [13, 21])
def test_matmul_bias_stays_exact(opset: int, rows: str, order: str) -> None:
    """As an Add it would be fused into a Gemm (behind a Reshape, where all sizes are known) and quantised or left in float."""
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[{rows},16] x) => (float[{rows},10] z) {{ p = MatMul(x, w) s = Add({order}) y = Relu(s) z = Neg(y) }}"""
    x = _array(*(20 if size == "N" else int(size) for size in rows.split(",")), 16)
    case = quantised(model(text, w=_array(16, 10), b=_array(10)), everywhere(4, 8, "x", "y"), {"x": x})
    _agrees(case, {"x": x})
    assert integer_kernels(case.proto).integer == {"MatMulIntegerToFloat": 1}
    assert integer_kernels(case.proto).floating == {}


def test_matmul_whose_product_is_rounded_keeps_its_add() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,16] x) => (float[N,10] z) { p = MatMul(x, w) y = Add(p, b) z = Neg(y) }"""
    case = quantised(model(text, w=_array(16, 10), b=_array(10)), everywhere(4, 8, "x", "p", "y"), ROWS)
    _agrees(case, ROWS)
    assert [n.op_type for n in case.proto.graph.node].count("Add") == 1
