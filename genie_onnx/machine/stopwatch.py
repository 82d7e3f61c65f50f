"""Timing what grows with the size of a batch, without making the whole batch where that takes too long.

t(B) = fixed + B x each:  measured at one image, then at all of them where time allows, else at a few and extended on a line
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from genie_onnx.machine.compute import WARM_UP, Compute

LONG_ENOUGH = 0.05  # seconds: what took less is measured again, for about so long
TIMES = 3  # ... in so many pieces
MOST = 20  # steps in that time
MEASUREMENT = 4  # steps that a measurement takes, its preparation included, where they are long
GROWTH = (4, 2)  # a larger batch is so many times as large as the one before, the first of them that there is time for
ANYWAY = 0.1  # seconds that one more measurement may take, whatever is left
SOME = 0.1  # of the seconds of a batch are not fixed, at least


def seconds_once(action: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of some runs of `action` on `device`, or of the only one where that takes long."""
    taken: list[float] = []
    while not taken or (sum(taken) < LONG_ENOUGH and len(taken) < MOST):
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return min(taken)


def seconds_a_step(run: Callable[[int], float], compute: Compute) -> float:
    """Return the seconds of a step of a loop. `run` makes n steps, n > 1, and returns the seconds of all but the first."""
    if compute.device.type == "cuda":  # the first ones are slow, or capture a graph
        few = WARM_UP + 2
        return max(run(few + MOST) - run(few), 0.0) / MOST
    seconds = run(2)
    if seconds >= LONG_ENOUGH:
        return seconds
    again = 1 + min(MOST, int(LONG_ENOUGH / TIMES / max(seconds, 1e-9)))
    # Not the mean: another process may take the processor away for longer than all of this lasts.
    return statistics.median(run(1 + again) / again for _ in range(TIMES))


@dataclass(frozen=True)
class Line:
    """Seconds for a batch: `fixed`, and `each` for every image."""

    fixed: float
    each: float

    def at(self, size: int) -> float:
        """Return the seconds of a batch of `size`."""
        return self.fixed + self.each * size


def measured(measure: Callable[[int], float], least: int, size: int, budget: float, fixed: float = 0.0) -> Line:
    """Return the line of what `measure` (batch size -> seconds of a step) gives up to `size`, within about `budget` seconds.

    It is called with `least` whatever the budget is. `fixed`: as for `through`.
    """
    began = time.perf_counter()
    points = [(least, measure(least))]
    while points[-1][0] < size:
        left = max(budget - (time.perf_counter() - began), ANYWAY)
        larger = next_size(points[-1][0], through(points, fixed), size, left)
        if larger is None:
            break
        points.append((larger, measure(larger)))
    return through(points, fixed)


def next_size(last: int, line: Line, size: int, budget: float) -> int | None:
    """Return the size to measure after `last` within `budget` seconds, by what `line` says of them; None: none."""
    for larger in (size, *(last * factor for factor in GROWTH)):
        if last < larger <= size and MEASUREMENT * line.at(larger) <= budget:
            return larger
    return None


def through(points: Sequence[tuple[int, float]], fixed: float) -> Line:
    """Return the line through the last two of `points` (size, seconds), of growing size.

    It does not fall, and at size 0 it is not below 0. Through a single point: `fixed` is known, but not more than that has.
    """
    last, seconds = points[-1]
    slope = max(seconds - fixed, SOME * seconds) / last
    if len(points) > 1:
        before, less = points[-2]
        slope = min(max((seconds - less) / (last - before), 0.0), seconds / last)
    return Line(seconds - slope * last, slope)
