"""How many bits each block gets: the least damage that a budget of bits buys.

    minimise  sum_b damage[b, w_b]    subject to  sum_b parameters[b] w_b <= budget,    w_b one of a few widths

A multiple-choice knapsack, solved by dynamic programming over the budget in CELLS equal parts a block: exact but for costs being
rounded up to whole parts. That damages add up is an assumption, and the usual one (BRECQ, section 3.4; ZeroQ, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

CELLS = 512  # for each block: rounding up wastes less than one cell of each, so at most 1 / CELLS of the budget


def allocate(
    parameters: npt.NDArray[np.int64], damage: npt.NDArray[np.float64], widths: Sequence[int], budget: int
) -> npt.NDArray[np.int64] | None:
    """Return the bits of each block, int64 [B]; None where even the smallest widths exceed the budget.

    Args:
        parameters: weights of each block, int64 [B], at least 1.
        damage: what each block does to the outputs at each width, float64 [B, W], finite, at least 0, in any unit that adds up.
        widths: bits, ascending, [W].
        budget: bits of all weights together.
    """
    least = int(parameters.sum()) * widths[0]
    room = budget - least
    if room < 0:
        return None
    if budget >= int(parameters.sum()) * widths[-1]:
        return np.full(len(parameters), widths[-1], np.int64)
    cells = CELLS * len(parameters)
    harm = monotone(damage)
    more = parameters[:, None] * (np.asarray(widths) - widths[0])[None]  # bits beyond the smallest width
    costs = -(-more * cells // room) if room else np.where(more > 0, cells + 1, 0)
    best = np.zeros(cells + 1)  # the least damage of the blocks so far that so many cells buy
    choices = np.empty((len(parameters), cells + 1), np.int8)
    for block in range(len(parameters)):
        offers = np.full((len(widths), cells + 1), np.inf)
        for k, cost in enumerate(costs[block]):
            if cost <= cells:
                offers[k, cost:] = best[: cells + 1 - cost] + harm[block, k]
        choices[block] = offers.argmin(0)
        best = offers.min(0)
    chosen = np.empty(len(parameters), np.int64)
    left = cells
    for block in reversed(range(len(parameters))):
        k = int(choices[block, left])
        chosen[block] = widths[k]
        left -= costs[block, k]
    return chosen


def monotone(damage: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `damage` [B, W] (ascending widths) without any width being worse than a smaller one: that is noise of measuring."""
    return np.minimum.accumulate(damage, axis=1)
