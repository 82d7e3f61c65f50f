"""Weights: what is stored, of which type, on which axis; ties."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from simulation import Case, Codes, everywhere, model, quantised

from genie_onnx.placement import Placement, WeightSpec
from genie_onnx.qparams import QParams, QTensor
from genie_onnx.validate import integer_kernels, run

RNG = np.random.default_rng(2)
X = {"x": RNG.standard_normal((2, 6, 7, 5)).astype(np.float32)}
CONV = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,6,7,5] x) => (float[N,C,H,W] y) { y = Conv(x, w) }"""


def _stored(case: Case, name: str) -> onnx.TensorProto:
    return next(t for t in case.proto.graph.initializer if t.name == name)


def _weight(bits: int, zero_points: list[int], axis: int = 0, shape: tuple[int, ...] = (4, 6, 3, 3)) -> QTensor:
    """Random codes that use both ends of the range in every channel."""
    codes = RNG.integers(0, 2**bits, shape, dtype=np.uint8)
    first, last = [[slice(None)] * len(shape) for _ in range(2)]
    for k, end in ((0, first), (-1, last)):
        for a in range(len(shape)):
            if a != axis:
                end[a] = k
    codes[tuple(first)], codes[tuple(last)] = 0, 2**bits - 1
    scale = RNG.uniform(0.01, 0.1, shape[axis]).astype(np.float32)
    return QTensor(codes=codes, qparams=QParams(bits=bits, scale=scale, zero_point=np.array(zero_points), axis=axis))


def _export(weight: QTensor, target: str = "portable", text: str = CONV) -> Case:
    proto = model(text, w=np.zeros(weight.codes.shape, np.float32))
    return quantised(proto, everywhere(weight.qparams.bits, 8), X, target, Codes(weights={"w": weight}))


def _zero_points(bits: int) -> list[int]:
    return [128] * 4 if bits == 8 else [0, 1, 2 ** (bits - 1), 2**bits - 1]


@pytest.mark.parametrize("target", ["portable", "int4"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_every_bit_width_and_zero_point(bits: int, target: str) -> None:
    weight = _weight(bits, _zero_points(bits))
    case = _export(weight, target)
    for optimise in (False, True):
        found = run(case.proto, X, ["w", "y"], optimise)
        np.testing.assert_array_equal(found["w"], weight.dequantize())
        np.testing.assert_allclose(found["y"], case.simulate(X).outputs["y"], atol=1e-4)


@pytest.mark.parametrize(
    ("bits", "zero_points", "target", "element_type"),
    [
        (4, [8, 8, 8, 8], "portable", TensorProto.INT8),
        (4, [8, 8, 8, 8], "int4", TensorProto.INT4),
        (4, [8, 8, 7, 8], "int4", TensorProto.UINT4),  # 15 - 7 = 8 is no INT4
        (3, [0, 4, 7, 1], "int4", TensorProto.INT4),
        (5, [16, 16, 16, 16], "int4", TensorProto.INT8),
        (8, [128, 128, 128, 128], "portable", TensorProto.INT8),
    ],
)
def test_type_and_zero_point_in_the_file(bits: int, zero_points: list[int], target: str, element_type: int) -> None:
    weight = _weight(bits, zero_points)
    case = _export(weight, target)
    codes, zero_point = _stored(case, "w_quantized"), _stored(case, "w_zero_point")
    assert codes.data_type == zero_point.data_type == element_type
    moved = element_type == TensorProto.UINT4
    stored = numpy_helper.to_array(codes).astype(np.int64)
    np.testing.assert_array_equal(stored, weight.codes if moved else weight.centred())
    np.testing.assert_array_equal(numpy_helper.to_array(zero_point).astype(np.int64), zero_points if moved else [0] * 4)
    np.testing.assert_array_equal(numpy_helper.to_array(_stored(case, "w_scale")), weight.qparams.scale)
    assert all(t.name != "w" for t in case.proto.graph.initializer), "the float weight is gone"
    assert case.proto.opset_import[0].version == (21 if element_type in (TensorProto.INT4, TensorProto.UINT4) else 13)


def test_asymmetric_8_bit_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weight 'w': codes minus zero point span -128..128, which INT8 cannot hold.*128"):
        _export(_weight(8, [128, 128, 127, 128]))


def test_int4_halves_the_weights() -> None:
    weight = _weight(4, [8] * 4)
    sizes = [len(_stored(_export(weight, c), "w_quantized").raw_data) for c in ("portable", "int4")]
    assert sizes == [weight.codes.size, weight.codes.size // 2]


IMAGE, ROWS, TOKENS = "float[N,6,7,5] x", "float[N,21] x", "float[N,7,21] x"
FEEDS = {
    IMAGE: X,
    ROWS: {"x": RNG.standard_normal((9, 21)).astype(np.float32)},
    TOKENS: {"x": RNG.standard_normal((3, 7, 21)).astype(np.float32)},
}
LAYERS = {
    "conv_transpose": (IMAGE, "ConvTranspose<strides=[2,2]>(x, w)", (6, 4, 3, 3), 1, {}),
    "grouped_conv_transpose": (IMAGE, "ConvTranspose<group=2>(x, w)", (6, 4, 3, 3), 1, {}),
    "depthwise": (IMAGE, "Conv<group=6, pads=[1,1,1,1]>(x, w)", (6, 1, 3, 3), 0, {"QLinearConv": 1}),
    "matmul": (ROWS, "MatMul(x, w)", (21, 4), 1, {"QLinearMatMul": 1}),
    "matmul_of_tokens": (TOKENS, "MatMul(x, w)", (21, 4), 1, {"QLinearMatMul": 1}),
    "matmul_channels_last": (IMAGE, "MatMul(x, w)", (5, 4), 1, {"QLinearMatMul": 1}),
    "gemm": (ROWS, "Gemm(x, w)", (21, 4), 1, {"QGemm": 1}),
    "gemm_transposed": (ROWS, "Gemm<transB=1>(x, w)", (4, 21), 0, {"QGemm": 1}),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_channel_axis(kind: str) -> None:
    """One scale for each output channel, wherever the operator keeps that axis; kernels as far as onnxruntime has them."""
    given, expression, shape, axis, kernels = LAYERS[kind]
    text = f"""<ir_version: 8, opset_import: ["" : 13]> g ({given}) => (float z) {{ y = {expression} z = Neg(y) }}"""
    proto = model(text, w=RNG.standard_normal(shape).astype(np.float32))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    feeds = FEEDS[given]
    case = quantised(proto, everywhere(3, 8, "x", "y"), feeds)
    dequantizer = next(n for n in case.proto.graph.node if n.output[0] == "w")
    assert next(a.i for a in dequantizer.attribute if a.name == "axis") == axis
    expected = case.simulate(feeds)
    for optimise in (False, True):
        found = run(case.proto, feeds, ["w", "y_quantized"], optimise)
        np.testing.assert_array_equal(found["w"], case.codes.weights["w"].dequantize())
        np.testing.assert_array_equal(found["y_quantized"], expected.activations["y"].codes)
    assert integer_kernels(case.proto).integer == kernels


TIED = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,6,7,5] x) => (float[N,6,7,5] y) {
        a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) c = Conv<pads=[1,1,1,1]>(b, w) y = Relu(c) }"""


def test_tied_layers_read_one_weight() -> None:
    case = quantised(model(TIED, w=RNG.standard_normal((6, 6, 3, 3)).astype(np.float32)), everywhere(4, 8, "x", "b", "y"), X)
    assert [n.output[0] for n in case.proto.graph.node if n.op_type == "DequantizeLinear"].count("w") == 1
    assert [n.op_type for n in case.proto.graph.node if "w" in n.input] == ["Conv", "Conv"]
    np.testing.assert_allclose(run(case.proto, X)["y"], case.simulate(X).outputs["y"], atol=1e-4)
    # y is a graph output and so stays float: only the first convolution has a Q behind it
    assert integer_kernels(case.proto).integer == {"QLinearConv": 1}


def test_a_reader_outside_of_the_placement_keeps_the_float_weight() -> None:
    proto = model(TIED, w=RNG.standard_normal((6, 6, 3, 3)).astype(np.float32))

    def first_only(deploy: object) -> Placement:
        whole = everywhere(4, 8)(deploy).weights[0]  # type: ignore[arg-type]
        spec = WeightSpec(value="w", bits=4, axis=0, nodes=whole.nodes[:1])
        return Placement(weights=(spec,), activations=(), float_nodes={})

    case = quantised(proto, first_only, X)
    convs = [n for n in case.proto.graph.node if n.op_type == "Conv"]
    assert [n.input[1] for n in convs] == ["w_dequantized", "w"]
    np.testing.assert_array_equal(numpy_helper.to_array(_stored(case, "w")), numpy_helper.to_array(proto.graph.initializer[0]))
