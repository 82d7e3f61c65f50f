"""A .tflite file has the codes, scales and zero points of the QDQ file it is made of, and kernels compute the same with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from litert_nets import PIECES, exported, net, tensors
from onnx import numpy_helper
from simulation import model

from genie_onnx.errors import ModelError
from genie_onnx.exporter.litert import to_tflite
from genie_onnx.exporter.litert.draft import Grid
from genie_onnx.exporter.litert.fusing import fused
from genie_onnx.exporter.litert.table import ROWS
from genie_onnx.qparams import QTensor
from genie_onnx.validate import Session

tflite = pytest.importorskip("tflite")  # in the extra `test`

IMAGES = np.random.default_rng(0).standard_normal((6, 3, 10, 9)).astype(np.float32)
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
TYPES = {0: np.float32, 2: np.int32, 9: np.int8}
# Largest share of codes inside that kernels may move by rounding in fixed point: those with a table or a second grid move more
MOVED = {"SiLU": 0.15, "Mul by a gate": 0.1, "LeakyRelu": 0.15, "Resize, linear": 0.5}
# What no integer kernel is asked for, because no target rounds it
FLOATS = {"maximum, sum": {"DEQUANTIZE", "RELU", "REDUCE_MAX"}}


class Read:
    """A .tflite file, read back by the schema alone."""

    def __init__(self, data: bytes) -> None:
        self.model = tflite.Model.GetRootAs(data)
        self.graph = self.model.Subgraphs(0)
        codes = {getattr(tflite.BuiltinOperator, name): name for name in dir(tflite.BuiltinOperator) if name.isupper()}
        self.operators = [
            (
                codes[self.model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()],
                [int(number) for number in operator.InputsAsNumpy()],
                [int(number) for number in operator.OutputsAsNumpy()],
            )
            for operator in (self.graph.Operators(index) for index in range(self.graph.OperatorsLength()))
        ]

    def names(self) -> list[str]:
        """The operators in their order."""
        return [name for name, _, _ in self.operators]

    def data(self, number: int) -> np.ndarray:
        """A constant."""
        tensor = self.graph.Tensors(number)
        raw = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(raw.tobytes(), TYPES[tensor.Type()]).reshape(tensor.ShapeAsNumpy())

    def grid(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Scales and zero points of a tensor."""
        quantization = self.graph.Tensors(number).Quantization()
        return quantization.ScaleAsNumpy(), quantization.ZeroPointAsNumpy()

    def type(self, number: int) -> type:
        """The type of a tensor."""
        return TYPES[self.graph.Tensors(number).Type()]

    def named(self, name: str) -> int:
        """The tensor of a name."""
        tensors = (self.graph.Tensors(number).Name().decode() for number in range(self.graph.TensorsLength()))
        return list(tensors).index(name)

    def places(self) -> dict[str, dict[str, list]]:
        """What the file says of where things lie."""
        entry = self.model.Metadata(0)
        assert entry.Name() == b"genie_onnx.places"
        return json.loads(self.model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())


def laid_out(layer: str, name: str, weight: QTensor) -> np.ndarray:
    """The centred codes of a weight where the operator has them."""
    orders = {
        "CONV_2D": (0, 2, 3, 1),
        "DEPTHWISE_CONV_2D": (1, 2, 3, 0),
        "TRANSPOSE_CONV": (1, 2, 3, 0),
        "FULLY_CONNECTED": (1, 0) if name == "wm" else (0, 1),  # of a MatMul; of a Gemm with transB
    }
    return weight.centred().transpose(orders[layer])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("piece", PIECES)
def test_codes_scales_and_zero_points_are_those_of_the_qdq_file(piece: str, bits: int) -> None:
    proto, codes = exported(net(*PIECES[piece]), bits, bits, IMAGES)
    found = Read(to_tflite(proto))
    layers = [operator for operator in found.operators if operator[0] in LAYERS]
    assert {found.graph.Tensors(inputs[1]).Name().decode() for _, inputs, _ in layers} == set(codes.weights)
    for kind, inputs, outputs in layers:
        name = found.graph.Tensors(inputs[1]).Name().decode()
        weight = codes.weights[name]
        np.testing.assert_array_equal(found.data(inputs[1]), laid_out(kind, name, weight))
        scale, zero_point = found.grid(inputs[1])
        np.testing.assert_array_equal(scale, weight.qparams.scale)
        assert not zero_point.any()
        source = inputs[2 if kind == "TRANSPOSE_CONV" else 0]
        np.testing.assert_array_equal(found.grid(inputs[-1])[0], found.grid(source)[0] * scale)
        assert found.data(inputs[-1]).dtype == np.int32
        assert found.type(outputs[0]) is np.int8
    values = {entry["codes"]: name for name, entry in json.loads(_metadata(proto)["genie_onnx.activations"]).items()}
    places = found.places()["codes"]
    assert set(places) == set(values)
    grids = {name: codes.activations[name] for name in codes.activations}
    for codes_name, (number, _, offset) in places.items():
        scale, zero_point = found.grid(number)
        quantizer = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear" and _codes(proto, n) == codes_name)
        initializers = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        assert scale == initializers[quantizer.input[1]]
        assert zero_point == initializers[quantizer.input[2]].astype(int) + offset
        known = grids.get(values[codes_name])
        assert known is None or offset == 127 - known.qmax  # INT8 ends where the grid does


def _codes(proto: onnx.ModelProto, quantizer: onnx.NodeProto) -> str:
    clips = [n for n in proto.graph.node if n.op_type == "Clip" and n.input[0] == quantizer.output[0]]
    return clips[0].output[0] if clips else quantizer.output[0]


def _metadata(proto: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in proto.metadata_props}


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("piece", PIECES)
def test_the_interpreter_computes_what_the_qdq_file_says(piece: str, bits: int, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from genie_onnx.validate.runtimes.litert_interpreter import Model

    proto, _ = exported(net(*PIECES[piece]), bits, bits, IMAGES)
    file = tmp_path / "net.tflite"
    file.write_bytes(to_tflite(proto))
    model = Model(str(file), {})
    inside = [model.codes({"x": image[None]}) for image in IMAGES]
    session = Session(proto, [*inside[0], "y"], optimise=False)
    expected = [session({"x": image[None]}) for image in IMAGES]
    moved = [found[name] != wanted[name] for found, wanted in zip(inside, expected, strict=True) for name in found]
    assert np.mean(np.concatenate([steps.ravel() for steps in moved])) < MOVED.get(piece, 0.03 if bits == 8 else 0.08)
    outputs = np.stack([model({"x": image[None]})[0] for image in IMAGES])
    reference = np.stack([wanted["y"] for wanted in expected])
    assert np.abs(outputs - reference).mean() < 0.02 * np.ptp(reference)
    floats = {operator.split()[0] for operator in model.operators({}) if "float" in operator}
    assert floats == FLOATS.get(piece, set())


def test_an_image_that_becomes_a_row_is_not_transposed_but_the_weight_is() -> None:
    weight = np.random.default_rng(2).standard_normal((5, 8 * 90)).astype(np.float32)
    proto, codes = exported(
        net("h = Conv<pads=[1,1,1,1]>(r, w3, b8)", 8, "f = Flatten(h)  y = Gemm<transB=1>(f, wo, bo)", wo=weight), 8, 8, IMAGES
    )
    found = Read(to_tflite(proto))
    assert found.names() == ["CONV_2D", "CONV_2D", "RESHAPE", "FULLY_CONNECTED"]
    expected = codes.weights["wo"].centred().reshape(5, 8, 10, 9).transpose(0, 2, 3, 1).reshape(5, -1)
    np.testing.assert_array_equal(found.data(found.operators[-1][1][1]), expected)


def test_a_row_that_others_read_too_is_in_the_order_of_onnx() -> None:
    weight = np.random.default_rng(2).standard_normal((5, 8 * 90)).astype(np.float32)
    tail = "f = Flatten(h)  g = Relu(f)  k = Sigmoid(f)  t = Mul(g, k)  y = Gemm<transB=1>(t, wo, bo)"
    proto, codes = exported(net("h = Conv<pads=[1,1,1,1]>(r, w3, b8)", 8, tail, wo=weight), 8, 8, IMAGES)
    found = Read(to_tflite(proto))
    assert "TRANSPOSE" in found.names()
    np.testing.assert_array_equal(found.data(found.operators[-1][1][1]), codes.weights["wo"].centred())


def test_inputs_and_outputs_are_integers_laid_out_as_stated() -> None:
    proto, _ = exported(
        net("h = Conv(r, w1, b8)", 8, "y0 = GlobalAveragePool(h)  y1 = Flatten(y0)  y = Gemm<transB=1>(y1, wo, bo)"), 8, 8, IMAGES
    )
    found = Read(to_tflite(proto))
    image, scores = found.graph.Inputs(0), found.graph.Outputs(0)
    assert found.graph.Tensors(image).ShapeAsNumpy().tolist() == [1, 10, 9, 3]
    assert (found.type(image), found.type(scores)) == (np.int8, np.int8)
    assert found.places()["inputs"] == {"x": [0, 2, 3, 1]}
    assert found.places()["outputs"] == {"y": [0, 1]}


def test_channels_last_images_stay_as_they_are() -> None:
    images = IMAGES.transpose(0, 2, 3, 1)
    weights = {name: array for name, array in tensors().items() if name in ("wi", "bi")}
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[N,10,9,3] x) => (float[N,8] y) {
        t = Transpose<perm=[0,3,1,2]>(x)  a = Conv(t, wi, bi)  r = Relu(a)  y = ReduceMean<keepdims=0>(r, axes) }"""
    proto, _ = exported(model(text, axes=np.asarray([2, 3]), **weights), 8, 8, images)
    found = Read(to_tflite(proto))
    assert found.names()[0] == "CONV_2D"
    assert "TRANSPOSE" not in found.names()
    assert found.places()["inputs"] == {"x": [0, 1, 2, 3]}


def test_four_bits_end_where_int8_and_a_relu_do() -> None:
    proto, _ = exported(net("c = Conv(r, w1, b8)  d = Relu(c)  h = Conv(d, w3, b8)", 8), 4, 4, IMAGES)
    found = Read(to_tflite(proto))
    assert found.names() == ["CONV_2D", "CONV_2D", "CONV_2D", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED"]  # no clamp besides
    assert found.grid(found.operators[0][2][0])[1].tolist() == [-128]  # read by the second layer, so of 8 bits
    assert found.grid(found.operators[1][2][0])[1].tolist() == [112]  # codes 0..15 at 112..127


def test_what_no_activation_keeps_is_clamped_behind_the_operator() -> None:
    proto, _ = exported(net("c = Conv(r, w1, b8)  h = Conv(c, w3, b8)", 8), 4, 4, IMAGES)  # c has both signs
    found = Read(to_tflite(proto))
    assert found.names()[:4] == ["CONV_2D", "CONV_2D", "MAXIMUM", "CONV_2D"]
    bound = found.operators[2][1][1]
    assert found.data(bound).tolist() == [112]
    np.testing.assert_array_equal(found.grid(bound)[0], found.grid(found.named("c_quantized"))[0])
    assert found.operators[2][2] == [found.named("c_quantized")]


@pytest.mark.parametrize(
    ("low", "high", "activation", "kept"),
    [
        (-128, 127, "NONE", (-128, 127)),
        (-10, 127, "RELU", (-10, 127)),
        (-10, 50, "RELU6", (-10, 50)),  # round(6 / 0.1) codes above the zero point
        (-10, 49, "RELU", (-10, 127)),  # a MINIMUM has to follow
        (0, 127, "NONE", (-128, 127)),  # a MAXIMUM has to follow
        (-128, 50, "NONE", (-128, 127)),
    ],
)
def test_bounds_that_an_operator_keeps(low: int, high: int, activation: str, kept: tuple[int, int]) -> None:
    found, grid = fused(Grid(np.asarray(0.1, np.float32), -10, low, high))
    assert found == getattr(tflite.ActivationFunctionType, activation)
    assert grid is not None
    assert (grid.low, grid.high) == kept


def test_everything_that_cannot_be_written_is_said_at_once() -> None:
    pool = "m = MaxPool<kernel_shape=[3,3], dilations=[2,2], pads=[2,2,2,2]>(r)"
    piece = f"s = Sin(r)  {pool}  n = Add(s, m)  t = Selu(n)  h = Conv(t, w1, b8)"
    proto, _ = exported(net(piece, 8), 8, 8, IMAGES)
    with pytest.raises(ModelError) as caught:
        to_tflite(proto)
    assert [problem.split("'")[0].strip() for problem in caught.value.problems] == ["Sin", "MaxPool", "Selu"]
    assert "it is dilated" in caught.value.problems[1]


def test_the_page_names_the_operators_that_are_written() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "compile-for-a-microcontroller.md").read_text(encoding="utf-8")
    section = page.split("## Operators that are written")[1].split("Not in every form")[0]
    assert section.replace("`", "").replace(".", "").replace(",", "").split() == list(ROWS)


def test_the_same_file_gives_the_same_bytes() -> None:
    proto, _ = exported(net(*PIECES["Add, Relu"]), 4, 4, IMAGES)
    assert to_tflite(proto) == to_tflite(proto)
