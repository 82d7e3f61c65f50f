"""Losses become pixels: downwards, within the frame, on a logarithmic axis where they span much."""

from __future__ import annotations

from genie_onnx.report.charts import POINTS, Line, chart
from genie_onnx.report.history import Curve


def points(line: Line) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.points.split())]


def curve(*losses: float) -> Curve:
    return Curve("images", 0, "", tuple((10 * k, loss) for k, loss in enumerate(losses)))


def test_lower_losses_are_lower_down() -> None:
    made = chart([curve(3.0, 2.5, 2.0)], 100, 50)
    (line,) = made.lines
    (a, b, c) = points(line)
    assert (a[0], c[0]) == (0, 100)
    assert a[1] < b[1] < c[1]
    assert b[1] == (a[1] + c[1]) / 2
    assert {text: y for y, text in made.y_ticks}["2"] == c[1]
    assert (line.first, line.last) == (3.0, 2.0)


def test_a_wide_span_is_logarithmic() -> None:
    (line,) = chart([curve(100.0, 10.0, 1.0)], 100, 50).lines
    a, b, c = (y for _, y in points(line))
    assert a < b < c
    assert abs(b - (a + c) / 2) < 0.1


def test_curves_share_their_axes() -> None:
    high, low = chart([curve(2.0, 2.0), curve(1.0, 1.0)], 100, 50).lines
    assert points(high)[0][1] < points(low)[0][1]


def test_ticks_are_round_and_cover_the_curve() -> None:
    for losses in ((0.0028, 0.0031), (0.17, 0.29, 0.21), (3.3e5, 1.0), (5.0, 5.0), (0.0, 1.0)):
        made = chart([curve(*losses)], 100, 50)
        ticks = [float(text) for _, text in made.y_ticks]
        assert min(ticks) <= min(losses)
        assert max(ticks) >= max(losses)
        assert all(0 <= y <= 50 for _, y in points(made.lines[0]))
        assert 1 <= len(ticks) <= 12


def test_long_curves_are_thinned_to_their_ends() -> None:
    (line,) = chart([curve(*(1 + k / 1000 for k in range(5000)))], 100, 50).lines
    assert len(points(line)) <= POINTS
    assert points(line)[-1][0] == 100
