"""Activations, arithmetic, comparison, logic and type changes against onnxruntime."""

from __future__ import annotations

import pytest
import torch
from importer.against_onnxruntime import LATEST, cases, check, network, parse

from genie_onnx.errors import ModelError


def _unary(call: str, shape: str = "N,3,4,5", name: str = "x") -> str:
    return f"(float[{shape}] {name}) => (float y) {{ y = {call} }}"


@cases(
    {
        "relu": _unary("Relu(x)"),
        "leaky_relu": _unary("LeakyRelu(x)"),
        "leaky_relu_alpha": _unary("LeakyRelu<alpha=0.3>(x)"),
        "elu": _unary("Elu<alpha=0.7>(x)"),
        "celu": _unary("Celu<alpha=0.7>(x)"),
        "selu": _unary("Selu(x)"),
        "selu_alpha_gamma": _unary("Selu<alpha=1.5, gamma=2.0>(x)"),
        "sigmoid": _unary("Sigmoid(x)"),
        "hard_sigmoid": _unary("HardSigmoid(x)"),
        "hard_sigmoid_alpha_beta": _unary("HardSigmoid<alpha=0.166667, beta=0.4>(x)"),
        "softplus": _unary("Softplus(x)"),
        "softsign": _unary("Softsign(x)"),
        "tanh": _unary("Tanh(x)"),
        "erf": _unary("Erf(x)"),
        "thresholded_relu": _unary("ThresholdedRelu<alpha=0.6>(x)"),
        "shrink": _unary("Shrink<lambd=0.5, bias=0.25>(x)"),
        "softmax": _unary("Softmax(x)"),
        "softmax_axis": _unary("Softmax<axis=1>(x)"),
        "log_softmax": _unary("LogSoftmax<axis=1>(x)"),
        "prelu_channel": "(float[N,3,4,5] x) => (float y) <float[3,1,1] s> { y = PRelu(x, s) }",
        "prelu_one": "(float[N,3,4,5] x) => (float y) <float[1] s> { y = PRelu(x, s) }",
        "prelu_row": "(float[N,3,4,5] x) => (float y) <float[5] s> { y = PRelu(x, s) }",
        "clip": "(float[N,9] x) => (float y) <float low = {-0.5}, float high = {0.75}> { y = Clip(x, low, high) }",
        "clip_low": "(float[N,9] x) => (float y) <float low = {-0.5}> { y = Clip(x, low) }",
        "clip_high": '(float[N,9] x) => (float y) <float high = {0.75}> { y = Clip(x, "", high) }',
        "clip_none": _unary("Clip(x)"),
        "clip_computed": "(float[N,9] x, float low, float high) => (float y) { y = Clip(x, low, high) }",
        "clip_crossed": "(float[N,9] x) => (float y) <float low = {0.75}, float high = {-0.5}> { y = Clip(x, low, high) }",
        "dropout": _unary("Dropout(x)"),
        "identity": _unary("Identity(x)"),
    }
)
def test_activation(text: str, opset: int) -> None:
    check(text, opset, gradient="low = {0.75}" not in text)  # crossed bounds give a constant


@cases({"hard_swish": _unary("HardSwish(x)")}, opsets=(14, LATEST))
def test_activation_since_14(text: str, opset: int) -> None:
    check(text, opset)


@cases({"mish": _unary("Mish(x)")}, opsets=(18, LATEST))
def test_activation_since_18(text: str, opset: int) -> None:
    check(text, opset)


@cases({"gelu": _unary("Gelu(x)"), "gelu_tanh": _unary('Gelu<approximate="tanh">(x)')}, opsets=(20, LATEST))
def test_activation_since_20(text: str, opset: int) -> None:
    check(text, opset)


def test_swish() -> None:
    """By its definition, x * sigmoid(alpha * x): onnxruntime 1.31 has no kernel of it."""
    x = torch.linspace(-4, 4, 9)
    y = network(parse("(float[9] x) => (float y) { y = Swish<alpha=1.5>(x) }", 24))({"x": x})["y"]
    torch.testing.assert_close(y, x / (1 + torch.exp(-1.5 * x)))


_POSITIVE = "positive"


@cases(
    {
        "abs": _unary("Abs(x)"),
        "neg": _unary("Neg(x)"),
        "exp": _unary("Exp(x)"),
        "log": _unary("Log(positive)", name=_POSITIVE),
        "sqrt": _unary("Sqrt(positive)", name=_POSITIVE),
        "reciprocal": _unary("Reciprocal(positive)", name=_POSITIVE),
        "sin": _unary("Sin(x)"),
        "cos": _unary("Cos(x)"),
        "sinh": _unary("Sinh(x)"),
        "cosh": _unary("Cosh(x)"),
        "asinh": _unary("Asinh(x)"),
        "tan": _unary("Tan(positive)", name=_POSITIVE),
        "atan": _unary("Atan(x)"),
        "add_bias": "(float[N,3,4] x) => (float y) <float[3,1] b> { y = Add(x, b) }",
        "sub_scalar_left": "(float[N,3,4] x) => (float y) <float b> { y = Sub(b, x) }",
        "mul": "(float[N,3,4] a, float[4] b) => (float y) { y = Mul(a, b) }",
        "div": "(float[N,3,4] a, float[N,1,4] positive) => (float y) { y = Div(a, positive) }",
        "pow_square": "(float[N,3,4] x) => (float y) <float e = {2}> { y = Pow(x, e) }",
        "pow_integer": "(float[N,3,4] x) => (float y) <int64 e = {3}> { y = Pow(x, e) }",
        "pow_half": "(float[N,3,4] positive) => (float y) <float e = {0.5}> { y = Pow(positive, e) }",
        "pow_tensor": "(float[N,3,4] positive) => (float y) <float[4] e> { y = Pow(positive, e) }",
        "max_three": "(float[N,3] a, float[N,3] b) => (float y) <float c = {0.1}> { y = Max(a, b, c) }",
        "min_one": _unary("Min(x)"),
        "sum_three": "(float[N,3] a, float[N,3] b) => (float y) <float[3] c> { y = Sum(a, b, c) }",
        "mean_three": "(float[N,3] a, float[N,3] b) => (float y) <float[3] c> { y = Mean(a, b, c) }",
        "where": "(bool[N,3] c, float[N,3] a) => (float y) <float b = {-1}> { y = Where(c, a, b) }",
        "einsum": '(float[N,3,4] a, float[N,4,2] b) => (float y) { y = Einsum<equation="nij,njk->nik">(a, b) }',
    }
)
def test_arithmetic(text: str, opset: int) -> None:
    check(text, opset)


@cases(
    {
        "floor": _unary("Floor(x)"),
        "ceil": _unary("Ceil(x)"),
        "sign": _unary("Sign(x)"),
        "round_half_to_even": """(float[N] x) => (float y) <float[6] h = {-2.5, -1.5, -0.5, 0.5, 1.5, 2.5}>
            { a = Round(h)  b = Round(x)  y = Concat<axis=0>(a, b) }""",
        "integer_division": "(int64[N,9] a) => (int64 y) <int64 b = {2}> { y = Div(a, b) }",
        "integer_power": "(int64[N,9] a) => (int64 y) <int64 b = {2}> { y = Pow(a, b) }",
        "mod": "(int64[N,9] a) => (int64 y) <int64 b = {3}> { y = Mod(a, b) }",
        "fmod": "(float[N,9] a) => (float y) <float b = {0.7}> { y = Mod<fmod=1>(a, b) }",
        "equal": "(int64[N,9] a, int64[N,9] b) => (bool y) { y = Equal(a, b) }",
        "less": "(float[N,9] a, float[9] b) => (bool y) { y = Less(a, b) }",
        "greater": "(float[N,9] a, float[9] b) => (bool y) { y = Greater(a, b) }",
        "less_or_equal": "(int64[N,9] a, int64[9] b) => (bool y) { y = LessOrEqual(a, b) }",
        "greater_or_equal": "(int64[N,9] a, int64[9] b) => (bool y) { y = GreaterOrEqual(a, b) }",
        "logic": "(bool[N,9] a, bool[9] b) => (bool y) { c = And(a, b)  d = Or(a, c)  e = Xor(d, b)  y = Not(e) }",
        "infinite": "(float[N,9] a) => (bool y) <float zero = {0}> { b = Div(a, zero)  y = IsInf<detect_negative=0>(b) }",
        "not_a_number": "(float[N,9] a) => (bool y) { b = Log(a)  y = IsNaN(b) }",
        "cast_to_integer": "(float[N,9] x) => (int64 y) { y = Cast<to=7>(x) }",
        "cast_to_bool": "(int64[N,9] x) => (bool y) { y = Cast<to=9>(x) }",
        "cast_to_double": "(float[N,9] x) => (double y) { y = Cast<to=11>(x) }",
    }
)
def test_without_gradient(text: str, opset: int) -> None:
    check(text, opset, gradient=False)


@cases({"like": "(float[N,9] x, int64[1] i) => (int64 y) { y = CastLike(x, i) }"}, opsets=(15, LATEST))
def test_cast_like(text: str, opset: int) -> None:
    check(text, opset, gradient=False)


@cases(
    {
        "batch": """(float[N,3,4,5] x) => (float y) <float[3] s, float[3] b, float[3] m, float[3] positive_v>
            { y = BatchNormalization<epsilon=0.001>(x, s, b, m, positive_v) }""",
        "batch_1d": """(float[N,3] x) => (float y) <float[3] s, float[3] b, float[3] m, float[3] positive_v>
            { y = BatchNormalization(x, s, b, m, positive_v) }""",
        "batch_3d": """(float[N,3,2,4,5] x) => (float y) <float[3] s, float[3] b, float[3] m, float[3] positive_v>
            { y = BatchNormalization(x, s, b, m, positive_v) }""",
        "instance": """(float[N,3,4,5] x) => (float y) <float[3] s, float[3] b>
            { y = InstanceNormalization<epsilon=0.01>(x, s, b) }""",
        "lrn_odd": _unary("LRN<size=3, alpha=0.5, beta=0.6, bias=1.5>(x)", shape="N,7,4,5"),
        "lp_1": _unary("LpNormalization<p=1, axis=1>(x)"),
        "lp_2": _unary("LpNormalization(x)"),
        "mean_variance": _unary("MeanVarianceNormalization(x)"),
    }
)
def test_normalisation(text: str, opset: int) -> None:
    check(text, opset, tolerance=5e-6)


@cases(
    {
        "layer": "(float[N,3,4,5] x) => (float y) <float[5] s, float[5] b> { y = LayerNormalization(x, s, b) }",
        "layer_axis": "(float[N,3,4,5] x) => (float y) <float[4,5] s> { y = LayerNormalization<axis=2, epsilon=0.01>(x, s) }",
    },
    opsets=(17, LATEST),
)
def test_layer_normalisation(text: str, opset: int) -> None:
    check(text, opset, tolerance=5e-6)


@cases(
    {"by_channel": "(float[N,6,4,5] x) => (float y) <float[6] s, float[6] b> { y = GroupNormalization<num_groups=3>(x, s, b) }"},
    opsets=(21, LATEST),
)
def test_group_normalisation(text: str, opset: int) -> None:
    check(text, opset, tolerance=5e-6)


@cases(
    {"by_group": "(float[N,6,4,5] x) => (float y) <float[3] s, float[3] b> { y = GroupNormalization<num_groups=3>(x, s, b) }"},
    opsets=(18,),
)
def test_group_normalisation_of_opset_18(text: str, opset: int) -> None:
    check(text, opset, tolerance=5e-6)


@cases({"rms": "(float[N,3,4,5] x) => (float y) <float[5] s> { y = RMSNormalization(x, s) }"}, opsets=(23, LATEST))
def test_rms_normalisation(text: str, opset: int) -> None:
    check(text, opset, tolerance=5e-6)


def test_normalising_one_pixel_gives_the_bias() -> None:
    text = "(float[N,3,1,1] x) => (float y) <float[3] s, float[3] b> { y = InstanceNormalization(x, s, b) }"
    # x - mean is a rounding error there, divided by sqrt(epsilon) = 0.003
    check(text, LATEST, tolerance=1e-4, gradient=False)


def test_even_lrn_is_refused_as_onnxruntime_does() -> None:
    with pytest.raises(ModelError, match="size=4"):
        network(parse(_unary("LRN<size=4>(x)")))


def test_training_mode_is_refused() -> None:
    text = """(float[N,3,4,5] x) => (float y) <float[3] s, float[3] b, float[3] m, float[3] v>
        { y, mean, var = BatchNormalization<training_mode=1>(x, s, b, m, v) }"""
    with pytest.raises(ModelError, match="training_mode=1"):
        network(parse(text))
