"""Intervals and tests against numbers from the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genie_onnx.validate.statistics import Figure, mcnemar, mean, paired_means, paired_shares, wilson


@pytest.mark.parametrize(
    ("hits", "samples", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_of_newcombe(hits: int, samples: int, low: float, high: float) -> None:
    """Newcombe 1998, Stat. Med. 17:857, Table I, method 3."""
    found = wilson(hits, samples)
    assert found.value == hits / samples
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_wilson_is_symmetric_and_stays_within_0_and_1() -> None:
    none, all_ = wilson(0, 20), wilson(20, 20)
    assert (none.low, all_.high) == (0, 1)
    assert 1 - all_.low == pytest.approx(none.high)


def pair(both: int, only_other: int, only_first: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return hits of the first and of the other model with these counts."""
    counts = (both, only_other, only_first, neither)
    return np.repeat([True, False, True, False], counts), np.repeat([True, True, False, False], counts)


@pytest.mark.parametrize(
    ("table", "low", "high", "digits"),
    [
        ((14, 5, 0, 22), 0.011, 0.226, 3),  # Altman et al. 2000, Statistics with Confidence, Table 6.2
        ((36, 12, 2, 0), 0.0569, 0.3404, 4),  # Newcombe 1998, Stat. Med. 17:2635, Table II, method 10
        ((1, 1, 7, 12), -0.507, -0.026, 3),  # Fagerland et al. 2014, Stat. Med. 33:2850, airway hyper-responsiveness
    ],
)
def test_paired_differences_of_newcombe(table: tuple[int, int, int, int], low: float, high: float, digits: int) -> None:
    first, other = pair(*table)
    found = paired_shares(first, other)
    assert (round(found.low, digits), round(found.high, digits)) == (low, high)
    assert (found.won, found.lost) == table[1:3]
    turned = paired_shares(other, first)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_exact_mcnemar() -> None:
    assert mcnemar(1, 7) == mcnemar(7, 1) == pytest.approx(0.0703, abs=5e-5)  # Fagerland et al. 2013, BMC 13:91, Table 4
    assert mcnemar(0, 5) == 2 / 2**5
    assert mcnemar(4, 4) == mcnemar(0, 0) == 1
    normal = math.erfc((200 / math.sqrt(20200)) / math.sqrt(2))
    assert mcnemar(10000, 10200) == pytest.approx(normal, rel=0.02)  # neither overflow nor underflow


def test_equal_models_differ_by_nothing() -> None:
    hits = np.array([True, False] * 50)
    found = paired_shares(hits, hits)
    assert (found.value, found.p_value) == (0, 1)
    assert -found.low == pytest.approx(found.high)
    assert found.high < 0.03  # independent samples would have 0.14


def test_means() -> None:
    found = mean(np.array([1.0, 2.0, 3.0, np.nan]))
    assert (found.value, found.high - found.value) == pytest.approx((2, 1.959964 / math.sqrt(3)))
    assert mean(np.array([4.0])).low is None
    assert mean(np.array([4.0, np.inf, 5.0])) == Figure(value=math.inf)
    assert math.isnan(paired_means(np.array([np.inf, np.inf]), np.array([np.inf, np.inf])).value)
    assert math.isnan(mean(np.array([np.nan])).value)
    first, other = np.array([1.0, 5.0, np.nan, 2.0]), np.array([2.0, 7.0, 1.0, 5.0])
    found = paired_means(first, other)
    assert (found.value, found.high - found.value) == pytest.approx((2, 1.959964 / math.sqrt(3)))
