"""Grids against the literal cases of the ONNX specification, and their invariants."""

from __future__ import annotations

import numpy as np
import pytest

from genie_onnx.qparams import QParams, QTensor, bias_codes, bias_scale, quantize

# Literal cases of onnx/backend/test/case/node/quantizelinear.py and dequantizelinear.py: scalar, and along axis 1.
ONNX_SCALAR = QParams(bits=8, scale=np.array(2, np.float32), zero_point=np.array(128))
ONNX_AXIS = QParams(bits=8, scale=np.float32([2, 4, 5]), zero_point=np.array([84, 24, 196]), axis=1)
ONNX_FLOATS = np.float32(
    [[[[-162, 10], [-100, 232], [-20, -50]], [[-76, 0], [0, 252], [32, -44]], [[245, -485], [-960, -270], [-375, -470]]]]
)
ONNX_CODES = np.array(
    [[[[3, 89], [34, 200], [74, 59]], [[5, 24], [24, 87], [32, 13]], [[245, 99], [4, 142], [121, 102]]]], dtype=np.uint8
)


def test_quantize_is_that_of_onnx() -> None:
    x = np.float32([0, 2, 3, 1000, -254, -1000])
    np.testing.assert_array_equal(quantize(x, ONNX_SCALAR).codes, [128, 129, 130, 255, 1, 0])
    np.testing.assert_array_equal(quantize(ONNX_FLOATS, ONNX_AXIS).codes, ONNX_CODES)


def test_dequantize_is_that_of_onnx() -> None:
    scalar = QTensor(codes=np.uint8([0, 3, 128, 255]), qparams=ONNX_SCALAR)
    np.testing.assert_array_equal(scalar.dequantize(), [-256, -250, 0, 254])
    np.testing.assert_array_equal(QTensor(codes=ONNX_CODES, qparams=ONNX_AXIS).dequantize(), ONNX_FLOATS)


def test_half_goes_to_even_and_codes_saturate() -> None:
    grid = QParams(bits=3, scale=np.array(1, np.float32), zero_point=np.array(2))
    x = np.float32([-9, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 99])
    np.testing.assert_array_equal(quantize(x, grid).codes, [0, 0, 0, 2, 2, 4, 4, 7])


def test_centred_codes_lie_along_the_axis() -> None:
    grid = QParams(bits=2, scale=np.float32([1, 10]), zero_point=np.array([1, 3]), axis=1)
    q = QTensor(codes=np.uint8([[0, 3], [3, 0]]), qparams=grid)
    np.testing.assert_array_equal(q.centred(), [[-1, 0], [2, -3]])
    np.testing.assert_array_equal(q.dequantize(), [[-1, 0], [2, -30]])


def test_bias_codes_round_half_to_even_or_overflow() -> None:
    scale = bias_scale(np.array(0.5, np.float32), np.float32([2, 4]))
    np.testing.assert_array_equal(scale, np.float32([1, 2]))
    np.testing.assert_array_equal(bias_codes(np.float32([2.5, -3.0]), scale), [2, -2])
    assert bias_codes(np.float32([0, 2**33]), scale) is None
    np.testing.assert_array_equal(bias_codes(np.float32([0, 2**31]), scale), [0, 2**30])


@pytest.mark.parametrize(
    ("bits", "scale", "zero_point", "axis", "message"),
    [
        (1, 1.0, 0, None, "bits must be 2..8"),
        (9, 1.0, 0, None, "bits must be 2..8"),
        (4, 0.0, 0, None, "above 0"),
        (4, np.inf, 0, None, "finite"),
        (4, 1.0, 16, None, "0..15"),
        (4, 1.0, -1, None, "0..15"),
        (4, 1.0, 0, 1, "do not fit axis 1"),
    ],
)
def test_impossible_grids_are_refused(bits: int, scale: float, zero_point: int, axis: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QParams(bits=bits, scale=np.array(scale, np.float32), zero_point=np.array(zero_point), axis=axis)


def test_codes_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.7"):
        QTensor(codes=np.uint8([8]), qparams=QParams(bits=3, scale=np.array(1, np.float32), zero_point=np.array(0)))
