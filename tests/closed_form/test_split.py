"""Features in parts: the same where parts have nothing to do with each other, never worse than the nearest, and within bounds."""

from __future__ import annotations

import pytest
import torch
from rounding_problems import Problem, moments, problem
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from genie_onnx.closed_form import Split, Sums, bias_shift, combined, kernels, nearest_solution, objective, solve, split
from genie_onnx.quant import ranges
from genie_onnx.targets import Constraints

ANY = Constraints()
TENSOR = Constraints(weight_scale="tensor")
POWERS = Constraints(scales="power-of-two")
RIDGE = 0.03


@pytest.mark.parametrize(("features", "parts"), [(12, 1), (12, 3), (13, 3), (5, 4), (7, 7)])
def test_what_is_taken_apart_comes_back(features: int, parts: int) -> None:
    rows, at = torch.randn(2, 3, features), Split(features, parts)
    apart = at.apart(rows)
    assert apart.shape == (2 * parts, 3, at.size)
    assert torch.equal(at.joined(apart), rows)
    assert torch.equal(apart[0, 1], rows[0, 1, : at.size])
    torch.testing.assert_close(at.summed(at.shared(rows)), parts * rows)
    torch.testing.assert_close(at.summed(apart.sum(2)), rows.sum(2))


@pytest.mark.parametrize(
    ("features", "groups", "elements", "parts"), [(100, 1, 10_000, 1), (100, 1, 9_999, 2), (100, 4, 10_000, 4), (100, 1, 3, 100)]
)
def test_there_are_as_few_parts_as_the_bound_allows(features: int, groups: int, elements: int, parts: int) -> None:
    assert split(features, groups, elements) == Split(features, parts)


def test_the_zeros_that_fill_up_count() -> None:
    for elements in range(20, 400):
        found = split(19, 1, elements)
        assert found.count * found.size**2 <= elements
        assert found.count == 1 or (found.count - 1) * Split(19, found.count - 1).size ** 2 > elements


def test_moments_in_parts_are_blocks_of_the_whole() -> None:
    """Also about zero, where features do not divide by the parts, and out of several sums."""
    found = problem(0, groups=2, features=11)
    whole, parts = (moments(found.x, found.x_q, count) for count in (1, 3))
    assert parts.split == Split(11, 3)
    for one, other in ((whole, parts), (whole.uncentred, parts.uncentred)):
        for dense, blocks in ((one.H, other.H), (one.G, other.G)):
            for k, block in enumerate(blocks):
                start = 4 * (k % 3)
                inside = dense[k // 3, start : start + 4, start : start + 4]
                size = len(inside)
                torch.testing.assert_close(block[:size, :size], inside, rtol=1e-5, atol=1e-5)
                assert not block[size:].any()
                assert not block[:, size:].any()
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.mean_q, whole.mean_q)


def unrelated(seed: int, count: int = 3) -> Problem:
    """The true covariance is block diagonal: each 8 features have causes of their own, and the moments will know."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]).float()[:count]
    base = torch.randn(count, 500, 8, generator=generator) @ torch.randn(count, 8, 8, generator=generator)
    # every combination of signs: what belongs to different parts is exactly uncorrelated on these columns
    x = torch.cat([(signs[k][:, None, None] * base[k][None]).flatten(0, 1) for k in range(count)], 1)[None]
    weight = torch.randn(1, 6, 8 * count, generator=generator)
    x_q = (x * 2).round() / 2
    return Problem(weight, x, x_q, x, x_q)


@pytest.mark.parametrize("constraints", [ANY, TENSOR, POWERS], ids=["any", "per tensor", "power of two"])
@pytest.mark.parametrize("bits", [2, 4])
def test_it_is_the_dense_solution_where_parts_have_nothing_to_do_with_each_other(bits: int, constraints: Constraints) -> None:
    """With the same scale for the whole row, and the same order within a part: feedback across parts passes nothing on."""
    for seed in range(3):
        found = unrelated(seed)
        dense, apart = (solve(found.weight, moments(found.x, found.x_q, parts), bits, constraints, RIDGE, 8) for parts in (1, 3))
        assert (dense.codes != apart.codes).float().mean() < 0.01  # sums in another order
        torch.testing.assert_close(dense.scale, apart.scale, rtol=1e-2, atol=0)
        torch.testing.assert_close(dense.error, apart.error, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("constraints", [ANY, TENSOR, POWERS], ids=["any", "per tensor", "power of two"])
@pytest.mark.parametrize("parts", [2, 7])
def test_it_is_never_worse_than_the_nearest_codes(parts: int, constraints: Constraints) -> None:
    found = problem(parts, groups=2, features=90, columns=400)
    at = moments(found.x, found.x_q, parts)
    start = nearest_solution(found.weight, at, 3, constraints, RIDGE)
    best = solve(found.weight, at, 3, constraints, RIDGE, 4)
    assert best.codes.shape == found.weight.shape
    assert best.scale.shape == best.error.shape == found.weight.shape[:2]
    slack = 1e-6 * start.error.abs()
    if constraints is TENSOR:
        assert best.scale.unique().numel() == 1
        assert best.error.sum() <= start.error.sum() + slack.sum()
    else:
        assert (best.error <= start.error + slack).all()
    exact = objective(found.weight, at, RIDGE)
    torch.testing.assert_close(best.error, exact(at.split.apart(best.weights)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_parts_are_between_the_nearest_and_the_whole_on_columns_not_seen(bits: int) -> None:
    losses = torch.zeros(3)
    for seed in range(3):
        found = problem(seed, features=96, columns=4000)
        for k, parts in enumerate((1, 4)):
            losses[k] += found.loss(solve(found.weight, moments(found.x, found.x_q, parts), bits, ANY, RIDGE, 4).weights)
        losses[2] += found.loss(nearest_solution(found.weight, found.moments, bits, ANY, RIDGE).weights)
    whole, parts_, nearest = losses.tolist()
    assert whole < parts_ < 0.9 * nearest


@pytest.mark.parametrize("together", [False, True], ids=["each row's", "all rows'"])
def test_a_row_has_the_best_scale_for_all_of_its_parts(together: bool) -> None:
    found = problem(1, features=70)
    at = moments(found.x, found.x_q, 3)
    best = solve(found.weight, at, 3, TENSOR if together else ANY, RIDGE, 8)
    exact = objective(found.weight, at, RIDGE)
    for factor in (0.99, 1.01):
        more = exact(at.split.apart(best.weights * factor)) - exact(at.split.apart(best.weights))
        assert more.sum() > 0 if together else (more > 0).all()


def test_parts_of_single_features_leave_little_but_the_scale() -> None:
    """Each weight is rounded by itself, to where it makes good for the mismatch of its own input."""
    found = problem(2, features=70)
    at = moments(found.x, found.x, 70)
    best = solve(found.weight, at, 4, ANY, RIDGE, 0)
    start = nearest_solution(found.weight, at, 4, ANY, RIDGE)
    assert torch.equal(best.codes, start.codes)
    assert best.scale.shape == (1, 8)


class Largest(TorchDispatchMode):
    """The most numbers that any tensor had that was made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """See torch."""
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.untyped_storage().nbytes() // one.element_size())
        return made


def test_no_tensor_is_larger_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """160 features: the whole would take 25,600 numbers a matrix."""
    monkeypatch.setattr(ranges, "SEARCHED", 1)  # the search of a grid has a bound of its own, much larger than this one
    bound, rows = 4_000, 12
    found = problem(0, features=160, rows=rows, columns=20)
    parts = split(160, 1, bound)
    with Largest() as largest:
        folds = [moments(x, x_q, parts.count) for x, x_q in ((found.x, found.x_q), (found.held, found.held_q))]
        best = solve(found.weight, folds[0].uncentred, 3, ANY, RIDGE, 3)
        nearest_solution(found.weight, folds[0], 3, ANY, RIDGE)
        bias_shift(found.weight, best.weights, folds[1])
    assert parts.size**2 <= largest.elements <= bound
    with Largest() as largest:
        solve(found.weight, moments(found.x, found.x_q), 3, ANY, RIDGE, 3)
    assert largest.elements >= 160**2


def test_loops_in_torch_give_the_same_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problem(0, features=150)
    at = moments(found.x, found.x_q, 4)
    expected = solve(found.weight, at, 3, ANY, RIDGE, 3)
    monkeypatch.setattr(kernels, "feedback", kernels.feedback_in_torch)
    monkeypatch.setattr(kernels, "descent", kernels.descent_in_torch)
    assert torch.equal(solve(found.weight, at, 3, ANY, RIDGE, 3).codes, expected.codes)


def test_dead_features_and_the_zeros_that_fill_up_do_no_harm() -> None:
    found = problem(0, features=13)
    dead = found.x.clone()
    dead[:, :, 8:] = 0
    best = solve(found.weight, moments(dead, dead, 3), 4, ANY, RIDGE, 4)
    assert best.codes.shape == (1, 8, 13)
    codes = (found.weight / best.scale[..., None]).round().clamp(-best.zero_point[..., None], 15 - best.zero_point[..., None])
    assert torch.equal(best.codes[:, :, 8:].float(), codes[:, :, 8:])  # nothing pulls them away from the nearest


def test_combined_sums_are_those_of_all_columns() -> None:
    found = problem(0, features=10)
    folds = [Sums(1, Split(10, 3), found.x.device) for _ in range(2)]
    folds[0].add(found.x[:, :500], found.x_q[:, :500])
    folds[1].add(found.x[:, 500:], found.x_q[:, 500:])
    together, whole = combined(folds), moments(found.x, found.x_q, 3)
    torch.testing.assert_close(together.H, whole.H, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.G, whole.G, rtol=1e-5, atol=1e-5)
