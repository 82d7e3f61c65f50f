"""The knapsack of bits: as good as trying everything, within its budget, and refused where nothing fits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from genie_onnx.bits.allocation import CELLS, allocate, monotone

WIDTHS = (2, 3, 4, 8)


def best_of_all(parameters: np.ndarray, damage: np.ndarray, budget: int) -> float:
    """The least damage of all 4^B choices within `budget`."""
    return min(
        sum(damage[b, k] for b, k in enumerate(picked))
        for picked in product(range(len(WIDTHS)), repeat=len(parameters))
        if sum(int(n) * WIDTHS[k] for n, k in zip(parameters, picked, strict=True)) <= budget
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("average", [2.0, 2.3, 3.5, 5.1, 8.0])
def test_as_good_as_trying_everything(seed: int, average: float) -> None:
    rng = np.random.default_rng(seed)
    parameters = rng.integers(1, 1000, 5)
    damage = np.sort(rng.random((5, 4)) * rng.random((5, 1)) ** 4, axis=1)[:, ::-1]
    budget = int(average * parameters.sum())
    chosen = allocate(parameters, damage, WIDTHS, budget)
    assert chosen is not None
    assert int(parameters @ chosen) <= budget
    reached = sum(damage[b, WIDTHS.index(int(w))] for b, w in enumerate(chosen))
    least = 2 * int(parameters.sum())
    tighter = least + int((budget - least) * (1 - 1 / CELLS))  # costs are rounded up to whole cells
    assert best_of_all(parameters, damage, budget) - 1e-12 <= reached <= best_of_all(parameters, damage, tighter) + 1e-12


def test_bits_go_where_they_buy_most() -> None:
    parameters = np.array([100, 100, 10_000])
    damage = np.array([[9.0, 1.0, 0.1, 0.0], [0.2, 0.1, 0.1, 0.0], [9.0, 1.0, 0.1, 0.0]])
    chosen = allocate(parameters, damage, WIDTHS, 10_200 * 2 + 700)
    assert chosen is not None
    assert chosen.tolist() == [8, 2, 2]  # the large block harms as much and costs a hundred times as much


def test_too_small_a_budget_is_refused_and_the_smallest_is_met() -> None:
    parameters, damage = np.array([10, 20]), np.ones((2, 4))
    assert allocate(parameters, damage, WIDTHS, 59) is None
    smallest = allocate(parameters, damage, WIDTHS, 60)
    assert smallest is not None
    assert smallest.tolist() == [2, 2]


def test_more_bits_than_all_at_the_widest_are_not_needed() -> None:
    chosen = allocate(np.array([10, 20]), np.array([[4.0, 3, 2, 1]] * 2), WIDTHS, 10**9)
    assert chosen is not None
    assert chosen.tolist() == [8, 8]


def test_noise_that_makes_more_bits_look_worse_is_no_damage() -> None:
    assert monotone(np.array([[3.0, 1.0, 2.0, 0.5]])).tolist() == [[3.0, 1.0, 1.0, 0.5]]


def test_hundreds_of_blocks() -> None:
    rng = np.random.default_rng(0)
    parameters = rng.integers(1, 100_000, 100)
    chosen = allocate(parameters, np.sort(rng.random((100, 4)), axis=1)[:, ::-1], WIDTHS, int(3.7 * parameters.sum()))
    assert chosen is not None
    assert 3.6 < (parameters @ chosen) / parameters.sum() <= 3.7
