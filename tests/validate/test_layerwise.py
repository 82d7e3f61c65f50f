"""Comparing layer by layer: sums over batches, what a file rounds, the network with switches, effects of blocks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import image, parse
from simulation import Case, quantised

from genie_onnx import graph
from genie_onnx.config import PlacementConfig
from genie_onnx.errors import ConfigError, ModelError
from genie_onnx.placement import place
from genie_onnx.targets import TARGETS
from genie_onnx.validate import Session, run
from genie_onnx.validate.compare import cosine, sqnr
from genie_onnx.validate.layerwise import QdqGraph, effects, measure, pair, weight_findings
from genie_onnx.validate.layerwise.qdq_graph import Grid
from genie_onnx.validate.layerwise.switch import add_switches
from genie_onnx.validate.layerwise.tallies import Nearness, ValueTally
from genie_onnx.validate.layerwise.weights import channels

NET = """g (float[N,3,8,8] x, float[4,3,3,3] w1, float[4] b1, float[4,1,3,3] w2, float[4] b2, float[5,4] w3, float[5] b3)
    => (float[N,5] y, float[N,4,8,8] t) {
        a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a)
        d = Conv<pads=[1,1,1,1], group=4>(r, w2, b2) e = Clip(d, low, high) s = Add(e, r)
        m = GlobalAveragePool(s) f = Flatten(m) y = Gemm<transB=1>(f, w3, b3) t = Mul(s, half)
    }"""
FEEDS = {"x": image(6, 3, 8, 8)}


def net() -> onnx.ModelProto:
    """A layer, a depthwise one with a ReLU6 and a skip, a classifier, and a second output."""
    proto = parse(NET.replace("float[5] b3)", "float[5] b3, float[1] low, float[1] high, float[1] half)"))
    values = {"low": 0.0, "high": 0.75, "half": 0.5}
    for tensor in proto.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(values[tensor.name]), tensor.name))
    return proto


def case(target: str = "portable", rounded_outputs: bool = False, **config: object) -> Case:
    row = TARGETS[target]
    constraints = dataclasses.replace(row.constraints, outputs="rounded" if rounded_outputs else row.constraints.outputs)
    settings = PlacementConfig(**config)  # type: ignore[arg-type]
    return quantised(net(), lambda deploy: place(deploy, settings, constraints), FEEDS, target)


def file_of(found: Case) -> QdqGraph:
    return QdqGraph(graph.load(found.proto))


def test_sums_over_batches_are_the_comparison_of_the_whole() -> None:
    x = image(40, 7)
    y = x + np.float32(0.1) * image(40, 7, seed=2)
    nearness = Nearness()
    for start in (0, 3, 25):
        stop = {0: 3, 3: 25, 25: 40}[start]
        nearness.add(x[start:stop], y[start:stop])
    assert nearness.sqnr_db == pytest.approx(sqnr(x, y), abs=1e-4)
    assert nearness.cosine == pytest.approx(cosine(x, y), abs=1e-6)


def test_a_value_is_rounded_counted_and_cut_off_as_its_grid_says() -> None:
    tally = ValueTally(Grid(scale=np.float32(0.5), zero_point=1, low=0, high=3, bits=2))  # -0.5, 0, 0.5, 1
    exact = np.array([[-0.74, -0.5, 0.2], [1.2, 1.3, 9]], np.float32)
    file = np.array([[-0.5, 0, 0], [1, 1, 1]], np.float32)
    tally.add(exact, file, np.array([[0, 1, 1], [3, 3, 3]], np.uint8))
    assert tally.histogram.tolist() == [1, 2, 0, 3]
    assert (tally.low, tally.high) == (np.float32(-0.74), 9)
    assert tally.saturated == pytest.approx(2 / 6)  # 1.3 and 9: 1.2 and -0.74 round to the last codes
    assert tally.rounding.sqnr_db == pytest.approx(sqnr(exact, np.array([[-0.5, -0.5, 0], [1, 1, 1]], np.float32)), abs=1e-4)
    assert tally.nearness.sqnr_db == pytest.approx(sqnr(exact, file), abs=1e-4)


@pytest.mark.parametrize("target", ["portable", "iree"])
def test_grids_are_read_off_the_file(target: str) -> None:
    """A Clip on the codes, one on the floats, and the name of a value whose ReLU6 became such a Clip."""
    found = case(target, wbits=3, abits=3)
    file = file_of(found)
    values = {rounded.value: rounded.grid for rounded in file.rounded}
    grids = {value: found.codes.activations[spec.name] for spec in found.placement.activations for value in spec.values}
    assert set(values) == set(grids)
    for name, grid in grids.items():
        low, high = (float(grid.scale * (code - grid.zero_point)) for code in (0, grid.qmax))
        assert values[name].range == pytest.approx((low, high)), name
        assert (values[name].bits, values[name].levels) == (grid.bits, 2**grid.bits)


@pytest.mark.parametrize(
    ("target", "rounded"), [("portable", False), ("portable", True), ("openvino", False), ("tensorrt", False), ("int4", False)]
)
def test_all_switches_on_is_the_file_and_all_off_the_float_network(target: str, rounded: bool) -> None:
    # 7 bits of what would have 8: INT8 without a zero point holds them, whatever their grid
    found = case(target, rounded, wbits=3, abits=4, other_bits=7, first_last_bits=7)
    file = file_of(found)
    blocks = {str(node.name): f"b{k}" for k, node in enumerate(found.deploy.graph)}
    model, switches = add_switches(found.deploy, pair(found.deploy, file), blocks)
    session = Session(model)
    assert set(switches) <= set(blocks.values())
    for on, expected in ((True, run(file.model, FEEDS, optimise=False)), (False, run(found.deploy, FEEDS))):
        outputs = session({**FEEDS, **{name: np.array(on) for name in switches.values()}})
        for name, array in expected.items():
            np.testing.assert_allclose(outputs[name], array, atol=1e-5, err_msg=f"{name}, {on}")


def test_a_switch_is_that_of_its_block_alone() -> None:
    found = case(wbits=2, abits=8)
    blocks = {str(node.name): "late" if node.op_type == "Gemm" else "early" for node in found.deploy.graph}
    model, switches = add_switches(found.deploy, pair(found.deploy, file_of(found)), blocks)
    exact = run(found.deploy, FEEDS)
    outputs = Session(model)({**FEEDS, switches["late"]: np.array(True), switches["early"]: np.array(False)})
    np.testing.assert_allclose(outputs["t"], exact["t"], atol=1e-5)  # made before
    assert sqnr(exact["y"], outputs["y"]) < 60


def test_files_of_other_tools_are_read_by_their_nodes(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization", reason="needs onnxruntime's own quantizer")
    source, output = tmp_path / "net.onnx", tmp_path / "theirs.onnx"
    onnx.save(net(), source)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.rest = iter([FEEDS])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    quantization.quantize_static(source, output, Reader(), per_channel=True)
    deploy = graph.check(graph.load(source))
    file = QdqGraph(graph.load(output))
    found = pair(deploy, file)
    assert {"x", "r", "y"} <= set(found.values)
    assert {c.constant for c in found.constants if c.codes is not None} >= {"w1", "w2", "w3"}
    blocks = {str(node.name): "all" for node in deploy.graph}
    model, switches = add_switches(deploy, found, blocks)
    ours, theirs = Session(model)({**FEEDS, switches["all"]: np.array(True)}), run(file.model, FEEDS, optimise=False)
    np.testing.assert_allclose(ours["y"], theirs["y"], atol=1e-5)


def test_a_reader_of_the_unrounded_value_stays_one() -> None:
    """As TensorRT's tools write it: Q/DQ in front of the layer, and not of the skip."""
    text = """g (float[N,3] x, float[3,3] w) => (float[N,3] y)
        <float s = {0.25}, uint8 z = {128}, uint8 zero = {0}> {
            q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) m = MatMul(d, w) y = Add(m, x) }"""
    floats = """g (float[N,3] x, float[3,3] w) => (float[N,3] y) { m = MatMul(x, w) y = Add(m, x) }"""
    reference = graph.normalise(graph.load(parse(floats)))
    file = QdqGraph(graph.load(parse(text)))
    found = pair(reference, file)
    add = next(str(node.name) for node in reference.graph if node.op_type == "Add")
    assert found.float_reads == {(add, 1)}
    model, switches = add_switches(reference, found, {str(node.name): "b" for node in reference.graph})
    x = {"x": image(4, 3)}
    outputs = Session(model)({**x, switches["b"]: np.array(True)})
    np.testing.assert_allclose(outputs["y"], run(file.model, x, optimise=False)["y"], atol=1e-6)


def test_weights_that_are_quantised_in_the_file_are_read() -> None:
    """As QAT tools export them: float weight -> Q -> DQ -> Transpose -> layer."""
    text = """g (float[N,3] x, float[3,4] w) => (float[N,4] y)
        <float[4] ws = {0.5, 0.25, 0.5, 1.0}, int8[4] wz = {0, 0, 0, 0}> {
            q = QuantizeLinear<axis = 1>(w, ws, wz) d = DequantizeLinear<axis = 1>(q, ws, wz) y = MatMul(x, d) }"""
    floats = """g (float[N,3] x, float[3,4] w) => (float[N,4] y) { y = MatMul(x, w) }"""
    reference = graph.normalise(graph.load(parse(floats)))
    file = QdqGraph(graph.load(parse(text)))
    (constant,) = pair(reference, file).constants
    w = onnx.numpy_helper.to_array(parse(floats).graph.initializer[0])
    scale = np.array([0.5, 0.25, 0.5, 1], np.float32)
    np.testing.assert_array_equal(constant.numbers, np.rint(w / scale) * scale)
    assert constant.codes is not None
    np.testing.assert_array_equal(constant.codes.codes, np.rint(w / scale))
    assert (constant.codes.axis, constant.codes.bits) == (1, 8)


def test_what_weights_use_of_their_codes() -> None:
    found = case(wbits=3, abits=8, first_last_bits=8)
    blocks = {str(node.name): "b" for node in found.deploy.graph}
    weights = {w.weight: w for w in weight_findings(found.deploy, pair(found.deploy, file_of(found)), blocks)}
    assert [weights[name].operator for name in ("w1", "w2", "w3")] == ["Conv", "depthwise Conv", "Gemm"]
    assert [weights[name].bits for name in ("w1", "w2", "w3")] == [8, 3, 8]
    w2 = found.codes.weights["w2"]
    assert weights["w2"].used_median == np.median([len(np.unique(channel)) for channel in w2.codes])
    assert (weights["w2"].levels, sum(weights["w2"].histogram)) == (8, w2.codes.size)
    exact = found.deploy.graph.initializers["w2"].const_value
    assert exact is not None
    assert weights["w2"].sqnr_db == pytest.approx(sqnr(exact.numpy(), w2.dequantize()))
    assert list(weights) == sorted(weights, key=lambda name: weights[name].sqnr_db)


def test_codes_of_channels_with_other_zero_points_are_counted_from_their_smallest() -> None:
    file = file_of(case(wbits=2, abits=8, first_last_bits=2))
    conv = next(node for node in file.model.graph if node.op_type == "Conv")
    codes = file.codes(conv.inputs[1])
    assert codes is not None
    assert codes.codes.min() < 0  # stored less their zero point
    assert channels(codes).shape == (4, 27)
    assert set(channels(codes).ravel()) == {0, 1, 2, 3}


def test_values_and_outputs_are_those_of_the_two_networks() -> None:
    found = case(wbits=4, abits=4)
    file = file_of(found)
    measured = measure(found.deploy, file, pair(found.deploy, file), ["s", "no such value"], FEEDS["x"], lambda done: None)
    exact = run(found.deploy, FEEDS, ["r", "s", "y"])
    dequantized = {v.value: v.dequantized for v in file.rounded}
    theirs = run(file.model, FEEDS, [dequantized["r"], dequantized["s"], "y"], optimise=False)
    for name in ("r", "s"):
        assert measured.nearness[name].sqnr_db == pytest.approx(sqnr(exact[name], theirs[dequantized[name]]), abs=1e-3)
    y = next(output for output in measured.outputs if output.name == "y")
    assert y.sqnr_db == pytest.approx(sqnr(exact["y"], theirs["y"]), abs=1e-3)
    assert y.agreement == (exact["y"].argmax(1) == theirs["y"].argmax(1)).mean()
    assert measured.samples == 6


def test_a_value_is_compared_in_small_batches_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = case(wbits=4, abits=4)
    file = file_of(found)
    whole = measure(found.deploy, file, pair(found.deploy, file), [], FEEDS["x"], lambda done: None)
    monkeypatch.setattr("genie_onnx.validate.layerwise.values.ELEMENTS", 2 * whole.elements)
    told: list[int] = []
    parts = measure(found.deploy, file, pair(found.deploy, file), [], FEEDS["x"], told.append)
    assert told == [1, 3, 5, 6]
    for name, tally in whole.values.items():
        assert (parts.values[name].histogram == tally.histogram).all()
        assert parts.values[name].nearness.sqnr_db == pytest.approx(tally.nearness.sqnr_db, abs=1e-3)


def test_the_block_with_fewer_bits_has_the_larger_share() -> None:
    coarse = case(wbits=2, abits=8, first_last_bits=8)
    spec = next(w for w in coarse.placement.weights if w.value == "w2")
    blocks = {str(n.name): "w2" if str(n.name) in spec.nodes else "rest" for n in coarse.deploy.graph}
    calls: list[tuple[int, int]] = []
    effect = effects(coarse.deploy, pair(coarse.deploy, file_of(coarse)), blocks, FEEDS["x"], lambda k, n: calls.append((k, n)))
    assert effect.blocks["w2"].share > 0.9
    assert sum(block.share for block in effect.blocks.values()) == pytest.approx(1)
    assert effect.blocks["rest"].alone.sqnr_db > effect.blocks["w2"].alone.sqnr_db + 10
    # of two blocks, all but one is the other alone
    assert effect.blocks["rest"].all_but == effect.blocks["w2"].alone
    assert calls[-1][0] == calls[-1][1] == 6


def test_files_that_do_not_belong_together_are_refused() -> None:
    file = file_of(case())
    other = graph.normalise(
        graph.load(parse("g (float[N,3,8,8] image, float[4,3,1,1] w) => (float[N,4,8,8] y) {y = Conv(image, w)}"))
    )
    with pytest.raises(ModelError, match="inputs of the float model are image, of the quantized one x"):
        pair(other, file)
    with pytest.raises(ModelError, match="has no DequantizeLinear"):
        QdqGraph(graph.load(net()))


def test_fewer_images_than_the_file_takes_at_a_time() -> None:
    fixed = net()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    for output in fixed.graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 4
    found = quantised(fixed, lambda deploy: place(deploy, PlacementConfig()), {"x": FEEDS["x"][:4]})
    file = file_of(found)
    pairing = pair(found.deploy, file)
    with pytest.raises(ConfigError, match="takes 4 images at a time, and there are 3"):
        measure(found.deploy, file, pairing, [], FEEDS["x"][:3], lambda done: None)
    assert measure(found.deploy, file, pairing, [], FEEDS["x"], lambda done: None).samples == 4
