"""Conv, ConvTranspose, Gemm, MatMul: equal to onnxruntime, weights as arguments, tied weights one tensor."""

from __future__ import annotations

import pytest
import torch
from importer.against_onnxruntime import cases, check, network, parse

from genie_onnx.errors import ModelError
from genie_onnx.importer import Conv, ConvTranspose


@cases(
    {
        "plain": "(float[N,3,8,9] x) => (float y) <float[4,3,3,3] w> { y = Conv(x, w) }",
        "bias": "(float[N,3,8,9] x) => (float y) <float[4,3,3,3] w, float[4] b> { y = Conv<pads=[1,1,1,1]>(x, w, b) }",
        "stride": """(float[N,3,8,9] x) => (float y) <float[4,3,3,3] w, float[4] b>
            { y = Conv<pads=[1,2,1,2], strides=[2,3]>(x, w, b) }""",
        "dilation": "(float[N,3,9,9] x) => (float y) <float[4,3,3,3] w> { y = Conv<dilations=[2,3], pads=[2,3,2,3]>(x, w) }",
        "group2": "(float[N,4,8,9] x) => (float y) <float[6,2,3,3] w> { y = Conv<group=2>(x, w) }",
        "depthwise": """(float[N,4,8,9] x) => (float y) <float[8,1,3,3] w, float[8] b>
            { y = Conv<group=4, pads=[1,1,1,1]>(x, w, b) }""",
        "asymmetric": "(float[N,3,8,9] x) => (float y) <float[4,3,3,3] w> { y = Conv<pads=[0,1,2,3], strides=[2,2]>(x, w) }",
        "valid": '(float[N,3,8,9] x) => (float y) <float[4,3,3,3] w> { y = Conv<auto_pad="VALID">(x, w) }',
        "kernel_1d": "(float[N,3,9] x) => (float y) <float[4,3,3] w, float[4] b> { y = Conv<pads=[1,0], strides=[2]>(x, w, b) }",
        "kernel_3d": "(float[N,2,5,6,7] x) => (float y) <float[4,2,3,2,3] w> { y = Conv<pads=[1,0,1,0,1,1]>(x, w) }",
        "computed_weight": "(float[1,3,8,9] x, float[4,3,3,3] w) => (float y) { y = Conv(x, w) }",
    }
)
def test_conv(text: str, opset: int) -> None:
    check(text, opset)


@cases(
    {
        "plain": "(float[N,3,5,6] x) => (float y) <float[3,4,3,3] w> { y = ConvTranspose(x, w) }",
        "stride_bias": """(float[N,3,5,6] x) => (float y) <float[3,4,3,3] w, float[4] b>
            { y = ConvTranspose<strides=[2,3]>(x, w, b) }""",
        "pads": "(float[N,3,5,6] x) => (float y) <float[3,4,4,4] w> { y = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(x, w) }",
        "asymmetric": """(float[N,3,5,6] x) => (float y) <float[3,4,4,4] w>
            { y = ConvTranspose<strides=[2,2], pads=[0,1,2,1]>(x, w) }""",
        "output_padding": """(float[N,3,5,6] x) => (float y) <float[3,4,3,3] w>
            { y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,0]>(x, w) }""",
        "asymmetric_output_padding": """(float[N,3,5,6] x) => (float y) <float[3,4,3,3] w>
            { y = ConvTranspose<strides=[2,3], pads=[0,2,1,0], output_padding=[1,2]>(x, w) }""",
        "group2": "(float[N,4,5,6] x) => (float y) <float[4,3,3,3] w> { y = ConvTranspose<group=2, strides=[2,2]>(x, w) }",
        "dilation": "(float[N,3,5,6] x) => (float y) <float[3,4,3,3] w> { y = ConvTranspose<dilations=[2,1]>(x, w) }",
        "kernel_1d": "(float[N,3,5] x) => (float y) <float[3,4,3] w> { y = ConvTranspose<strides=[2], pads=[0,1]>(x, w) }",
        "kernel_3d": "(float[N,2,3,4,3] x) => (float y) <float[2,3,2,3,2] w> { y = ConvTranspose<strides=[2,1,2]>(x, w) }",
    }
)
def test_conv_transpose(text: str, opset: int) -> None:
    check(text, opset)


@cases(
    {
        "plain": "(float[N,5] x) => (float y) <float[5,4] w> { y = Gemm(x, w) }",
        "transposed": "(float[N,5] x) => (float y) <float[4,5] w, float[4] b> { y = Gemm<transB=1>(x, w, b) }",
        "both_transposed": "(float[5,N] x) => (float y) <float[4,5] w, float[4] b> { y = Gemm<transA=1, transB=1>(x, w, b) }",
        "scaled": "(float[N,5] x) => (float y) <float[5,4] w, float[1,4] b> { y = Gemm<alpha=0.5, beta=3.0>(x, w, b) }",
        "scaled_no_bias": "(float[N,5] x) => (float y) <float[5,4] w> { y = Gemm<alpha=0.5>(x, w) }",
        "scalar_bias": "(float[N,5] x) => (float y) <float[5,4] w, float b> { y = Gemm(x, w, b) }",
        "constant_left": "(float[5,N] x) => (float y) <float[3,5] w, float[3,1] b> { y = Gemm(w, x, b) }",
    }
)
def test_gemm(text: str, opset: int) -> None:
    check(text, opset)


@cases(
    {
        "matrix": "(float[N,5] x) => (float y) <float[5,4] w> { y = MatMul(x, w) }",
        "batched": "(float[N,3,5] x) => (float y) <float[5,4] w> { y = MatMul(x, w) }",
        "broadcast": "(float[N,1,2,5] a, float[3,5,4] b) => (float y) { y = MatMul(a, b) }",
        "vector": "(float[N,3,5] x) => (float y) <float[5] w> { y = MatMul(x, w) }",
        "constant_left": "(float[N,5,2] x) => (float y) <float[3,5] w> { y = MatMul(w, x) }",
    }
)
def test_matmul(text: str, opset: int) -> None:
    check(text, opset)


def test_strided_convolutions_can_be_found() -> None:
    text = """(float[N,3,8,8] x) => (float y) <float[4,3,3,3] w, float[4,4,3,3] v> {
        a = Conv<strides=[1,2], pads=[0,1,2,3]>(x, w)
        y = Conv(a, v) }"""
    modules = network(parse(text)).module.named_modules()
    strided = {name: module for name, module in modules if isinstance(module, Conv) and max(module.stride) > 1}
    assert list(strided) == ["n00000_Conv"]
    assert strided["n00000_Conv"].pads == ((0, 2), (1, 3))
    assert strided["n00000_Conv"].dilation == (1, 1)
    assert strided["n00000_Conv"].groups == 1


def test_weight_and_bias_are_arguments() -> None:
    text = "(float[N,3,8,8] x) => (float y) <float[4,3,3,3] w, float[4] b> { y = Conv(x, w, b) }"
    imported = network(parse(text))
    assert imported.nodes["y"].args == (imported.nodes["x"], imported.nodes["w"], imported.nodes["b"])
    assert not list(imported.module.get_submodule("n00000_Conv").parameters())


def test_a_weight_used_twice_is_one_frozen_parameter() -> None:
    text = "(float[N,4,8,8] x) => (float y) <float[4,4,1,1] w> { a = Conv(x, w)  b = ConvTranspose(a, w)  y = Conv(b, w) }"
    imported = network(parse(text))
    assert len(list(imported.module.parameters())) == 1
    assert not next(imported.module.parameters()).requires_grad
    assert [user.target for user in imported.nodes["w"].users] == ["n00000_Conv", "n00001_ConvTranspose", "n00002_Conv"]
    assert isinstance(imported.module.get_submodule("n00001_ConvTranspose"), ConvTranspose)

    # As an argument it reaches all three uses.
    free = imported.extract(["x", "w"], ["y"])
    x, w = torch.randn(1, 4, 8, 8), torch.eye(4).reshape(4, 4, 1, 1)
    torch.testing.assert_close(free({"x": x, "w": 2 * w})["y"], 8 * x)


def test_same_padding_without_a_known_size_is_refused() -> None:
    text = '(float[N,3,H,W] x) => (float y) <float[4,3,3,3] w> { y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w) }'
    with pytest.raises(ModelError, match="auto_pad=SAME_UPPER"):
        network(parse(text))
