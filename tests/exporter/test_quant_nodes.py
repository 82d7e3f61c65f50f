"""The QONNX form: every layer type computes, to the last bit, what the same codes compute in QDQ form."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from simulation import Codes, everywhere, minmax_codes, model

from genie_onnx import graph
from genie_onnx.exporter import export
from genie_onnx.qparams import QParams, quantize
from genie_onnx.targets import TARGETS, Constraints, Form, Target
from genie_onnx.validate import run

RNG = np.random.default_rng(11)
QONNX = TARGETS["qonnx"]

# name: (input shape, body, weight shape, axis of its channels)
LAYERS = {
    "Conv of one dimension": ((2, 3, 9), "y = Conv<pads=[1,1], strides=[2]>(r, w, b)", (4, 3, 3), 0),
    "Conv": ((2, 3, 7, 6), "y = Conv<pads=[1,0,1,0], dilations=[1,2]>(r, w, b)", (4, 3, 3, 3), 0),
    "Conv of three dimensions": ((2, 2, 4, 4, 4), "y = Conv(r, w, b)", (3, 2, 2, 2, 2), 0),
    "depthwise Conv": ((2, 4, 6, 6), "y = Conv<group=4>(r, w, b)", (4, 1, 3, 3), 0),
    "grouped Conv": ((2, 4, 6, 6), "y = Conv<group=2>(r, w, b)", (6, 2, 3, 3), 0),
    "ConvTranspose": ((2, 4, 5, 5), "y = ConvTranspose<strides=[2,2], output_padding=[1,1]>(r, w, b)", (4, 3, 3, 3), 1),
    "ConvTranspose of two groups": ((2, 4, 5, 5), "y = ConvTranspose<group=2>(r, w)", (4, 3, 2, 2), 1),
    "Gemm": ((2, 6), "y = Gemm(r, w, b)", (6, 4), 1),
    "Gemm, transposed, scaled, without C": ((2, 6), "y = Gemm<transB=1, alpha=0.5>(r, w)", (4, 6), 0),
    "MatMul": ((2, 3, 6), "y = MatMul(r, w)", (6, 4), 1),
}


def quant(x: np.ndarray, scale: np.ndarray, zeropt: np.ndarray, bitwidth: np.ndarray, signed: int) -> np.ndarray:
    """The operator as QONNX specifies it, in numpy: it shares nothing with the function in the file."""
    low, high = (-(2 ** (bitwidth - 1)), 2 ** (bitwidth - 1) - 1) if signed else (0, 2**bitwidth - 1)
    codes = np.rint(np.clip(x / scale + zeropt, low, high))
    return np.asarray((codes - zeropt) * scale, np.float32)


def case(
    name: str, bits: int, *, relu: bool, symmetric: bool = False, opset: int = 17
) -> tuple[onnx.ModelProto, dict[str, np.ndarray], Codes, list]:
    """A layer behind a Relu, or behind what has negative numbers, with random per-channel codes."""
    shape, body, weight, axis = LAYERS[name]
    first = "Relu" if relu else "Neg"
    sizes, opened = ",".join(map(str, shape)), ",".join("ABCDE"[: len(shape)])
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (float[{sizes}] x) => (float[{opened}] y) {{
        r = {first}(x)  {body} }}"""
    proto = model(text)
    channels = weight[axis] * (2 if "two groups" in name else 1)
    arrays = {"w": RNG.standard_normal(weight).astype(np.float32)}
    if ", b)" in body:
        arrays["b"] = RNG.standard_normal(channels).astype(np.float32)
    proto.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in arrays.items())
    feeds = {"x": RNG.standard_normal(shape).astype(np.float32)}
    deploy = graph.fold_batchnorm(graph.normalise(graph.load(proto)))
    placement = everywhere(bits, bits, "r")(deploy)
    codes = minmax_codes(deploy, placement, feeds)
    if symmetric:
        codes.weights.update({key: _symmetric(deploy, key, q.qparams) for key, q in codes.weights.items()})
    return proto, feeds, codes, [deploy, placement]


def _symmetric(deploy: ir.Model, name: str, grid: QParams):  # type: ignore[no-untyped-def]
    array = np.asarray(graph.query.constant(deploy.graph.initializers[name]), np.float32)
    return quantize(array, dataclasses.replace(grid, zero_point=np.full_like(grid.zero_point, 2 ** (grid.bits - 1))))


def written(proto: onnx.ModelProto, codes: Codes, prepared: list, target: Target) -> onnx.ModelProto:
    deploy, placement = prepared
    return export(deploy, graph.load(proto), placement, codes, target, {})


def in_qdq(target: Target) -> Target:
    return dataclasses.replace(target, form=target.form.in_onnx)


@pytest.mark.parametrize("relu", [True, False], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", LAYERS)
def test_quant_nodes_compute_what_qdq_computes(name: str, bits: int, relu: bool) -> None:
    proto, feeds, codes, prepared = case(name, bits, relu=relu)
    expected = run(written(proto, codes, prepared, in_qdq(QONNX)), feeds, optimise=False)["y"]
    file = written(proto, codes, prepared, QONNX)
    onnx.checker.check_model(file, full_check=True)
    assert {node.op_type for node in file.graph.node}.isdisjoint({"QuantizeLinear", "DequantizeLinear", "Clip"})
    np.testing.assert_array_equal(run(file, feeds, optimise=False)["y"], expected)
    nodes = [node for node in file.graph.node if node.op_type == "Quant"]
    assert len(nodes) == 2
    for node in nodes:
        found = run(file, feeds, [*node.input, node.output[0]], optimise=False)
        inputs = [found[name] for name in node.input]
        signed = next(a.i for a in node.attribute if a.name == "signed")
        np.testing.assert_array_equal(found[node.output[0]], quant(*inputs, signed))


@pytest.mark.parametrize("opset", [13, 14, 18, 22])
def test_any_opset_defines_the_operator(opset: int) -> None:
    proto, feeds, codes, prepared = case("Conv", 4, relu=True, opset=opset)
    file = written(proto, codes, prepared, QONNX)
    onnx.checker.check_model(file, full_check=True)
    assert [entry.version for entry in file.functions[0].opset_import] == [opset]
    expected = run(written(proto, codes, prepared, in_qdq(QONNX)), feeds, optimise=False)["y"]
    np.testing.assert_array_equal(run(file, feeds, optimise=False)["y"], expected)


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_is_left_to_defaults(name: str) -> None:
    proto, _, codes, prepared = case(name, 4, relu=True)
    nodes = written(proto, codes, prepared, QONNX).graph.node
    (layer,) = (node for node in nodes if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"))
    given = {a.name for a in layer.attribute}
    if "Conv" in name:
        assert given >= {"kernel_shape", "strides", "dilations", "group", "pads"}
        rank = len(LAYERS[name][0]) - 2
        sizes = {a.name: len(a.ints) for a in layer.attribute}
        assert (sizes["kernel_shape"], sizes["strides"], sizes["pads"]) == (rank, rank, 2 * rank)
    elif "Gemm" in name:
        assert given >= {"alpha", "beta", "transA", "transB"}
        assert len(layer.input) == 3


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_weight_node_has_true_bits_and_a_parameter_a_channel(symmetric: bool) -> None:
    proto, feeds, codes, prepared = case("ConvTranspose", 3, relu=True, symmetric=symmetric)
    file = written(proto, codes, prepared, QONNX)
    tensors = {t.name: numpy_helper.to_array(t) for t in file.graph.initializer}
    (node,) = (n for n in file.graph.node if n.op_type == "Quant" and n.input[0] == "w")
    scale, zero_point, bits = (tensors[name] for name in node.input[1:])
    assert scale.shape == zero_point.shape == (1, 3, 1, 1)
    assert (bits.shape, float(bits)) == ((), 3)
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert given == {"signed": int(symmetric), "narrow": 0, "rounding_mode": b"ROUND"}
    grid = codes.weights["w"].qparams
    np.testing.assert_array_equal(zero_point.ravel(), [0, 0, 0] if symmetric else grid.zero_point)
    np.testing.assert_array_equal(tensors["w"], codes.weights["w"].dequantize())
    np.testing.assert_array_equal(run(file, feeds, [node.output[0]], optimise=False)[node.output[0]], tensors["w"])


def test_a_reader_that_stays_float_keeps_its_numbers() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,4,4] x) => (float[A,B,C,D] y, float[E,F,G,H] z) {
        y = Conv(x, w)  z = Mul(y, w) }"""
    proto = model(text, w=RNG.standard_normal((2, 2, 1, 1)).astype(np.float32))
    feeds = {"x": RNG.standard_normal((1, 2, 4, 4)).astype(np.float32)}
    deploy = graph.normalise(graph.load(proto))
    placement = everywhere(4, 4, "x")(deploy)
    codes = minmax_codes(deploy, placement, feeds)
    file = written(proto, codes, [deploy, placement], QONNX)
    expected = run(written(proto, codes, [deploy, placement], in_qdq(QONNX)), feeds, optimise=False)
    found = run(file, feeds, optimise=False)
    for name in ("y", "z"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_shifted_values_are_refused_because_quant_rounds_them_otherwise() -> None:
    """Half-way between two codes, an odd zero point changes which of them is even."""
    x, scale = np.float32([0.5, 1.5, 2.5]), np.float32(1)
    assert np.rint(x / scale + 1).tolist() != (np.rint(x / scale) + 1).tolist()
    with pytest.raises(ValueError, match=r"Quant rounds x / scale \+ zero point"):
        Target(name="shifted", reads="", form=Form(style="qonnx"), constraints=Constraints())
