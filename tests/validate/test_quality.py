"""The verdict on a file: which figures are good, usable, poor or useless, and what is said of them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from genie_onnx import ConfigError, Quality, Requirements
from genie_onnx.validate import Answer, Classes
from genie_onnx.validate.quality import assess

NONE = Requirements()


def numbers(sqnr_db: float | None, constant_db: float | None = 3.0, **changes: Any) -> Answer:
    fields: dict[str, Any] = {"name": "y", "samples": 64, "varies": True, "agreement": None, "usual": None}
    return Answer(sqnr_db=sqnr_db, constant_db=constant_db, **{**fields, **changes})


def classes(agreement: float, sqnr_db: float, usual: float = 0.2, **changes: Any) -> Answer:
    fields = {"constant_db": 5.0, "agreement": agreement, "usual": usual, **changes}
    sure = Classes(samples=fields.get("samples", 64), agreement=agreement, usual=usual)
    return numbers(sqnr_db, **{"sure": sure, **fields})


def verdict(*answers: Answer, **changes: Any) -> Quality:
    return assess(answers, "held-back", Requirements(**changes))


@pytest.mark.parametrize(
    ("sqnr_db", "constant_db", "level"),
    [
        (35.0, 3.0, "good"),
        (35.0, 26.0, "usable"),  # an eighth of what tells the images apart is noise
        (35.0, 50.0, "usable"),  # the images hardly differ
        (35.0, None, "good"),
        (25.0, 50.0, "usable"),
        (12.0, 3.0, "usable"),
        (12.0, 15.0, "poor"),  # a constant is nearer
        (6.0, 3.0, "poor"),
        (2.9, 3.0, "useless"),
        (3.0, 3.0, "useless"),
        (1.0, None, "poor"),  # the same for all images: only zeros are no worse
        (0.0, None, "useless"),
        (-math.inf, 3.0, "useless"),  # not a number
    ],
)
def test_numbers_are_judged_by_decibels_beside_a_constant(sqnr_db: float, constant_db: float | None, level: str) -> None:
    found = verdict(numbers(sqnr_db, constant_db))
    assert found.level == level
    assert found.ok == (level != "useless")


@pytest.mark.parametrize(
    ("agreement", "sqnr_db", "usual", "level"),
    [
        (1.0, 21.0, 0.2, "good"),
        (0.9, 21.0, 0.2, "usable"),
        (0.9, 4.0, 0.2, "usable"),  # learned 2-bit networks
        (0.9, -1.0, 0.2, "poor"),
        (0.65, 4.0, 0.2, "poor"),
        (0.3, 8.0, 0.2, "poor"),
        (0.3, 4.0, 0.2, "useless"),  # a constant is nearer, and most classes are lost
        (0.2, 8.0, 0.2, "useless"),  # chance
        (0.08, 8.0, 0.02, "useless"),  # of a thousand classes
        (0.08, 22.0, 0.02, "poor"),  # near numbers, near each other: no class scores
        (1.0, 2.0, 1.0, "useless"),  # all images have one class: that says nothing
        (0.9, 2.0, 0.7, "poor"),
    ],
)
def test_class_scores_are_judged_by_classes_where_there_are_several(
    agreement: float, sqnr_db: float, usual: float, level: str
) -> None:
    assert verdict(classes(agreement, sqnr_db, usual)).level == level


def test_numbers_that_all_agree_on_one_class_are_not_good_for_that() -> None:
    assert verdict(numbers(22.0, agreement=1.0, usual=0.9)).level == "good"
    assert verdict(numbers(22.0, agreement=1.0, usual=1.0)).level == "usable"


def test_what_no_sample_is_sure_of_is_no_class() -> None:
    """Landmarks, [N, 136]: the largest one is another with the last bit."""
    landmarks = {"agreement": 0.6, "usual": 0.3, "constant_db": 18.0}
    assert verdict(numbers(28.0, **landmarks)).level == "usable"
    few = Classes(samples=7, agreement=1.0, usual=0.2)
    assert verdict(numbers(28.0, sure=few, **landmarks)).level == "usable"
    assert verdict(classes(0.6, 28.0, 0.3, constant_db=18.0)).level == "poor"  # a classifier


def test_of_made_images_those_count_that_the_float_model_is_sure_of() -> None:
    answer = classes(0.6, 9.0, sure=Classes(samples=16, agreement=0.9, usual=0.2))
    assert verdict(answer).level == "poor"  # real ones count as they come
    found = assess([answer], "made", NONE)
    assert found.level == "usable"
    assert "90.0 % of the 16 images that the float model is sure of its class" in found.reason
    near = classes(0.9, 22.0, sure=Classes(samples=16, agreement=1.0, usual=0.2))
    assert assess([near], "made", NONE).level == "usable"  # good is, what is so of all
    lost = classes(0.6, 9.0, sure=Classes(samples=16, agreement=0.5, usual=0.2))
    assert assess([lost], "made", NONE).level == "poor"
    unsure = classes(0.6, 9.0, sure=Classes(samples=7, agreement=0.9, usual=0.2))
    assert assess([unsure], "made", NONE).level == "poor"  # by decibels


def test_a_few_samples_tell_no_classes() -> None:
    assert verdict(classes(0.0, 15.0, 0.25, samples=4)).level == "usable"
    assert verdict(classes(0.0, 15.0, 0.25, samples=8)).level == "useless"


@pytest.mark.parametrize(
    ("agreement", "usual", "level"),
    [(1.0, 0.9, "good"), (0.95, 0.9, "usable"), (0.88, 0.9, "poor"), (0.6, 0.3, "poor"), (0.3, 0.3, "useless")],
)
def test_whole_numbers_are_judged_by_equal_ones(agreement: float, usual: float, level: str) -> None:
    assert verdict(numbers(None, None, agreement=agreement, usual=usual)).level == level


def test_the_worst_output_decides_and_is_named() -> None:
    found = verdict(numbers(40.0, name="a"), numbers(-2.0, name="b"), numbers(12.0, name="c"))
    assert [output.level for output in found.outputs] == ["good", "useless", "usable"]
    blind = "output 'b' is at -2.0 dB, where one and the same answer to every image is at 3.0"
    assert str(found) == f"useless: {blind} (on 64 images of yours, held back)"
    assert found.problems == (f"the file is {found}",)


def test_what_cannot_be_compared_is_not_judged() -> None:
    zeros, boxes = numbers(None, None, name="zeros"), numbers(1.0, name="boxes")
    found = assess([zeros, boxes, numbers(15.0)], "held-back", NONE, {"boxes"})
    assert [output.level for output in found.outputs] == [None, None, "usable"]
    assert found.level == "usable"
    assert "order that each image decides" in assess([boxes], "held-back", NONE, {"boxes"}).reason


def test_made_images_are_said_to_be_so() -> None:
    assert "nobody took" in str(assess([numbers(15.0)], "made", NONE))
    assert "calibrated on" in str(assess([numbers(15.0)], "calibration", NONE))


def test_requirements_say_what_was_wanted_and_what_was_found() -> None:
    assert verdict(classes(0.9, 15.0), sqnr_db=15.0, agreement=0.9).ok
    found = verdict(classes(0.9, 15.0), sqnr_db=20.0, agreement=0.95)
    assert found.level == "usable"
    assert found.unmet == (
        "20 dB were required of output 'y', and it is at 15.0 dB",
        "an agreement of 95 % was required of output 'y', and it has 90.0 %",
    )
    assert found.problems == found.unmet
    assert not verdict(numbers(15.0), agreement=0.5).ok  # nothing there to agree on
    assert not verdict(numbers(None, None), sqnr_db=5.0).ok


def test_accepting_a_useless_file_waives_that_alone() -> None:
    assert verdict(numbers(-2.0), accept_useless=True).ok
    found = verdict(numbers(-2.0), accept_useless=True, sqnr_db=5.0)
    assert found.problems == found.unmet == ("5 dB were required of output 'y', and it is at -2.0 dB",)


@pytest.mark.parametrize("bad", [{"sqnr_db": math.nan}, {"agreement": 95}, {"agreement": -0.1}])
def test_requirements_that_are_none_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="the required"):
        Requirements(**bad)  # type: ignore[arg-type]
