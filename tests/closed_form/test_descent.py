"""Every sweep of descent, and every refitted scale, lowers the objective."""

from __future__ import annotations

import itertools

import pytest
import torch
from rounding_problems import problem
from torch import Tensor

from genie_onnx.closed_form import Objective, kernels, objective
from genie_onnx.closed_form.descent import FARTHEST, descend, refitted

BITS = 3
LOW, HIGH = -4.0, 3.0


def rounded(seed: int, features: int = 24) -> tuple[Objective, Tensor, Tensor, Tensor, Tensor]:
    """A problem, nearest codes, their scale and bounds."""
    found = problem(seed, groups=2, rows=5, features=features)
    scale = found.weight.abs().amax(2, keepdim=True) / 4
    codes = (found.weight / scale).round().clamp(LOW, HIGH)
    return objective(found.weight, found.moments, 0.05), codes, scale, torch.full_like(scale, LOW), torch.full_like(scale, HIGH)


@pytest.mark.parametrize("features", [24, 150], ids=["one block", "two blocks"])
def test_sweeps_and_scales_lower_the_error_of_every_row(features: int) -> None:
    at, codes, scale, low, high = rounded(1, features)
    A, T, searched = at.A.float(), at.T.float(), scale
    errors = [at(codes * scale)]
    for _ in range(3):
        codes = descend(A, T, codes, scale, low, high)
        errors.append(at(codes * scale))
        scale = refitted(A, T, codes, scale, searched, False)
        errors.append(at(codes * scale))
        assert codes.min() >= LOW
        assert codes.max() <= HIGH
    slack = 1e-6 * errors[0].abs().max()  # float32 products decide
    assert all((after <= before + slack).all() for before, after in itertools.pairwise(errors))
    assert (errors[1] < errors[0]).all()


def test_no_single_code_can_be_better_after_descent() -> None:
    at, codes, scale, low, high = rounded(2, features=7)
    A, T = at.A.float(), at.T.float()
    for _ in range(30):
        codes = descend(A, T, codes, scale, low, high)
    least = at(codes * scale)
    for j in range(7):
        for code in range(int(LOW), int(HIGH) + 1):
            other = codes.clone()
            other[:, :, j] = code
            assert (at(other * scale) >= least - 1e-6 * least.abs()).all()


def test_both_loops_give_the_same_codes() -> None:
    at, codes, scale, low, high = rounded(3)
    A, slope = at.A.float(), at.T.float() / scale - codes @ at.A.float()
    one, other = (loop(slope.clone(), A, codes, low, high) for loop in (kernels.descent_compiled, kernels.descent_in_torch))
    assert torch.equal(one, other)
    assert not torch.equal(one, codes)


def test_inputs_are_left_alone() -> None:
    at, codes, scale, low, high = rounded(4)
    A, T = at.A.float(), at.T.float()
    before = [x.clone() for x in (A, T, codes, scale)]
    descend(A, T, codes, scale, low, high)
    assert all(torch.equal(x, y) for x, y in zip(before, (A, T, codes, scale), strict=True))


def test_a_refitted_scale_is_the_best_of_all_near_the_searched_one() -> None:
    at, codes, scale, _, _ = rounded(5)
    A, T = at.A.float(), at.T.float()
    codes[0, 0] = 0  # any scale is as good
    codes[0, 1] *= -1  # the best would be negative
    codes[0, 2] *= 100  # the best would be too small
    found = refitted(A, T, codes, scale * 1.5, scale, False)
    assert found[0, 0] == scale[0, 0] * 1.5
    assert found[0, 1] == scale[0, 1] / FARTHEST
    assert found[0, 2] == scale[0, 2] / FARTHEST
    least = at(codes * found)
    for factor in (0.5, 0.7, 0.99, 1.01, 1.5, 2.0):
        assert (at(codes * scale * factor) >= least - 1e-6 * least.abs()).all()


def test_one_scale_for_all_rows_is_the_best_for_all_together() -> None:
    at, codes, scale, _, _ = rounded(6)
    scale = scale.mean().expand_as(scale)
    found = refitted(at.A.float(), at.T.float(), codes, scale, scale, True)
    assert found.unique().numel() == 1
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert at(codes * found * factor).sum() > at(codes * found).sum()
