"""Moments are those of numpy, whatever the order and the parts in which columns come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_onnx.closed_form import Moments, Split, Sums, combined, objective

CPU = torch.device("cpu")


def columns(seed: int = 0, count: int = 60, groups: int = 2, features: int = 3) -> tuple[Tensor, Tensor]:
    """Correlated columns [g, M, n] about 1, and what a coarse grid leaves of them."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(groups, features, features, generator=generator)
    x = torch.randn(groups, count, features, generator=generator) @ mix + 1
    return x, (x * 2).round() / 2


def sums(x: Tensor, x_q: Tensor) -> Sums:
    found = Sums(x.shape[0], Split(x.shape[2]), CPU)
    found.add(x, x_q)
    return found


def assert_same(one: Moments, other: Moments, rtol: float = 1e-5) -> None:
    """Float32 products of about a hundred numbers in another order."""
    assert one.count == other.count
    for name in ("H", "G", "mean", "mean_q"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=rtol, atol=rtol, msg=name)


def test_they_are_the_covariances_of_numpy() -> None:
    x, x_q = columns()
    found = sums(x, x_q).moments()
    assert found.count == 60
    for group in range(2):
        joint = np.cov(x[group].double().T.numpy(), x_q[group].double().T.numpy(), bias=True)
        np.testing.assert_allclose(found.H[group], joint[3:, 3:], atol=1e-5)
        np.testing.assert_allclose(found.G[group], joint[:3, 3:], atol=1e-5)  # rows are x, columns x_q
        np.testing.assert_allclose(found.mean[group], x[group].mean(0), atol=1e-5)
        np.testing.assert_allclose(found.mean_q[group], x_q[group].mean(0), atol=1e-5)


def test_x_and_x_q_have_their_own_places() -> None:
    """G would be its transpose, and H the covariance of x, were they swapped."""
    x, x_q = columns()
    found, swapped = sums(x, x_q).moments(), sums(x_q, x).moments()
    torch.testing.assert_close(swapped.G, found.G.transpose(1, 2), rtol=1e-5, atol=1e-5)
    assert (found.G - found.G.transpose(1, 2)).abs().max() > 1e-2
    assert (swapped.H - found.H).abs().max() > 1e-2


def test_order_and_parts_do_not_matter() -> None:
    x, x_q = columns()
    whole = sums(x, x_q).moments()
    mixed = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert_same(sums(x[:, mixed], x_q[:, mixed]).moments(), whole)
    batches = Sums(2, Split(3), CPU)
    for start, stop in ((0, 1), (1, 40), (40, 60)):
        batches.add(x[:, start:stop], x_q[:, start:stop])
    assert_same(batches.moments(), whole)
    assert_same(combined([sums(x[:, :13], x_q[:, :13]), sums(x[:, 13:], x_q[:, 13:])]), whole)


def test_parts_of_several_processes_add_up() -> None:
    """As a team does: number by number."""
    x, x_q = columns()
    one, other = sums(x[:, :25], x_q[:, :25]), sums(x[:, 25:], x_q[:, 25:])
    for mine, theirs in zip(one.totals, other.totals, strict=True):
        mine += theirs
    assert_same(one.moments(), sums(x, x_q).moments())


def test_uncentred_moments_are_about_zero() -> None:
    x, x_q = columns()
    found = sums(x, x_q).moments().uncentred
    torch.testing.assert_close(found.H, (x_q.mT.double() @ x_q.double()) / 60, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.G, (x.mT.double() @ x_q.double()) / 60, rtol=1e-5, atol=1e-5)


def test_without_mismatch_the_float_network_reads_x_q() -> None:
    x, x_q = columns()
    assert_same(sums(x, x_q).moments().without_mismatch.with_means(x.mean(1), x_q.mean(1)), _alike(x, x_q))


def _alike(x: Tensor, x_q: Tensor) -> Moments:
    return sums(x_q, x_q).moments().with_means(x.mean(1), x_q.mean(1))


def test_a_large_mean_does_not_drown_the_variance() -> None:
    """With sums of squares in float32, a standard deviation of a thousandth of the mean would be lost to 1 part in 10."""
    x, _ = columns(features=4)
    x = 100 + 0.1 * x
    H = sums(x, x).moments().H
    for group in range(2):
        np.testing.assert_allclose(H[group], np.cov(x[group].double().T.numpy(), bias=True), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_an_input_that_never_varies_leaves_nearest_rounding(seed: int) -> None:
    """What rounding leaves of its covariance need not be positive definite: the objective is to be one all the same."""
    constant = torch.rand(1, 1, 50, generator=torch.Generator().manual_seed(seed)) + 3
    x = constant.expand(1, 3000, 50).contiguous()
    problem = objective(torch.ones(1, 2, 50), sums(x, x).moments(), 0.01)
    torch.testing.assert_close(problem.A[0], 0.01 * torch.eye(50, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(problem.optimum(), torch.ones(1, 2, 50, dtype=torch.float64), rtol=1e-6, atol=1e-6)
