"""The curve of each part of a run comes back as it was told, also after a kill."""

from __future__ import annotations

from pathlib import Path

from genie_onnx.events import Step
from genie_onnx.report.history import Curve, read_history, record


def told(path: Path, *steps: tuple[int, int, float | None]) -> None:
    """Record steps of learning: (index, iteration, loss)."""
    for index, iteration, loss in steps:
        record(Step(stage="learn", index=index, count=2, iteration=iteration, iterations=9, loss=loss, name=f"b{index}"), path)


def test_curves_are_those_told(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    record(Step(stage="images", iteration=5, iterations=5, loss=0.1 + 0.2), path)
    told(path, (0, 0, None), (0, 1, 2.0), (1, 1, 8.0), (0, 9, 1.0))
    assert read_history(path) == [
        Curve("images", 0, "", ((5, 0.1 + 0.2),)),
        Curve("learn", 0, "b0", ((1, 2.0), (9, 1.0))),
        Curve("learn", 1, "b1", ((1, 8.0),)),
    ]


def test_a_step_without_a_loss_writes_nothing(tmp_path: Path) -> None:
    told(tmp_path / "history.jsonl", (0, 0, None))
    assert list(tmp_path.iterdir()) == []
    assert read_history(tmp_path / "history.jsonl") == []


def test_a_part_begun_again_begins_its_curve_again(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    told(path, (0, 1, 9.0), (0, 6, 5.0), (0, 1, 8.0), (0, 3, 7.0))
    assert [curve.points for curve in read_history(path)] == [((1, 8.0), (3, 7.0))]


def test_a_line_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    told(path, (0, 1, 9.0))
    with path.open("ab") as file:
        file.write(b'\n{"stage": "learn", "ind')
    told(path, (0, 3, 7.0))
    assert [curve.points for curve in read_history(path)] == [((1, 9.0), (3, 7.0))]


def test_losses_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    told(path, (0, 1, float("nan")), (0, 3, 7.0))
    assert [curve.points for curve in read_history(path)] == [((3, 7.0),)]
