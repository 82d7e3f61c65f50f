"""Rounding with error feedback: each weight makes good for the rounding of those before it.

    A = U D U',   U unit upper triangular       E(w_q) - E(w*) = |(w* - w_q) U D^1/2|^2
    q_k = round(w*_k + sum_{i<k} (w*_i - q_i) U_ik)

which is GPTQ (Frantar et al., ICLR 2023) in the form of QuIP (Chee et al., NeurIPS 2023, Theorem 6): one factorisation of A, no
inverse. The features with the largest A_kk come first, when nothing has to be made good yet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genie_onnx.closed_form import kernels

BLOCK = 128  # features between two matrix products: within, each is a product of a column and a row


def round_with_feedback(target: Tensor, A: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return codes - zero point, [g, R, n] like `target` w*, for features in descending order of the diagonal of `A`.

    `A` [g, n, n]; `scale`, `low` and `high` (of codes - zero point) [g, R, 1]. float32 but for `A`.
    """
    unit = _unit_upper(A).to(target.dtype)
    scale, low, high = (part.contiguous() for part in (scale, low, high))
    codes, errors = torch.empty_like(target), torch.empty_like(target)
    count = target.shape[2]
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        wanted = target[:, :, start:stop] + errors[:, :, :start] @ unit[:, :start, start:stop]
        if target.device.type == "cpu":
            here, beside = target[:, :, start:stop].contiguous(), unit[:, start:stop, start:stop].contiguous()
            made = torch.empty_like(here), torch.empty_like(here)
            kernels.feedback(*(x.numpy() for x in (wanted, here, beside, scale, low, high, *made)))
            codes[:, :, start:stop], errors[:, :, start:stop] = made
            continue
        for k in range(start, stop):
            here = wanted[:, :, k - start : k - start + 1]
            code = (here / scale).round_().clamp_(low, high)
            codes[:, :, k : k + 1] = code
            error = target[:, :, k : k + 1] - code * scale
            errors[:, :, k : k + 1] = error
            wanted[:, :, k - start + 1 :] += error * unit[:, k : k + 1, k + 1 : stop]
    return codes


def _unit_upper(A: Tensor) -> Tensor:
    """Return U of A = U D U'. The Cholesky factor of A with its features reversed is lower triangular: reversed again, upper."""
    upper = torch.linalg.cholesky(A.flip(1, 2)).flip(1, 2)
    return upper / upper.diagonal(dim1=1, dim2=2)[:, None, :]
