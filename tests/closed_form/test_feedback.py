"""Feedback is GPTQ, and its two loops are one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rounding_problems import problem

from genie_onnx.closed_form import kernels, objective
from genie_onnx.closed_form.feedback import round_with_feedback


def gptq(weight: np.ndarray, hessian: np.ndarray, scale: np.ndarray, low: float, high: float) -> np.ndarray:
    """Algorithm 1 of Frantar et al. (ICLR 2023) with blocks of one column: by the Cholesky factor of the inverse."""
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    W, codes = weight.copy(), np.empty_like(weight)
    for j in range(W.shape[1]):
        codes[:, j] = np.clip(np.rint(W[:, j] / scale), low, high)
        error = (W[:, j] - codes[:, j] * scale) / upper[j, j]
        W[:, j:] -= np.outer(error, upper[j, j:])
    return codes


@pytest.mark.parametrize("features", [3, 24, 150], ids=["few", "one block", "two blocks"])
@pytest.mark.parametrize("bits", [2, 4])
def test_it_is_gptq_code_for_code(features: int, bits: int) -> None:
    found = problem(seed=features + bits, groups=2, rows=5, features=features)
    A = objective(found.weight, found.moments, 0.05).A
    scale = found.weight.abs().amax(2, keepdim=True) / 2 ** (bits - 1)
    low, high = (torch.full_like(scale, bound) for bound in (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1))
    codes = round_with_feedback(found.weight, A, scale, low, high)
    for g in range(2):
        rows = (found.weight[g].double().numpy(), A[g].numpy(), scale[g, :, 0].double().numpy(), low[0, 0, 0].item())
        assert np.array_equal(codes[g].numpy(), gptq(*rows, high[0, 0, 0].item()))


def test_both_loops_give_the_same_codes() -> None:
    """The compiled one, and the one in torch for other devices; also for operands that are not contiguous."""
    found = problem(seed=0, groups=2, rows=6, features=40)
    unit = torch.linalg.cholesky(objective(found.weight, found.moments, 0.1).A).mT.float()
    scale = found.weight.abs().amax(2, keepdim=True) / 4
    low, high = torch.full_like(scale, -4), torch.full_like(scale, 3)
    for wanted in (found.weight + 0.1, found.weight.mT.contiguous().mT):
        loops = (kernels.feedback_compiled, kernels.feedback_in_torch)
        (codes, errors), (others, other_errors) = (f(wanted.clone(), found.weight, unit, scale, low, high) for f in loops)
        assert torch.equal(codes, others)
        assert torch.equal(errors, other_errors)
        assert errors.abs().max() > scale.max()  # some are clipped: bounds count
