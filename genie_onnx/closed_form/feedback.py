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
    """Return codes - zero point, [g, R, n] like `target` w*; best for features in descending order of the diagonal of `A`.

    `A` [g, n, n]; `scale`, `low` and `high` (of codes - zero point) [g, R, 1]. float32 but for `A`.
    """
    unit = _unit_upper(A).to(target.dtype)
    codes, errors = torch.empty_like(target), torch.empty_like(target)
    for start in range(0, target.shape[2], BLOCK):
        block = slice(start, start + BLOCK)
        here = target[:, :, block]
        wanted = here + errors[:, :, :start] @ unit[:, :start, block]
        codes[:, :, block], errors[:, :, block] = kernels.feedback(wanted, here, unit[:, block, block], scale, low, high)
    return codes


def _unit_upper(A: Tensor) -> Tensor:
    """Return U of A = U D U'. The Cholesky factor of A with its features reversed is lower triangular: reversed again, upper."""
    upper = torch.linalg.cholesky(A.flip(1, 2)).flip(1, 2)
    return upper / upper.diagonal(dim1=1, dim2=2)[:, None, :]
