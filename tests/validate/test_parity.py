"""Parity must hold for a true file and break for one that is wrong in a single place."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from simulation import Case, Simulated, everywhere, model, quantised

from genie_onnx.config import PlacementConfig
from genie_onnx.errors import ParityError
from genie_onnx.placement import place
from genie_onnx.qparams import QTensor
from genie_onnx.validate import Parity, check_parity, check_rounded_weights, require_parity
from genie_onnx.validate.grids import grid_problems
from genie_onnx.validate.qdq_file import QdqFile

RNG = np.random.default_rng(5)
X = {"x": RNG.standard_normal((6, 3, 9, 9)).astype(np.float32)}
TEXT = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,3,9,9] x) => (float[N,5] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a)
        b = Conv<pads=[1,1,1,1]>(r, w2, b2) s = Relu(b)
        c = Conv<pads=[1,1,1,1]>(s, w3, b3) t = Add(c, r) u = Relu(t)
        m = GlobalAveragePool(u) f = Flatten(m) y = Gemm<transB=1>(f, w4, b4) }"""


def _array(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def _weights() -> dict[str, np.ndarray]:
    arrays = {"w1": _array(8, 3, 3, 3), "w2": _array(8, 8, 3, 3), "w3": _array(8, 8, 3, 3), "w4": _array(5, 8)}
    return arrays | {f"b{k}": _array(5 if k == 4 else 8) for k in range(1, 5)}


def _case(bits: int = 4) -> Case:
    config = PlacementConfig(wbits=bits, abits=bits)
    return quantised(model(TEXT, **_weights()), lambda deploy: place(deploy, config), X)


CASE = _case()
SIMULATED = CASE.simulate(X)


def _check(proto: onnx.ModelProto, expected: Simulated = SIMULATED, case: Case = CASE) -> Parity:
    return check_parity(proto, X, case.codes.weights, expected.activations, expected.outputs, case.reference(expected))


def _altered() -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(CASE.proto)
    return proto


def _set(proto: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def _get(proto: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == name)).copy()


def _node(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in proto.graph.node if n.name == name)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_true_file_passes(bits: int) -> None:
    case = _case(bits)
    parity = _check(case.proto, case.simulate(X), case)
    assert parity.problems == ()
    assert parity.ok
    require_parity(parity)
    assert (parity.samples, parity.weights, len(parity.values)) == (6, 4, len(SIMULATED.activations))
    assert all(v.elements == SIMULATED.activations[v.name].codes.size for v in parity.values)


def test_findings_are_plain_data() -> None:
    plain = json.loads(json.dumps(_check(CASE.proto).to_json()))
    assert plain["ok"] is True
    assert plain["flip_rate"] <= 1e-4
    assert {v["name"] for v in plain["values"]} == set(SIMULATED.activations)


def test_one_weight_code_changed_by_one() -> None:
    proto = _altered()
    codes = _get(proto, "w3_quantized")
    codes[2, 3, 1, 1] += 1 if codes[2, 3, 1, 1] < 0 else -1
    _set(proto, "w3_quantized", codes)
    assert "weight 'w3': 1 of 576 codes differ" in _check(proto).problems


@pytest.mark.parametrize(("name", "what"), [("w2", "weight 'w2': the scales differ"), ("r", "value 'r': the grid differs")])
def test_one_scale_changed_in_the_last_bit(name: str, what: str) -> None:
    proto = _altered()
    scale = _get(proto, f"{name}_scale")
    scale[(0,) * scale.ndim] = np.nextafter(scale[(0,) * scale.ndim], np.float32(9))
    _set(proto, f"{name}_scale", scale)
    assert any(problem.startswith(what) for problem in _check(proto).problems)


def test_activations_swapped() -> None:
    """Two branches of one shape and one grid: only the codes tell that each reads the other's value."""
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,3,9,9] x) => (float[N,8,9,9] y) {
            a = Conv(x, w1) r = Relu(a) b = Conv(x, w2) s = Relu(b)
            c = Conv<pads=[2,2,2,2]>(r, w3) d = Conv<pads=[2,2,2,2]>(s, w4) t = Add(c, d) y = Neg(t) }"""
    arrays = {"w1": _array(8, 3, 3, 3), "w2": _array(8, 3, 3, 3), "w3": _array(8, 8, 3, 3), "w4": _array(8, 8, 3, 3)}
    place_all = everywhere(4, 4, "x", "r", "s", "c", "d", "t")
    codes = quantised(model(text, **arrays), place_all, X).codes
    codes.activations["s"] = codes.activations["r"]
    case = quantised(model(text, **arrays), place_all, X, codes=codes)
    expected = case.simulate(X)
    assert _check(case.proto, expected, case).ok
    r, s = _node(case.proto, "r_DequantizeLinear"), _node(case.proto, "s_DequantizeLinear")
    r.input[0], s.input[0] = s.input[0], r.input[0]
    assert not _check(case.proto, expected, case).ok
    r.input[0], s.input[0] = s.input[0], r.input[0]
    first, second = _node(case.proto, "c_QuantizeLinear"), _node(case.proto, "d_QuantizeLinear")
    first.input[0], second.input[0] = second.input[0], first.input[0]
    assert not _check(case.proto, expected, case).ok


@pytest.mark.parametrize(("node", "index", "value"), [("Add", 1, "s_dequantized"), ("Conv", 0, "r_dequantized")])
def test_a_layer_that_reads_the_wrong_value(node: str, index: int, value: str) -> None:
    proto = _altered()
    layer = [n for n in proto.graph.node if n.op_type == node][-1]
    assert layer.input[index] != value
    layer.input[index] = value
    assert any("codes differ" in problem for problem in _check(proto).problems)


def test_table_that_names_the_wrong_codes() -> None:
    proto = _altered()
    entry = next(e for e in proto.metadata_props if e.key == "genie_onnx.activations")
    table = json.loads(entry.value)
    table["r"], table["s"] = table["s"], table["r"]
    entry.value = json.dumps(table)
    problems = _check(proto).problems
    assert any(p.startswith("value 'r': the grid differs") for p in problems)
    assert any(p.startswith("value 's'") and "codes differ" in p for p in problems)


def test_bias_off_by_a_part_of_a_step() -> None:
    proto = _altered()
    codes = _get(proto, "b2_quantized")
    step = CASE.codes.activations["s"].scale
    codes[3] += int(0.2 * step / _get(proto, "b2_scale")[3])
    _set(proto, "b2_quantized", codes)
    problems = _check(proto).problems
    assert any(p.startswith("value 's'") and "not by rounding alone" in p for p in problems)


def test_output_layer_with_a_wrong_bias() -> None:
    proto = _altered()
    codes = _get(proto, "b4_quantized")
    codes[0] += int(0.01 * np.abs(SIMULATED.outputs["y"]).max() / _get(proto, "b4_scale")[0])
    _set(proto, "b4_quantized", codes)
    (problem,) = _check(proto).problems
    assert problem.startswith("output 'y' is off by")


def test_narrower_clip() -> None:
    proto = _altered()
    _set(proto, "s_max", np.array(13, np.uint8))
    assert any(p.startswith("value 's'") for p in _check(proto).problems)


def test_a_flip_at_a_boundary_is_explained_and_counted() -> None:
    """One sample whose value lies on a tie: either code is right, and the flip is not held against the later layers."""
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,1,1,8] x) => (float[N,1,1,8] y) { a = Abs(x) b = Add(a, a) y = Neg(b) }"""
    feeds = {"x": np.full((1, 1, 1, 8), 1.5, np.float32)}
    case = quantised(model(text), everywhere(8, 8, "a", "b"), {"x": np.full((1, 1, 1, 8), 255, np.float32)})
    assert case.codes.activations["a"].scale == 1, "so that 1.5 is a tie, rounded to 2"
    true = case.simulate(feeds)
    a = true.activations["a"]
    flipped = QTensor(codes=np.where(np.arange(8) == 0, a.codes - 1, a.codes), qparams=a.qparams)

    def check(codes: QTensor) -> Parity:
        return check_parity(case.proto, feeds, {}, {"a": codes, "b": true.activations["b"]}, {}, case.reference(true))

    assert check(a).problems == ()
    assert next((v.name, v.flips, v.unexplained) for v in check(flipped).values) == ("a", 1, 0)
    two = QTensor(codes=np.where(np.arange(8) == 0, a.codes - 2, a.codes), qparams=a.qparams)
    assert next(v.unexplained for v in check(two).values) == 1


def test_weights_missing_on_either_side() -> None:
    weights = {name: q for name, q in CASE.codes.weights.items() if name != "w2"} | {"other": CASE.codes.weights["w2"]}
    problems = check_parity(CASE.proto, X, weights, {}, SIMULATED.outputs, CASE.reference(SIMULATED)).problems
    assert problems == ("weight 'other' is not quantised in the file", "weight 'w2' is not quantised in the simulation")


def test_file_of_another_program() -> None:
    proto = _altered()
    del proto.metadata_props[:]
    parity = _check(proto)
    with pytest.raises(ParityError, match="was not written by genie-onnx"):
        require_parity(parity)


def test_values_without_codes_are_judged_through_those_behind_them() -> None:
    some = {name: q for name, q in SIMULATED.activations.items() if name in ("x", "r", "u")}
    assert check_parity(CASE.proto, X, CASE.codes.weights, some, SIMULATED.outputs, CASE.reference(SIMULATED)).problems == ()


def test_error_names_three_findings_and_counts_the_rest() -> None:
    proto = _altered()
    for name in ("w1", "w2", "w3", "w4"):
        _set(proto, f"{name}_quantized", np.zeros_like(_get(proto, f"{name}_quantized")))
    with pytest.raises(ParityError, match=r"weight 'w1'.*weight 'w2'.*weight 'w3'.*and \d+ more"):
        require_parity(_check(proto))


def test_int8_codes_with_a_zero_point_break_parity() -> None:
    config = PlacementConfig(other_bits=7, first_last_bits=7)
    case = quantised(model(TEXT, **_weights()), lambda deploy: place(deploy, config), X, "tensorrt")
    simulated = case.simulate(X)
    grids = grid_problems(QdqFile(case.proto), simulated.activations)
    assert grids == []
    name = next(iter(simulated.activations))
    tensor = next(t for t in case.proto.graph.initializer if t.name == f"{name}_zero_point")
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(3, np.int8), tensor.name))
    assert any(f"value '{name}': the grid differs" in text for text in grid_problems(QdqFile(case.proto), simulated.activations))


def test_rounded_weights_are_compared_exactly() -> None:
    case = quantised(model(TEXT, **_weights()), everywhere(4, 4), X, "encodings")
    simulated = case.simulate(X)
    outputs, reference = simulated.outputs, case.reference(simulated)
    assert check_rounded_weights(case.proto, X, case.codes.weights, outputs, reference).ok
    tensor = next(t for t in case.proto.graph.initializer if t.name == "w2")
    changed = numpy_helper.to_array(tensor).copy()
    changed.flat[0] += 1e-6
    tensor.CopyFrom(numpy_helper.from_array(changed, "w2"))
    found = check_rounded_weights(case.proto, X, case.codes.weights, outputs, reference)
    assert found.problems == ("weight 'w2' is not what its codes stand for",)
    wrong = {name: y + 1 for name, y in outputs.items()}
    problems = check_rounded_weights(case.proto, X, case.codes.weights, wrong, reference).problems
    assert any("output 'y' is off" in text for text in problems)
