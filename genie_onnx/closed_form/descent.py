"""Coordinate descent on integer codes: one code at a time takes the value that is best while all others stay.

    E(s q) = s^2 q A q' - 2 s T q'        u = T - s q A,   q_j <- clip(round(q_j + u_j / (s A_jj)))
    s      <- T q' / (q A q')             after each sweep, where the scale is free

Every move lowers E or leaves it (QuantEase, Behdin et al. 2023); a sweep that moves nothing ends it. Rows are solved side by side.
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
    codes, low, high = codes.clone(), low.contiguous(), high.contiguous()
    slope = T / scale - codes @ A  # u / s
    diagonal = A.diagonal(dim1=1, dim2=2)
    count = codes.shape[2]
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        here, before = slope[:, :, start:stop].contiguous(), codes[:, :, start:stop].clone()
        if codes.device.type == "cpu":
            moved = before.contiguous()
            before = moved.clone()
            kernels.descent(*(x.numpy() for x in (here, A[:, start:stop, start:stop].contiguous(), moved, low, high)))
            codes[:, :, start:stop] = moved
            slope[:, :, stop:] -= (moved - before) @ A[:, start:stop, stop:]
            continue
        for k in range(start, stop):
            j = k - start
            old = codes[:, :, k : k + 1]
            new = (old + here[:, :, j : j + 1] / diagonal[:, None, k : k + 1]).round_().clamp_(low, high)
            here -= (new - old) * A[:, k : k + 1, start:stop]
            codes[:, :, k : k + 1] = new
        moved = codes[:, :, start:stop] - before
        slope[:, :, stop:] -= moved @ A[:, start:stop, stop:]
    return codes


def refitted(A: Tensor, T: Tensor, codes: Tensor, scale: Tensor, together: bool) -> Tensor:
    """Return the best scales [g, R, 1] of `codes` [g, R, n]; those of `scale` where that is not within FARTHEST of them.

    `together`: all rows have one scale.
    """
    best = (T * codes).sum(2, keepdim=True)
    power = ((codes @ A) * codes).sum(2, keepdim=True)
    if together:
        best, power = best.sum().expand_as(best), power.sum().expand_as(power)
    found = best / power
    usable = (power > 0) & (found > scale / FARTHEST) & (found < scale * FARTHEST)
    return torch.where(usable, found, scale)
