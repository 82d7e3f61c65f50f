"""How integer codes are stored: the ONNX type, the numbers in it, and their zero point there.

    value = scale * (codes - zero_point) = scale * (stored - stored_zero_point)

    portable   INT8: codes - zero_point, stored zero point 0. Keeps the integer kernels of onnxruntime, OpenVINO and QNN,
               which refuse or slow down on weights with a zero point.
    int4       weights of at most 4 bits as INT4 in the same form; where that does not fit -8..7, as UINT4 with
               their zero point. Wider weights stay INT8. Needs opset 21. Activations are UINT8 in either container:
               onnxruntime (1.19 to 1.31) does not load INT8 weights beside UINT4 activations at its default settings.

Price of int4: onnxruntime unpacks such weights on every run and computes in float (half the size, a third of the speed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from genie_onnx.config import Container
from genie_onnx.placement import Placement
from genie_onnx.qparams import QTensor

INT4_OPSET = 21  # the first with INT4/UINT4 in QuantizeLinear and DequantizeLinear


@dataclass(frozen=True, kw_only=True)
class Stored:
    """`data` in the type that goes into the file; `zero_point` of that type too, shaped like the scale ([] or [C])."""

    data: npt.NDArray[Any]
    zero_point: npt.NDArray[Any]


def store_weight(name: str, weight: QTensor, container: Container) -> Stored:
    """Return the codes of `weight` in their storage type.

    Raises ValueError for an 8-bit grid whose codes do not fit INT8 once centred (its zero point is not 128).
    """
    centred = weight.centred()
    no_zero_point = np.zeros(weight.qparams.scale.shape)
    if container == "int4" and weight.qparams.bits <= 4:
        if _fits(centred, -8, 7):
            return Stored(data=centred.astype(ml_dtypes.int4), zero_point=no_zero_point.astype(ml_dtypes.int4))
        return Stored(data=weight.codes.astype(ml_dtypes.uint4), zero_point=weight.qparams.zero_point.astype(ml_dtypes.uint4))
    if not _fits(centred, -128, 127):
        raise ValueError(
            f"weight '{name}': codes minus zero point span {centred.min()}..{centred.max()}, which INT8 cannot hold; "
            "an 8-bit grid of weights must be symmetric (zero point 128)"
        )
    return Stored(data=centred.astype(np.int8), zero_point=no_zero_point.astype(np.int8))


def store_bias(codes: npt.NDArray[np.int64], shape: tuple[int, ...]) -> Stored:
    """Return bias codes as INT32 with zero point 0 (the specification allows no other) for a scale of `shape`."""
    return Stored(data=codes.astype(np.int32), zero_point=np.zeros(shape, np.int32))


def needs_opset(placement: Placement, container: Container) -> int:
    """Return the opset that the types chosen by `store_weight` need (13: per-channel DequantizeLinear)."""
    return INT4_OPSET if container == "int4" and any(w.bits <= 4 for w in placement.weights) else 13


def _fits(values: npt.NDArray[np.integer], low: int, high: int) -> bool:
    return bool(values.min(initial=0) >= low and values.max(initial=0) <= high)
