"""One value for what is done to pictures, whoever says it."""

from __future__ import annotations

import pytest

from genie_onnx import Framing, QuantizeConfig
from genie_onnx.data import Preprocess
from genie_onnx.preprocessing import UNKNOWN, Preprocessing

SAID = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5,) * 3, channel_order="bgr", framing=Framing(resize=(40,)))


def test_arguments_settings_and_value_are_the_same() -> None:
    assert Preprocessing.of([0.1, 0.2, 0.3], [0.5] * 3, "bgr", Framing(resize=(40,))) == SAID
    assert QuantizeConfig(**SAID.keywords()).preprocessing == SAID
    assert QuantizeConfig().preprocessing == Preprocessing.of(None, None, "rgb", None) == UNKNOWN


def test_what_is_not_known_leaves_pixels_in_0_to_1() -> None:
    found = Preprocess.of((3, 8, 8), UNKNOWN)
    assert (found.mean, found.std, found.channel_order) == ((0.0,), (1.0,), "rgb")
    assert Preprocess.of((3, 8, 8), SAID).channel_order == "bgr"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (UNKNOWN, SAID),
        (Preprocessing(mean=(0.0,), std=(1.0,)), Preprocessing(mean=(0.0,), std=(1.0,), framing=SAID.framing)),
        (Preprocessing(framing=Framing(crop=(8, 8))), Preprocessing(**{**SAID.keywords(), "framing": Framing(crop=(8, 8))})),
        (SAID, SAID),
    ],
)
def test_a_file_fills_what_is_not_said(said: Preprocessing, expected: Preprocessing) -> None:
    """The order of channels belongs to the numbers: whoever gives numbers gives them in an order of their own."""
    assert said.filled(SAID) == expected
    assert said.filled(UNKNOWN) == said
