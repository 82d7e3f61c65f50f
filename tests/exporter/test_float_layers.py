"""Layers that stay float between rounded values are computed in float by onnxruntime, at its default settings too."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from simulation import Case, model, quantised

from genie_onnx.config import PlacementConfig
from genie_onnx.placement import Placement, place
from genie_onnx.validate import check_parity

RNG = np.random.default_rng(3)
X = {"x": RNG.standard_normal((4, 3, 6, 6)).astype(np.float32)}

# `f` stays float between r, which `c` reads too, and its own result, which `d` reads: Q/DQ on both sides.
LAYERS = {
    "conv_without_bias": "f = Conv<pads=[1,1,1,1]>(r, wf)",
    "conv_with_bias": "f = Conv<pads=[1,1,1,1]>(r, wf, bf)",
    "conv_behind_relu": "n = Conv<pads=[1,1,1,1]>(r, wf, bf) f = Relu(n)",
    "conv_of_a_bias_read_twice": "f = Conv<pads=[1,1,1,1]>(r, wf, bf)",
    "grouped_transpose": "f = ConvTranspose<pads=[1,1,1,1], group=2>(r, wg, bf)",
}


def _array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _case(kind: str) -> Case:
    bias = ", bf" if kind == "conv_of_a_bias_read_twice" else ""
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,3,6,6] x) => (float[N,4,6,6] y) {{
            a = Conv<pads=[1,1,1,1]>(x, wa)
            r = Relu(a)
            {LAYERS[kind]}
            c = Conv<pads=[1,1,1,1]>(r, wc{bias})
            d = Conv<pads=[1,1,1,1]>(f, wd)
            s = Add(c, d)
            y = Conv(s, wy)
        }}"""
    arrays = {"wa": _array(4, 3, 3, 3), "wy": _array(4, 4, 1, 1), "wf": _array(4, 4, 3, 3), "wg": _array(4, 2, 3, 3)}
    arrays |= {"wc": _array(4, 4, 3, 3), "wd": _array(4, 4, 3, 3), "bf": 30 * _array(4)}
    used = {name: array for name, array in arrays.items() if f"{name})" in text or f"{name}," in text}
    proto = model(text, **used)
    for node in proto.graph.node:
        node.name = node.output[0]
    return quantised(proto, _place, X)


def _place(deploy: ir.Model) -> Placement:
    layer = next(
        str(n.name) for n in deploy.graph if n.inputs[1:] and n.inputs[1] is not None and n.inputs[1].name in ("wf", "wg")
    )
    return place(deploy, PlacementConfig(wbits=4, abits=4, keep_float=(layer,)))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_runtime_does_not_quantise_what_stays_float(kind: str) -> None:
    case = _case(kind)
    assert {"r", "f"} <= {v for spec in case.placement.activations for v in spec.values}
    simulated = case.simulate(X)
    parity = check_parity(case.proto, X, case.codes.weights, simulated.activations, simulated.outputs, case.reference(simulated))
    assert parity.problems == ()
    assert sum(v.flips for v in parity.values) == 0
    stored = {t.name: numpy_helper.to_array(t) for t in case.proto.graph.initializer}
    assert stored["wg" if kind == "grouped_transpose" else "wf"].dtype == np.float32


def test_a_bias_is_stored_as_the_same_numbers() -> None:
    case = _case("conv_with_bias")
    stored = {t.name: numpy_helper.to_array(t) for t in case.proto.graph.initializer}
    assert stored["bf_quantized"].dtype == np.int32
    assert "bf" not in stored
    (bias,) = (numpy_helper.to_array(t) for t in ir.to_proto(case.user).graph.initializer if t.name == "bf")
    np.testing.assert_array_equal(stored["bf_quantized"].astype(np.float32) * stored["bf_scale"], bias)


def test_a_matmul_with_its_bias_stays_float() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,8] x) => (float[N,8] y) {
            a = MatMul(x, wa)
            r = Relu(a)
            p = MatMul(r, wf)
            f = Add(p, bf)
            c = MatMul(r, wc)
            d = MatMul(f, wd)
            s = Add(c, d)
            y = MatMul(s, wy)
        }"""
    rows = {"x": _array(64, 8)}
    proto = model(text, **{name: _array(8, 8) for name in ("wa", "wf", "wc", "wd", "wy")}, bf=_array(8))
    for node in proto.graph.node:
        node.name = node.output[0]
    case = quantised(proto, lambda deploy: place(deploy, PlacementConfig(keep_float=("p",))), rows)
    simulated = case.simulate(rows)
    parity = check_parity(
        case.proto, rows, case.codes.weights, simulated.activations, simulated.outputs, case.reference(simulated)
    )
    assert parity.problems == ()
