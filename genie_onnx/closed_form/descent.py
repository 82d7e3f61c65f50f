"""Coordinate descent on integer codes: one code at a time takes the value that is best while all others stay.

    E(s q) = s^2 q A q' - 2 s T q'        u = T - s q A,   q_j <- clip(round(q_j + u_j / (s A_jj)))
    s      <- T q' / (q A q')             after each sweep, where the scale is free

Every move lowers E or leaves it (QuantEase, Behdin et al. 2023); one that moves neither codes nor
scale ends it. Rows are solved side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genie_onnx.closed_form import kernels
from genie_onnx.closed_form.feedback import BLOCK

FARTHEST = 2.0  # a refitted scale stays within this factor of the searched one, so that INT32 biases and codes keep their range


def descend(A: Tensor, T: Tensor, codes: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return `codes` - zero point, [g, R, n], after one sweep over their features.

    `A` [g, n, n], `T` [g, R, n]; `scale`, `low`, `high` [g, R, 1]. All of one floating type.
    """
    codes = codes.clone()
    slope = T / scale - codes @ A  # u / s
    for start in range(0, codes.shape[2], BLOCK):
        block, behind = slice(start, start + BLOCK), slice(start + BLOCK, None)
        before = codes[:, :, block]
        moved = kernels.descent(slope[:, :, block], A[:, block, block], before, low, high)
        slope[:, :, behind] -= (moved - before) @ A[:, block, behind]
        codes[:, :, block] = moved
    return codes


def refitted(A: Tensor, T: Tensor, codes: Tensor, scale: Tensor, searched: Tensor, together: bool) -> Tensor:
    """Return the best scales [g, R, 1] of `codes` [g p, R, m] within FARTHEST of the `searched` ones.

    Rows whose codes are all 0 have any, and keep that of `scale`. `together`: all rows have one scale.
    """
    best = (T * codes).sum(2, keepdim=True)
    power = ((codes @ A) * codes).sum(2, keepdim=True)
    best, power = (part.unflatten(0, (len(scale), -1)).sum(1) for part in (best, power))  # a row's parts share its scale
    if together:
        best, power = best.sum().expand_as(best), power.sum().expand_as(power)
    # E is a parabola of s: where its least point is out of bounds, the nearer bound is the best within
    found = torch.clamp(best / power, searched / FARTHEST, searched * FARTHEST)
    return torch.where(power > 0, found, scale)
