"""Outputs behind functions that saturate: no alarm for another library's last bits, an alarm for every mistake all the same."""

from __future__ import annotations

from collections.abc import Callable
from math import erfc

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from simulation import Case, Simulated, everywhere, model, quantised

from genie_onnx.qparams import quantize
from genie_onnx.validate import Parity, check_parity, check_rounded_weights

RNG = np.random.default_rng(11)
X = {"x": RNG.standard_normal((4, 3, 8, 8)).astype(np.float32)}
W = {
    "w1": (RNG.standard_normal((8, 3, 3, 3)) / 5).astype(np.float32),
    "w2": (RNG.standard_normal((4, 8, 3, 3)) / 20).astype(np.float32),
}


def _sigmoid(c: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-c))


def _softmax(c: np.ndarray) -> np.ndarray:
    e = np.exp(c - c.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


TAILS: dict[str, tuple[str, float, Callable[[np.ndarray], np.ndarray]]] = {
    # name -> operators behind the last layer c, its bias, what they are in double precision
    "sigmoid_at_0": ("y = Sigmoid(c)", -12, _sigmoid),
    "sigmoid_at_1": ("y = Sigmoid(c)", 12, _sigmoid),
    "all_but_0": ("y = Sigmoid(c)", -16, _sigmoid),
    "scaled": ("s = Sigmoid(c) k = Constant<value = float {2000.0}>() y = Mul(s, k)", -13, lambda c: 2000 * _sigmoid(c)),
    "cancelled": ("s = Sigmoid(c) k = Constant<value = float {1.0}>() y = Sub(k, s)", 13, lambda c: _sigmoid(-c)),
    "log_sigmoid": ("s = Sigmoid(c) y = Log(s)", -14, lambda c: np.log(_sigmoid(c))),
    "tanh": ("t = Tanh(c) k = Constant<value = float {1.0}>() y = Add(t, k)", -8, lambda c: 2 * _sigmoid(2 * c)),
    "softplus": ("y = Softplus(c)", -15, lambda c: np.log1p(np.exp(c))),
    "exp": ("y = Exp(c)", -30, np.exp),
    "erf": ("t = Erf(c) k = Constant<value = float {1.0}>() y = Add(t, k)", -4, lambda c: np.vectorize(erfc)(-c)),
    "hard_sigmoid": ("y = HardSigmoid<alpha = 0.16666667, beta = 0.5>(c)", -3.0, lambda c: np.clip(c / 6 + 0.5, 0, 1)),
    "reciprocal": ("s = Sigmoid(c) y = Reciprocal(s)", -15, lambda c: 1 + np.exp(-c)),
    "softmax": ("y = Softmax<axis = 1>(c)", -12, _softmax),
}


def _net(tail: str, bias: float) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,8,8] x) => (float[N,4,8,8] y) {{
            a = Conv<pads=[1,1,1,1]>(x, w1) r = Relu(a) c = Conv<pads=[1,1,1,1]>(r, w2, b2) {tail} }}"""
    spread = np.array([0, -1, 0, -3], np.float32)  # so that a Softmax has probabilities near 0
    return model(text, **W, b2=bias + spread)


def _case(tail: str, bias: float, *rounded: str, target: str = "portable") -> Case:
    return quantised(_net(tail, bias), everywhere(8, 8, *(() if target == "encodings" else ("x", "r", *rounded))), X, target)


def _by_another_library(case: Case, function: Callable[[np.ndarray], np.ndarray], *rounded: str) -> Simulated:
    """The simulation, but its functions computed in double precision: `y`, and the values `rounded` of it."""
    found = case.simulate(X)
    y = function(found.values["c"].astype(np.float64)).astype(np.float32)
    codes = {name: quantize(y, case.codes.activations[name]) for name in rounded}
    return Simulated(
        activations={**found.activations, **codes}, outputs={"y": y}, values={**found.values, "y": y} | dict.fromkeys(rounded, y)
    )


def _check(case: Case, simulated: Simulated, proto: onnx.ModelProto | None = None) -> Parity:
    return check_parity(
        proto or case.proto, X, case.codes.weights, simulated.activations, simulated.outputs, case.reference(simulated)
    )


def _altered(case: Case, name: str, change: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(array.copy()).astype(array.dtype), name))
    return proto


@pytest.mark.parametrize("tail", TAILS)
def test_no_alarm(tail: str) -> None:
    text, bias, function = TAILS[tail]
    case = _case(text, bias)
    parity = _check(case, _by_another_library(case, function))
    assert parity.problems == ()
    assert [head.name for head in parity.heads] == ["c"]


def test_the_cases_are_such_that_outputs_differ() -> None:
    """Else nothing of the above would be seen."""
    differing = []
    for tail, (text, bias, function) in TAILS.items():
        case = _case(text, bias)
        differing += [tail] if _check(case, _by_another_library(case, function)).outputs[0].arithmetic else []
    assert {"sigmoid_at_0", "all_but_0", "log_sigmoid", "reciprocal", "tanh"} <= set(differing)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("mistake", ["bias", "channels", "one_bias", "input_scale"])
def test_a_mistake_in_the_last_layer_is_seen(tail: str, mistake: str) -> None:
    """However little of it is left in the output: at 12, a Sigmoid has 1 with or without it."""
    text, bias, function = TAILS[tail]
    case = _case(text, bias)
    simulated = _by_another_library(case, function)
    name, change = {
        "bias": ("b2_quantized", lambda a: a * 1.005),
        "channels": ("b2_quantized", lambda a: a[::-1]),
        "one_bias": ("b2_quantized", lambda a: a * np.array([1, 1.01, 1, 1])),
        "input_scale": ("r_scale", lambda a: a * 1.02),
    }[mistake]
    parity = _check(case, simulated, _altered(case, name, change))
    assert not parity.ok


@pytest.mark.parametrize("tail", ["scaled", "cancelled", "tanh", "erf"])
def test_a_mistake_behind_the_function_is_seen(tail: str) -> None:
    text, bias, function = TAILS[tail]
    case = _case(text, bias)
    simulated = _by_another_library(case, function)
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    last = proto.graph.node[-1]
    name = next(i for i in last.input if any(t.name == i for t in proto.graph.initializer))
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * 1.01).astype(np.float32), name))
    assert any(p.startswith("output 'y' is off") for p in _check(case, simulated, proto).problems)


def test_another_function_is_seen() -> None:
    """Of numbers that are all below 1e-4."""
    case = _case("y = Sigmoid(c)", -12)
    simulated = _by_another_library(case, _sigmoid)
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    proto.graph.node[-1].op_type = "Exp"
    assert _check(case, simulated, proto).ok, "the same to a part in 10,000 here"
    proto.graph.node[-1].op_type = "Tanh"
    assert any(p.startswith("output 'y' is off") for p in _check(case, simulated, proto).problems)


def test_codes_of_a_saturated_gate() -> None:
    """A Sigmoid that is rounded: its codes stand for 1e-7 each, and two libraries differ by some."""
    text = "s = Sigmoid(c) n = Neg(s) y = Identity(n)"
    case = quantised(_net(text, -12), everywhere(8, 8, "x", "r", "s"), X)
    found = case.simulate(X)
    s = _sigmoid(found.values["c"].astype(np.float64)).astype(np.float32)
    codes = quantize(s, case.codes.activations["s"])
    differing = int((codes.codes != found.activations["s"].codes).sum())
    assert differing > 0.1 * codes.codes.size, "else this is no test"
    simulated = Simulated(
        activations={**found.activations, "s": codes}, outputs={"y": -codes.dequantize()}, values={**found.values, "s": s}
    )
    parity = _check(case, simulated)
    assert parity.problems == ()
    assert next(v.arithmetic for v in parity.values if v.name == "s") > 0
    assert not _check(case, simulated, _altered(case, "b2_quantized", lambda a: a * 1.005)).ok
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    next(node for node in proto.graph.node if node.op_type == "Sigmoid").op_type = "Tanh"
    assert any(p.startswith("value 's'") for p in _check(case, simulated, proto).problems)


@pytest.mark.parametrize("tail", ["sigmoid_at_0", "log_sigmoid", "softmax"])
def test_rounded_weights_alone(tail: str) -> None:
    text, bias, function = TAILS[tail]
    case = _case(text, bias, target="encodings")
    simulated = _by_another_library(case, function)

    def problems(proto: onnx.ModelProto) -> tuple[str, ...]:
        found = check_rounded_weights(proto, X, case.codes.weights, simulated.outputs, case.reference(simulated))
        return found.problems

    assert problems(case.proto) == ()
    assert problems(_altered(case, "b2", lambda a: a * 1.01)) != ()
