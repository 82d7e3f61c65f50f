"""Curves as a chart: points become pixels, axes get round numbers. What draws it is templates/macros.jinja."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from genie_onnx.report.history import Curve

POINTS = 200  # of a line, at most: more are not seen
TICKS = 5  # of an axis, about
LOG_FROM = 8.0  # times that the largest loss is the smallest, from which on the axis is logarithmic


@dataclass(frozen=True)
class Line:
    """One curve: `points` as an SVG polyline has them."""

    name: str
    points: str
    first: float
    last: float


@dataclass(frozen=True)
class Chart:
    """A picture of `width` by `height` pixels, y downwards; ticks are (pixel, label)."""

    width: float
    height: float
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def chart(curves: Sequence[Curve], width: float, height: float) -> Chart:
    """Return `curves`, at least one and each with at least one point, over their iterations."""
    losses = [loss for curve in curves for _, loss in curve.points]
    end = max(max(at for at, _ in curve.points) for curve in curves)
    low, high = min(losses), max(losses)
    logarithmic = low > 0 and high / low >= LOG_FROM
    ticks = _powers(low, high) if logarithmic else _round_numbers(low, high)
    scale = math.log10 if logarithmic else float
    bottom, top = scale(min(low, *ticks)), scale(max(high, *ticks))

    def across(at: float) -> float:
        return round(width * at / max(end, 1), 1)

    def down(loss: float) -> float:
        return round(height * (1 - (scale(loss) - bottom) / ((top - bottom) or 1)), 1)

    lines = tuple(
        Line(
            curve.name,
            " ".join(f"{across(at):g},{down(loss):g}" for at, loss in _thinned(curve.points)),
            curve.points[0][1],
            curve.points[-1][1],
        )
        for curve in curves
    )
    x_ticks = tuple((across(at), f"{at:,.0f}") for at in _round_numbers(0, end) if at <= end)
    return Chart(width, height, lines, x_ticks, tuple((down(loss), f"{loss:g}") for loss in ticks))


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Return at most POINTS of `points`, the last among them."""
    every = math.ceil(len(points) / POINTS)
    return points[::-1][::every][::-1]


def _round_numbers(low: float, high: float) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten, from `low` or a little below to `high` or a little above."""
    if high <= low:
        return [low]
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [k * step for k in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten around `low` and `high`, or powers alone where these are too many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**k for k in decades for factor in (1, 2, 5)]
    inner = [tick for tick in fine if low / 2.5 < tick < high * 2.5]
    return inner if len(inner) <= 2 * TICKS else [10.0**k for k in decades]
