"""The inner loops of feedback and descent over a block of features: compiled by numba on a CPU, where torch would need six
operators for each feature; by torch elsewhere. Both do the same float32 operations in the same order.

Blocks of b features, g groups of R rows. What features outside the block have to do with it is a matrix product of the caller.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genie_onnx.quant.kernels import compiled

Array = np.ndarray


def feedback(wanted: Tensor, target: Tensor, unit: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of `wanted` and the errors target - code * scale, float32 [g, R, b], one feature after the other.

    Each feature's error is added to those behind it, times `unit` [g, b, b]; `scale`, `low`, `high` [g, R, 1]. `wanted` may be
    written to.
    """
    block = feedback_compiled if wanted.device.type == "cpu" else feedback_in_torch
    return block(wanted, target, unit, scale, low, high)


def descent(slope: Tensor, A: Tensor, codes: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return `codes` [g, R, b] moved one after the other to where the error is least; all float32.

    `slope` [g, R, b] is u / s of the module descent, and may be written to; `A` [g, b, b]; `low`, `high` [g, R, 1].
    """
    block = descent_compiled if codes.device.type == "cpu" else descent_in_torch
    return block(slope, A, codes, low, high)


def feedback_compiled(
    wanted: Tensor, target: Tensor, unit: Tensor, scale: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """See feedback; on the CPU."""
    codes, errors = wanted.new_empty(wanted.shape), wanted.new_empty(wanted.shape)
    _feedback(*_arrays(wanted, target, unit, scale, low, high), codes.numpy(), errors.numpy())
    return codes, errors


def feedback_in_torch(
    wanted: Tensor, target: Tensor, unit: Tensor, scale: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """See feedback; on any device."""
    codes, errors = torch.empty_like(wanted), torch.empty_like(wanted)
    for k in range(wanted.shape[2]):
        here = slice(k, k + 1)
        codes[:, :, here] = (wanted[:, :, here] / scale).round_().clamp_(low, high)
        errors[:, :, here] = target[:, :, here] - codes[:, :, here] * scale
        wanted[:, :, k + 1 :] += errors[:, :, here] * unit[:, here, k + 1 :]
    return codes, errors


def descent_compiled(slope: Tensor, A: Tensor, codes: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """See descent; on the CPU."""
    moved = codes.clone(memory_format=torch.contiguous_format)
    slopes, A_, lows, highs = _arrays(slope, A, low, high)
    _descent(slopes, A_, moved.numpy(), lows, highs)
    return moved


def descent_in_torch(slope: Tensor, A: Tensor, codes: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """See descent; on any device."""
    moved, diagonal = codes.clone(), A.diagonal(dim1=1, dim2=2)[:, None, :]
    for k in range(codes.shape[2]):
        here = slice(k, k + 1)
        new = (moved[:, :, here] + slope[:, :, here] / diagonal[:, :, here]).round_().clamp_(low, high)
        slope -= (new - moved[:, :, here]) * A[:, here]
        moved[:, :, here] = new
    return moved


def _arrays(*tensors: Tensor) -> list[Array]:
    """Return C-contiguous arrays: for each layout that it meets, numba would compile a loop of its own."""
    return [tensor.contiguous().numpy() for tensor in tensors]


@compiled
def _feedback(
    wanted: Array, target: Array, unit: Array, scale: Array, low: Array, high: Array, codes: Array, errors: Array
) -> None:
    groups, rows, features = wanted.shape
    for g in range(groups):
        for r in range(rows):
            s, lowest, highest = scale[g, r, 0], low[g, r, 0], high[g, r, 0]
            row = wanted[g, r]
            for k in range(features):
                code = min(max(np.rint(row[k] / s), lowest), highest)
                error = target[g, r, k] - code * s
                codes[g, r, k] = code
                errors[g, r, k] = error
                beside = unit[g, k]
                for j in range(k + 1, features):
                    row[j] += error * beside[j]


@compiled
def _descent(slope: Array, A: Array, codes: Array, low: Array, high: Array) -> None:
    groups, rows, features = codes.shape
    for g in range(groups):
        for r in range(rows):
            lowest, highest = low[g, r, 0], high[g, r, 0]
            row, own = slope[g, r], codes[g, r]
            for k in range(features):
                new = min(max(np.rint(own[k] + row[k] / A[g, k, k]), lowest), highest)
                step = new - own[k]
                if step != 0:
                    own[k] = new
                    beside = A[g, k]
                    for j in range(features):
                        row[j] -= step * beside[j]
