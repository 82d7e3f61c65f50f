"""What an output tells of its image, beside an answer that never looks: figures by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genie_onnx.validate import Answer, Classes, answers


def only(y: np.ndarray, z: np.ndarray, constant: bool = False) -> Answer:
    (found,) = answers({"y": y}, {"y": z}, {"y"} if constant else set())
    return found


def test_the_mean_of_the_samples_is_the_constant_to_be_held_against() -> None:
    y = np.float32([[3, 0], [5, 0]])  # power 34, mean (4, 0), spread 2
    found = only(y, y + np.float32([[0, 1], [0, 1]]))
    assert found.sqnr_db == pytest.approx(10 * math.log10(34 / 2))
    assert found.constant_db == pytest.approx(10 * math.log10(34 / 2))
    assert found.varies
    blind = only(y, np.float32([[4, 0], [4, 0]]))
    assert blind.sqnr_db == pytest.approx(blind.constant_db)


def test_classes_are_counted_beside_the_most_frequent_one() -> None:
    y = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 2]]
    found = only(y, np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 3]])
    assert (found.samples, found.agreement, found.usual) == (5, 0.6, 0.6)
    assert only(y[:, :, None, None], y[:, :, None, None]).agreement == 1.0
    assert only(np.ones((2, 4, 5), np.float32), np.ones((2, 4, 5), np.float32)).agreement is None


def test_classes_are_counted_once_more_where_the_float_model_is_sure() -> None:
    logits = np.float32([[4, 0, 0], [0, 4, 0], [1, 0, 0], [0, 0.2, 0.1]])  # e^4 / (e^4 + 2) = 0.96, e / (e + 2) = 0.58
    found = only(logits, logits[[0, 0, 1, 1]])
    assert found.agreement == 0.5
    assert found.sure == Classes(samples=2, agreement=0.5, usual=0.5)
    shares = np.float32(
        [[0.95, 0.05, 0], [0.05, 0.95, 0], [0.5, 0.4, 0.1]]
    )  # probabilities are not put through softmax once more
    assert only(shares, shares).sure == Classes(samples=2, agreement=1.0, usual=0.5)
    landmarks = np.linspace(0, 1, 68, dtype=np.float32)[None] + np.zeros((3, 1), np.float32)
    assert only(landmarks, landmarks).sure is None
    assert only(np.float32([[-np.inf, 3, -np.inf]]), np.float32([[-np.inf, 3, -np.inf]])).sure is not None  # masked
    assert only(np.float32([[np.inf, 0]]), np.float32([[np.inf, 0]])).sure is None


def test_what_is_the_same_for_all_samples_has_no_constant_beside_it() -> None:
    y = np.full((3, 2), 2, np.float32)
    found = only(y, y + 1)
    assert (found.varies, found.constant_db) == (False, None)
    assert found.sqnr_db == pytest.approx(10 * math.log10(4))
    priors = only(np.float32([[1, 2], [3, 4]]), np.float32([[1, 2], [3, 4]]), constant=True)  # rows are no samples
    assert (priors.samples, priors.varies) == (1, False)


def test_zeros_have_no_signal_and_whole_numbers_no_decibels() -> None:
    assert only(np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)).sqnr_db is None
    labels = only(np.int64([[0, 0], [0, 7]]), np.int64([[0, 0], [3, 7]]))
    assert (labels.sqnr_db, labels.agreement, labels.usual) == (None, 0.75, 0.75)


def test_numbers_that_are_not_finite_have_to_be_the_same() -> None:
    y = np.float32([[1, -np.inf], [2, -np.inf]])
    assert only(y, y).sqnr_db == 200
    assert only(y, np.float32([[1, 0], [2, -np.inf]])).sqnr_db == -math.inf
    assert only(np.float32([[1], [2]]), np.float32([[1], [np.nan]])).sqnr_db == -math.inf


def test_infinities_that_come_and_go_may_be_elsewhere_but_not_be_more() -> None:
    inf = math.inf
    y = np.float32([[1, -inf, 3, 4], [2, 2, -inf, 5], [3, 1, 2, 6]])
    assert only(y, np.float32([[1, 2, -inf, 4], [2, -inf, 3, 5], [3, 1, 2, 6]])).sqnr_db == 200
    assert only(y, np.float32([[1, 2, -inf, 4], [2, -inf, 3, 5], [3, 1, -inf, 6]])).sqnr_db == -inf  # three, not two
    assert only(y, np.nan_to_num(y, neginf=0)).sqnr_db == 200  # fewer are no harm
    masked = np.float32([[1, -inf], [2, -inf]])
    assert only(masked, np.float32([[1, -inf], [2, 0]])).sqnr_db == -inf
