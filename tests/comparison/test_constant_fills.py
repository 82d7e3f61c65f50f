"""Constants that stand among the numbers of a value, and the layers behind."""

from __future__ import annotations

from onnx_models import parse

from genie_onnx import graph
from genie_onnx.comparison.constant_fills import ConstantFill, constant_fills


def test_a_pad_behind_which_a_pool_and_a_convolution_lie() -> None:
    model = parse(
        """net (float[N, 2, 4, 4] x, float[2, 2, 1, 1] w) => (float[N, 2, 2, 2] y, float[N, 2, 4, 4] z)
        <int64[8] pads = {0, 0, 0, 0, 0, 0, 1, 1}, float fill = {-50}, float[1] shift = {0.5}> {
            p = Pad(x, pads, fill)
            m = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (p)
            y = Conv(m, w)
            z = Mul(x, shift)
        }"""
    )
    (found,) = constant_fills(graph.check(graph.load(model)))
    assert found == ConstantFill(value="p", node=found.node, operator="Pad", number=-50.0, layers=(found.layers[0],))
    assert len(found.layers) == 1


def test_a_mask_has_its_two_ends() -> None:
    model = parse(
        """net (float[N, 3, 1, 1] x) => (float[N, 3, 1, 1] y) <float[1, 3, 1, 1] mask = {0, -9, -4}> { y = Add(x, mask) }""",
    )
    assert [fill.number for fill in constant_fills(graph.check(graph.load(model)))] == [-9.0, 0.0]
