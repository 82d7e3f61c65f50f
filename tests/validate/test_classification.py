"""Top-1, top-5, differences and confusions against hand-made logits."""

from __future__ import annotations

import numpy as np
import pytest

from genie_onnx.errors import DataError
from genie_onnx.validate import Classification, Confusion

SCORES = np.float32([[9, 8, 7, 6, 5, 4, 3, 2]] * 4)


def judge(labels: list[int], *batches: np.ndarray) -> Classification:
    """Return what a model says whose logits are `batches`."""
    found = Classification(np.array(labels))
    for batch in batches:
        found.add({"y": batch})
    return found


def shares(found: Classification) -> list[float]:
    return [figure.value for figure in found.figures().values()]


def answers(predicted: list[int], classes: int = 4) -> np.ndarray:
    """Return logits of a model that predicts these classes."""
    return np.eye(classes, dtype=np.float32)[predicted]


def test_ranks() -> None:
    assert shares(judge([0, 1, 4, 5], SCORES)) == [0.25, 0.75]


def test_labels_go_with_the_batches() -> None:
    assert shares(judge([0, 0, 7, 7], SCORES[:1], SCORES[:3]))[0] == 0.5
    assert shares(judge([7, 7, 0, 0], SCORES[:3], SCORES[:1]))[0] == 0.5
    assert judge([0, 7, 7, 7], SCORES[:1], SCORES[:3]).columns["predicted"].tolist() == [0, 0, 0, 0]


def test_constant_logits_answer_the_first_class_only() -> None:
    """A collapsed model must not look perfect."""
    assert shares(judge(list(range(8)), np.zeros((8, 8), np.float32))) == [1 / 8, 5 / 8]


def test_nan_is_never_right() -> None:
    assert shares(judge(list(range(8)), np.full((8, 8), np.nan, np.float32)))[0] == 0


def test_logits_may_have_two_more_axes_and_are_the_first_output_that_can_be() -> None:
    found = Classification(np.zeros(4, int))
    found.add({"features": np.zeros((4, 3, 2, 2), np.float32), "y": SCORES[:, :, None, None], "z": -SCORES})
    assert shares(found) == [1.0, 1.0]


def test_few_classes_have_no_top5() -> None:
    assert list(judge([0, 1], answers([0, 1])).figures()) == ["top-1"]


def test_differences_are_of_the_same_samples_and_have_a_sign() -> None:
    labels = [0, 1, 2, 3, 0, 1]
    first, other = judge(labels, answers([0, 1, 2, 3, 3, 0])), judge(labels, answers([0, 1, 0, 0, 0, 3]))
    pair = other.against(first)["top-1"]
    assert (pair.won, pair.lost) == (1, 2)
    assert pair.value == pytest.approx(-1 / 6)
    assert first.against(other)["top-1"].value == pytest.approx(1 / 6)
    assert other.agreement(first) == pytest.approx(2 / 6)


def test_confusions_are_counted_from_label_to_prediction() -> None:
    found = judge([0, 0, 0, 1, 2, 2], answers([1, 1, 0, 1, 0, 1]))
    assert found.confusions() == [Confusion(0, 1, 2), Confusion(2, 0, 1), Confusion(2, 1, 1)]
    assert judge([0, 1], answers([0, 1])).confusions() == []


def test_a_shift_of_the_labels_is_noticed() -> None:
    labels = list(range(7)) * 5
    assert judge(labels, answers([label + 1 for label in labels], 8)).better_offset() == 1
    assert judge([label + 1 for label in labels], answers(labels, 8)).better_offset() == -1
    assert judge(labels, answers(labels, 8)).better_offset() is None
    assert judge([0, 1] * 20, answers([1, 0] * 20, 2)).better_offset() is None  # merely wrong


def test_what_cannot_be_scored_is_refused_before_the_first_figure() -> None:
    with pytest.raises(DataError, match="labels are 0 to 8, and the model has 8 classes, 0 to 7"):
        judge([0, 1, 2, 3, 8], SCORES)  # the fifth is not there yet
    with pytest.raises(DataError, match="labels are -1 to 0"):
        judge([-1, 0, 0, 0], SCORES)
    with pytest.raises(DataError, match=r"'y' \(2, 1, 4, 4\); only classifiers"):
        judge([0, 0], np.zeros((2, 1, 4, 4), np.float32))
