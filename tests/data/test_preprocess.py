"""Pixels to the model's input: literal cases, and the statistics that images made without data need."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from genie_onnx.data import Preprocess
from genie_onnx.data.preprocess import fit, match_channels
from genie_onnx.errors import DataError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def test_mean_is_subtracted_before_std_divides_channel_by_channel() -> None:
    pixels = np.array([[[255, 51, 0]]], np.uint8)  # [1, 1, 3]: 1.0, 0.2, 0.0
    found = Preprocess(shape=(3, 1, 1), mean=(0.5, 0.1, 0.25), std=(0.5, 0.2, 0.125)).tensor(pixels)
    np.testing.assert_allclose(found.ravel(), [1.0, 0.5, -2.0], rtol=1e-6)
    assert found.dtype == np.float32


def test_bgr_reverses_the_pixels_and_not_the_constants() -> None:
    pixels = np.array([[[255, 51, 0]]], np.uint8)
    found = Preprocess(shape=(3, 1, 1), mean=(0.5, 0.0, 0.0), std=(1.0,), channel_order="bgr").tensor(pixels)
    np.testing.assert_allclose(found.ravel(), [-0.5, 0.2, 1.0], rtol=1e-6)


def test_raw_pixels_come_back_exactly_enough() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    found = Preprocess(shape=(1, 16, 16), std=(1 / 255,)).tensor(pixels)
    np.testing.assert_allclose(found[0], pixels[:, :, 0], atol=1e-4)


def test_fit_cuts_the_centre_and_keeps_proportions() -> None:
    # 2 : 1 into a square: columns 4 to 11 of 16 remain, two for each of the result
    ramp = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None] * 10, (8, 16, 3))
    np.testing.assert_array_equal(fit(ramp, 4, 4)[1, :, 0], [45, 65, 85, 105])
    np.testing.assert_array_equal(fit(ramp.transpose(1, 0, 2), 4, 4)[:, 1, 0], [45, 65, 85, 105])
    assert fit(ramp, 3, 7).shape == (3, 7, 3)


def test_fit_averages_when_it_shrinks() -> None:
    # without antialiasing a chequerboard shrinks to black, to white or to a moiré; with it, to its mean
    picture = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[:, :, None]
    small = fit(picture, 8, 8).astype(int)
    assert np.abs(small - 127.5).max() <= 4


def test_fit_is_pillows_resize_for_every_number_of_channels() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    rgb = np.asarray(Image.fromarray(picture).resize((15, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fit(picture, 10, 15), rgb)
    five = np.concatenate([picture, picture[:, :, :2]], axis=2)
    np.testing.assert_array_equal(fit(five, 10, 15), np.concatenate([rgb, rgb[:, :, :2]], axis=2))


def test_channels_are_matched() -> None:
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(match_channels(colour, 1).ravel(), [76, 150, 29])  # .299, .587, .114 of 255
    grey = np.array([[[7]]], np.uint8)
    np.testing.assert_array_equal(match_channels(grey, 3).ravel(), [7, 7, 7])
    with pytest.raises(DataError, match="3 channels cannot serve a model that takes 4"):
        match_channels(colour, 4)


@pytest.mark.parametrize(
    ("preprocess", "mean", "std"),
    [
        (Preprocess(shape=(3, 1, 1), **IMAGENET), (0, 0, 0), (1, 1, 1)),
        (Preprocess(shape=(3, 1, 1), std=(1 / 255,)), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        (
            Preprocess(shape=(3, 1, 1), mean=(0.5,), std=(0.5,), channel_order="bgr"),
            (-0.188, -0.088, -0.03),
            (0.45, 0.448, 0.458),
        ),
        (Preprocess(shape=(1, 1, 1)), (0.458971,), (0.225609,)),
    ],
    ids=["torchvision", "raw", "signed-bgr", "grey"],
)
def test_statistics_are_those_of_photographs_after_preprocessing(
    preprocess: Preprocess, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    found_mean, found_std = preprocess.statistics()
    np.testing.assert_allclose(found_mean, mean, atol=1e-9)
    np.testing.assert_allclose(found_std, std, rtol=1e-9)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"mean": (123.675, 116.28, 103.53)}, "outside the image scale 0..1"),
        ({"mean": (0.5, 0.5)}, "has 2 numbers, but the model takes 3"),
        ({"std": (0.0,)}, "above 0"),
        ({"std": (float("nan"),)}, "outside the image scale"),
        ({"channel_order": "rbg"}, "channel order must be one of"),
        ({"shape": (1, 8, 8), "channel_order": "bgr"}, "bgr needs 3 channels"),
        ({"shape": (3, 0, 8)}, "has no values"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict, text: str) -> None:
    with pytest.raises(DataError, match=text):
        Preprocess(**{"shape": (3, 8, 8), **fields})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        Preprocess(shape=(3, 8, 8), mean=(104.0,), std=(0.1, 0.2), channel_order="bgr")
    assert len(caught.value.problems) == 2
