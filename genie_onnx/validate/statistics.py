"""How sure one can be of a share, and of the difference of two models on the same samples: counts in, intervals of 95 % out.

share k of n            Wilson's score interval                          (Wilson 1927)
difference of shares    Newcombe's method 10 for paired proportions      (Newcombe 1998, Stat. Med. 17:2635)
is there one            McNemar's test, exact: two tails of Binomial(b + c, 1/2)
mean of numbers         mean +- z s / sqrt(n)                            (numbers of any kind; n large)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Z = NormalDist().inv_cdf(0.975)  # of an interval that holds the truth 95 times in 100


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured number with its 95 % confidence interval; None twice where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class PairedDifference(Figure):
    """Of a model less the first one on the same samples. For shares, `won` and `lost` count the samples that only one has right.

    `p_value`: how likely so unequal counts are (or more so) where the models are equally good; None for numbers.
    """

    p_value: float | None = None
    won: int | None = None
    lost: int | None = None


def wilson(hits: int, samples: int) -> Figure:
    """Return the share `hits` of `samples` (at least 1)."""
    p, n, z2 = hits / samples, samples, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Figure(value=p, low=max(0.0, centre - half), high=min(1.0, centre + half))


def mcnemar(won: int, lost: int) -> float:
    """Return the probability that of won + lost fair coins as many or more show one side."""
    tosses = won + lost
    ways = total = 1
    for k in range(min(won, lost)):
        ways = ways * (tosses - k) // (k + 1)
        total += ways
    return min(1.0, 2 * total / 2**tosses)


def paired_shares(first: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> PairedDifference:
    """Return the share of hits in `other` less that in `first`, both [n] on the same samples."""
    n = len(first)
    both, won, lost = int((first & other).sum()), int((other & ~first).sum()), int((first & ~other).sum())
    neither = n - both - won - lost
    theirs, ours = wilson(both + won, n), wilson(both + lost, n)
    phi = _correlation(both, won, lost, neither)
    difference = (won - lost) / n
    return PairedDifference(
        value=difference,
        low=difference - _hypotenuse(_below(theirs), _above(ours), phi),
        high=difference + _hypotenuse(_above(theirs), _below(ours), phi),
        p_value=mcnemar(won, lost),
        won=won,
        lost=lost,
    )


def mean(numbers: npt.NDArray[np.floating]) -> Figure:
    """Return the mean of `numbers` [n], those that are not NaN; an infinite one (a PSNR of equal images) has no interval."""
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return Figure(value=math.nan)
    value = float(known.mean())
    if len(known) < 2 or not math.isfinite(value):
        return Figure(value=value)
    half = Z * float(known.std(ddof=1)) / math.sqrt(len(known))
    return Figure(value=value, low=value - half, high=value + half)


def paired_means(first: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> PairedDifference:
    """Return the mean of `other` less `first`, both [n] on the same samples, over those where neither is NaN."""
    with np.errstate(invalid="ignore"):  # infinite in both: NaN
        found = mean(other - first)
    return PairedDifference(value=found.value, low=found.low, high=found.high)


def _correlation(both: int, won: int, lost: int, neither: int) -> float:
    """Return phi with Newcombe's correction for positive correlation, 0 where a margin of the table is empty."""
    margins = (both + won) * (lost + neither) * (both + lost) * (won + neither)
    if not margins:
        return 0.0
    excess: float = both * neither - won * lost
    if excess > 0:
        excess = max(excess - (both + won + lost + neither) / 2, 0.0)
    return excess / math.sqrt(margins)


def _hypotenuse(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def _below(share: Figure) -> float:
    assert share.low is not None
    return share.value - share.low


def _above(share: Figure) -> float:
    assert share.high is not None
    return share.high - share.value
