"""Integer grids: what a scale, a zero point and integer codes mean.

One form serves weights and activations, signed and unsigned (ONNX QuantizeLinear / DequantizeLinear, opset 13):

    codes = clip(round_half_even(x / scale) + zero_point, 0, 2^bits - 1)
    x_q   = scale * (codes - zero_point)

A tensor without negative values has zero_point 0, a symmetric signed one zero_point 2^(bits-1). How the codes are
*stored* (INT8, UINT8, INT4, shifted by the zero point) is the exporter's business and does not change these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.uint8]

BIAS_CODE_LIMIT = 2**31 - 1  # biases are INT32 in every QDQ dialect


@dataclass(frozen=True, kw_only=True)
class QParams:
    """A grid of 2^bits points.

    Invariants: `scale` is float32, finite and > 0; `zero_point` is int64 in [0, 2^bits - 1]; both have the same
    shape, [] (per tensor, `axis` None) or [C] (per channel along `axis`); bits in 2..8.
    """

    bits: int
    scale: FloatArray
    zero_point: IntArray
    axis: int | None = None

    def __post_init__(self) -> None:
        rank = 0 if self.axis is None else 1
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits must be 2..8, not {self.bits}")
        if self.scale.dtype != np.float32 or self.scale.ndim != rank or self.zero_point.shape != self.scale.shape:
            raise ValueError(
                f"scale {self.scale.dtype}{self.scale.shape} and zero point {self.zero_point.shape} do not fit axis {self.axis}"
            )
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValueError("every scale must be finite and above 0")
        if self.zero_point.min() < 0 or self.zero_point.max() > self.qmax:
            raise ValueError(f"zero points must lie in 0..{self.qmax}")

    @property
    def qmax(self) -> int:
        """The largest code, 2^bits - 1."""
        return int(2**self.bits - 1)

    def along(self, rank: int) -> tuple[FloatArray, IntArray]:
        """Return scale and zero point shaped to broadcast against a tensor of `rank` dimensions."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


@dataclass(frozen=True, kw_only=True)
class QTensor:
    """Integer codes on a grid: value = scale * (codes - zero_point). Codes are uint8 in [0, 2^bits - 1].

    A weight may have 10^8 of them: they are kept, and computed with, in the smallest type that holds them.
    """

    codes: CodeArray
    qparams: QParams

    def __post_init__(self) -> None:
        if self.codes.dtype != np.uint8 or self.codes.max(initial=0) > self.qparams.qmax:
            raise ValueError(f"codes must be uint8 in 0..{self.qparams.qmax}")

    @staticmethod
    def from_centred(centred: npt.NDArray[np.integer], qparams: QParams) -> QTensor:
        """Undo `centred`. Raises ValueError where a code is off the grid."""
        codes = np.add(centred, qparams.along(centred.ndim)[1], dtype=np.int16, casting="same_kind")
        if codes.min(initial=0) < 0 or codes.max(initial=0) > qparams.qmax:
            raise ValueError(f"codes must lie in 0..{qparams.qmax}")
        return QTensor(codes=codes.astype(np.uint8), qparams=qparams)

    def centred(self) -> npt.NDArray[np.int16]:
        """Return codes - zero_point: what is stored where the container has no zero point."""
        return np.subtract(self.codes, self.qparams.along(self.codes.ndim)[1], dtype=np.int16, casting="same_kind")

    def dequantize(self) -> FloatArray:
        """Return the float32 values the codes stand for (ONNX DequantizeLinear)."""
        scale, zero_point = self.qparams.along(self.codes.ndim)
        values = np.subtract(self.codes, zero_point, dtype=np.float32, casting="same_kind")  # exact: both are below 2^24
        return np.multiply(values, scale, out=np.asarray(values))


def quantize(x: FloatArray, qparams: QParams) -> QTensor:
    """Round `x` to the nearest point of the grid (ONNX QuantizeLinear: half to even, saturating). Raises ValueError for NaN."""
    if np.isnan(x).any():
        raise ValueError("NaN is on no grid")
    scale, zero_point = qparams.along(x.ndim)
    codes = np.clip(np.rint(x / scale) + zero_point, 0, qparams.qmax).astype(np.uint8)
    return QTensor(codes=codes, qparams=qparams)


def bias_scale(input_scale: FloatArray, weight_scale: FloatArray) -> FloatArray:
    """Return the scale of an INT32 bias, s_x * s_w in float32, shape [] or [C] like `weight_scale`."""
    return np.asarray(np.float32(input_scale) * weight_scale.astype(np.float32), dtype=np.float32)


def bias_codes(bias: FloatArray, scale: FloatArray) -> IntArray | None:
    """Return the INT32 codes of `bias` [C] at `scale` ([] or [C]), or None where one would overflow.

    Simulation and export both call this, so that an overflowing bias stays float in both.
    """
    codes = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    return None if np.abs(codes).max(initial=0) > BIAS_CODE_LIMIT else codes.astype(np.int64)
