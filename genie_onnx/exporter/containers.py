"""How integer codes are stored: the ONNX type, the numbers in it, and their zero point there.

    value = scale * (codes - zero_point) = scale * (stored - stored_zero_point)

    weights  int8   INT8: codes - zero_point, stored zero point 0. Keeps the integer kernels of onnxruntime, OpenVINO and QNN,
                    which refuse or slow down on weights with a zero point.
             int4   weights of at most 4 bits as INT4 in the same form; where that does not fit -8..7, as UINT4 with
                    their zero point. Wider weights stay INT8. Needs opset 21.
    values   uint8  the codes and the zero point of the grid
             int8   codes - zero_point, stored zero point 0: what takes no zero points. 8-bit grids have to be symmetric.
             signed codes - 128 and zero point - 128, as INT8

Values are never stored in 4 bits: onnxruntime (1.19 to 1.31) does not load INT8 weights beside UINT4 values at its default
settings. Price of INT4: onnxruntime unpacks such weights on every run and computes in float (half the size, a third the speed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from genie_onnx.placement import Placement
from genie_onnx.qparams import QParams, QTensor
from genie_onnx.targets import Form

INT4_OPSET = 21  # the first with INT4/UINT4 in QuantizeLinear and DequantizeLinear


@dataclass(frozen=True, kw_only=True)
class Stored:
    """`data` in the type that goes into the file; `zero_point` of that type too, shaped like the scale ([] or [C])."""

    data: npt.NDArray[Any]
    zero_point: npt.NDArray[Any]


def store_weight(name: str, weight: QTensor, form: Form) -> Stored:
    """Return the codes of `weight` in their storage type.

    Raises ValueError for an 8-bit grid whose codes do not fit INT8 once centred (its zero point is not 128).
    """
    centred = weight.centred()
    no_zero_point = np.zeros(weight.qparams.scale.shape)
    if form.weights == "int4" and weight.qparams.bits <= 4:
        if _fits(centred, -8, 7):
            return Stored(data=centred.astype(ml_dtypes.int4), zero_point=no_zero_point.astype(ml_dtypes.int4))
        return Stored(data=weight.codes.astype(ml_dtypes.uint4), zero_point=weight.qparams.zero_point.astype(ml_dtypes.uint4))
    if not _fits(centred, -128, 127):
        raise ValueError(
            f"weight '{name}': codes minus zero point span {centred.min()}..{centred.max()}, which INT8 cannot hold; "
            "an 8-bit grid of weights must be symmetric (zero point 128)"
        )
    return Stored(data=centred.astype(np.int8), zero_point=no_zero_point.astype(np.int8))


@dataclass(frozen=True, kw_only=True)
class StoredGrid:
    """How codes of values are stored: `zero_point` (0-dim, of the stored type), and the largest range of that type."""

    zero_point: npt.NDArray[Any]
    offset: int  # stored = codes - offset

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest number of the type."""
        info = np.iinfo(self.zero_point.dtype)
        return int(info.min), int(info.max)


def store_grid(name: str, grid: QParams, form: Form) -> StoredGrid:
    """Return how the codes of value `name` on `grid` are stored.

    Raises ValueError for a grid that INT8 cannot hold without a zero point.
    """
    if form.values == "uint8":
        return StoredGrid(zero_point=grid.zero_point.astype(np.uint8), offset=0)
    if form.values == "signed":
        return StoredGrid(zero_point=(grid.zero_point - 128).astype(np.int8), offset=128)
    offset = int(grid.zero_point)
    if grid.qmax - offset > 127 or offset > 128:
        raise ValueError(
            f"value '{name}': codes minus zero point span {-offset}..{grid.qmax - offset}, which INT8 cannot hold; an 8-bit grid "
            "has to be symmetric (zero point 128)"
        )
    return StoredGrid(zero_point=np.zeros((), np.int8), offset=offset)


def store_bias(codes: npt.NDArray[np.int64], shape: tuple[int, ...]) -> Stored:
    """Return bias codes as INT32 with zero point 0 (the specification allows no other) for a scale of `shape`."""
    return Stored(data=codes.astype(np.int32), zero_point=np.zeros(shape, np.int32))


def needs_opset(placement: Placement, form: Form) -> int:
    """Return the opset that the types chosen by `store_weight` need (13: per-channel DequantizeLinear)."""
    return INT4_OPSET if form.weights == "int4" and any(w.bits <= 4 for w in placement.weights) else 13


def _fits(values: npt.NDArray[np.integer], low: int, high: int) -> bool:
    return bool(values.min(initial=0) >= low and values.max(initial=0) <= high)
