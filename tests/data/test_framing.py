"""Resize and crop against torchvision's recipe written out with Pillow, and the presets' literal numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genie_onnx.data import Preprocess, open_images
from genie_onnx.data.preprocess import frame
from genie_onnx.errors import ConfigError, DataError
from genie_onnx.framing import Framing
from genie_onnx.preprocessing import RECIPES, Preprocessing

PICTURE = np.random.default_rng(0).integers(0, 256, (45, 67, 3), np.uint8)


def resized(picture: np.ndarray, height: int, width: int, how: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, height), how))


def test_resize_of_the_shorter_side_then_crop() -> None:
    """torchvision's Resize(30), CenterCrop(20): 45 x 67 -> 30 x int(44.67), cut from 5 and 12."""
    found = frame(PICTURE, 20, 20, Framing(resize=(30,), crop=(20, 20)))
    np.testing.assert_array_equal(found, resized(PICTURE, 30, 44)[5:25, 12:32])
    upright = PICTURE.transpose(1, 0, 2)
    np.testing.assert_array_equal(frame(upright, 20, 20, Framing(resize=(30,))), resized(upright, 44, 30)[12:32, 5:25])


def test_halves_are_rounded_to_even_as_in_torchvision() -> None:
    found = frame(PICTURE, 20, 20, Framing(resize=(25, 23)))  # cut from round(2.5) = 2 and round(1.5) = 2
    np.testing.assert_array_equal(found, resized(PICTURE, 25, 23)[2:22, 2:22])


def test_resize_to_a_size_gives_up_proportions() -> None:
    found = frame(PICTURE, 8, 24, Framing(resize=(8, 24)))
    np.testing.assert_array_equal(found, resized(PICTURE, 8, 24))


def test_crop_alone_scales_nothing() -> None:
    np.testing.assert_array_equal(frame(PICTURE, 15, 17, Framing(crop=(15, 17))), PICTURE[15:30, 25:42])


def test_interpolation() -> None:
    found = frame(PICTURE, 9, 9, Framing(resize=(9, 9), interpolation="bicubic"))
    np.testing.assert_array_equal(found, resized(PICTURE, 9, 9, Image.Resampling.BICUBIC))
    square = PICTURE[:, :45]
    covered = frame(square, 9, 9, Framing(interpolation="nearest"))
    np.testing.assert_array_equal(covered, resized(square, 9, 9, Image.Resampling.NEAREST))


def test_imagenet_preset_is_torchvisions() -> None:
    """By hand for one pixel: 224 cut from 256, ((x / 255) - mean) / std, channel by channel."""
    recipe = RECIPES["imagenet"]
    picture = np.random.default_rng(1).integers(0, 256, (300, 280, 3), np.uint8)
    found = Preprocess(shape=(3, 224, 224), mean=recipe.mean, std=recipe.std, framing=recipe.framing).tensor(picture)
    pixel = resized(picture, 274, 256)[25 + 100, 16 + 50].astype(float)  # int(256 * 300 / 280) = 274
    expected = (pixel / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(found[:, 100, 50], expected, rtol=1e-5)


def test_none_preset_leaves_pixels() -> None:
    recipe = RECIPES["none"]
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    found = Preprocess(shape=(1, 16, 16), mean=recipe.mean, std=recipe.std, framing=recipe.framing).tensor(pixels)
    np.testing.assert_array_equal(np.rint(found[0]), pixels[:, :, 0])


@pytest.mark.parametrize(
    ("framing", "said"),
    [
        (Framing(crop=(9, 8)), "--crop 9x8 is not the model's input, 8x9"),
        (Framing(resize=(7,)), "--resize 7 is smaller than the model's input, 8x9"),
        (Framing(resize=(9, 8)), "--resize 9x8 is smaller than the model's input, 8x9"),
    ],
)
def test_what_cannot_lead_to_the_input_is_refused_at_once(framing: Framing, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Preprocess(shape=(3, 8, 9), framing=framing)


def test_sizes_that_are_none() -> None:
    for bad in ({"resize": (1, 2, 3)}, {"resize": (0,)}, {"crop": (4,)}, {"interpolation": "cubic"}):
        with pytest.raises(ConfigError):
            Framing(**bad)


def test_a_picture_too_small_for_the_cut_is_named(tmp_path: Path) -> None:
    for name, width in (("large", 9), ("small", 7)):
        Image.new("RGB", (width, 9)).save(tmp_path / f"{name}.png")
    samples = open_images([tmp_path], (3, 8, 8), Preprocessing(framing=Framing(crop=(8, 8))))
    with pytest.raises(DataError, match=r"small\.png: a picture is smaller than the 8x8 .*: it is 9x7"):
        samples.tensor()
