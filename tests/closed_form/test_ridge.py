"""Few images call for a large ridge, many for a small one; the one that is chosen is the best on images held back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from rounding_problems import Problem, moments, problem

from genie_onnx.closed_form import RIDGES, Moments, Objective, Solution, best_ridge, solve
from genie_onnx.targets import Constraints


def rounded(found: Problem, train: Moments, ridge: float) -> Solution:
    return solve(found.weight, train, 4, Constraints(), ridge, 2)


def parts(found: Problem, columns: int) -> tuple[Moments, Moments]:
    """Moments of so many columns, and of a third as many held back."""
    held = columns // 3
    return moments(found.x[:, :columns], found.x_q[:, :columns]), moments(found.held[:, :held], found.held_q[:, :held])


@pytest.mark.parametrize("seed", range(3))
def test_fewer_columns_than_features_call_for_a_larger_ridge_than_many(seed: int) -> None:
    found = problem(seed, features=48, columns=6000, codes=7)
    few, many = (best_ridge(found.weight, *parts(found, columns), partial(rounded, found)) for columns in (45, 6000))
    assert few > many
    assert {few, many} <= set(RIDGES)


def test_it_is_the_best_on_what_was_held_back() -> None:
    found = problem(0, features=24, columns=300)
    train, held = parts(found, 120)
    chosen = best_ridge(found.weight, train, held, partial(rounded, found))
    judge = Objective(held.H, found.weight.double() @ held.G, held.split)
    errors = {ridge: float(judge(rounded(found, train, ridge).weights).sum()) for ridge in RIDGES}
    assert errors[chosen] == min(errors.values())
    assert len(set(errors.values())) == len(RIDGES)


def test_the_first_of_equals_is_chosen() -> None:
    found = problem(0)
    train, held = parts(found, 300)
    asked = []

    def alike(moments: Moments, ridge: float) -> Solution:
        assert moments is train
        asked.append(ridge)
        return rounded(found, train, 0.1)

    assert best_ridge(found.weight, train, held, alike, (0.3, 0.1, 0.2)) == 0.3
    assert asked == [0.3, 0.1, 0.2]
    assert best_ridge(found.weight, train, held, alike, (0.7,)) == 0.7


def test_weights_are_judged_without_a_ridge() -> None:
    """One whose rounded weights are far from w, but right for x_q, wins."""
    found = problem(0, features=12, columns=3000, codes=3)
    train, held = parts(found, 3000)
    zeros = torch.zeros(1, 8, 12)
    near = Solution(found.weight, torch.ones(1, 8), zeros[..., 0], zeros[..., 0])
    far = replace(near, codes=Objective(train.H, found.weight.double() @ train.G, train.split).optimum())
    assert best_ridge(found.weight, train, held, lambda _, ridge: far if ridge == 0.2 else near, (0.1, 0.2, 0.3)) == 0.2
