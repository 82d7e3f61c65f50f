"""From a decoded picture to the tensor a model takes.

    uint8 [h, w, c] -> luminance, or three grey copies -> scaled and cut to [H, W] (framing) -> bgr if so ordered
                    -> (pixel / 255 - mean) / std -> float32 [C, H, W]

`mean` and `std` are in units of the image scale 0..1, as torchvision prints them, and in the order of the model's channels:

    model takes                        mean                 std
    torchvision's normalisation        .485 .456 .406       .229 .224 .225
    x / 255, values 0..1               0                    1
    x / 127.5 - 1, values -1..1        .5                   .5
    (x - 127) / 128                    .498                 .502
    raw 0..255                         0                    .003922 (1 / 255)

They are constants of the preprocessing, not statistics of the model's input. Images made without data live in that input space,
whose own mean and std follow from them: `Preprocess.statistics`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
from PIL import Image

from genie_onnx.errors import DataError
from genie_onnx.framing import Framing, Interpolation
from genie_onnx.preprocessing import Order, Preprocessing

# Mean and per-image standard deviation of photographs, 0..1, R G B: ImageNet's, as torchvision's weights use them.
PHOTOGRAPH_MEAN = (0.485, 0.456, 0.406)
PHOTOGRAPH_STD = (0.229, 0.224, 0.225)
LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, Pillow's mode L

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How pictures become the model's input; raises DataError for values that cannot be meant."""

    shape: tuple[int, int, int]  # C, H, W of one sample as the model takes it
    mean: tuple[float, ...] = (0.0,)  # one number, or one a channel, 0..1
    std: tuple[float, ...] = (1.0,)  # one number, or one a channel, above 0 and up to 1
    channel_order: Order = "rgb"  # of the model's channels; pictures and arrays come as rgb
    framing: Framing | None = None  # how pictures get their size; None: scaled to cover it, cut at the centre

    @classmethod
    def of(cls, shape: tuple[int, int, int], given: Preprocessing) -> Preprocess:
        """Return what the user said, for a model's input of `shape`; what is not known leaves pixels 0..1."""
        mean, std = (0.0,) if given.mean is None else given.mean, (1.0,) if given.std is None else given.std
        return cls(shape=shape, mean=mean, std=std, channel_order=given.channel_order, framing=given.framing)

    def __post_init__(self) -> None:
        problems: list[str] = []
        channels = self.shape[0]
        if min(self.shape) < 1:
            problems.append(f"an input of {self.shape} (C, H, W) has no values")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, channels):
                problems.append(f"the input {name} has {len(numbers)} numbers, but the model takes {channels} channel(s)")
            if any(not math.isfinite(number) or abs(number) > 1 for number in numbers):
                problems.append(
                    f"the input {name} {numbers} is outside the image scale 0..1: give it as torchvision does (0.485, "
                    f"not 123.675); for a model that takes raw 0..255 give mean 0 and std 0.003922"
                )
        if min(self.std, default=0.0) <= 0:
            problems.append(f"every input std must be above 0, not {self.std}")
        if self.channel_order not in get_args(Order):
            problems.append(f"the channel order must be one of {get_args(Order)}, not {self.channel_order!r}")
        elif self.channel_order == "bgr" and channels != 3:
            problems.append(f"the channel order bgr needs 3 channels, but the model takes {channels}")
        problems += self._badly_framed()
        if problems:
            raise DataError(problems)

    def _badly_framed(self) -> list[str]:
        """Return what of the framing does not lead to the model's size, whatever the picture."""
        framing, size = self.framing or Framing(), self.shape[1:]
        resize, problems = framing.resize, []
        if framing.crop not in (None, size):
            problems.append(f"--crop {_text(framing.crop)} is not the model's input, {_text(size)}: cut that, or leave it out")
        if resize is not None and (min(resize) < min(size) if len(resize) == 1 else _smaller(resize, size)):
            problems.append(f"--resize {_text(resize)} is smaller than the model's input, {_text(size)}, which is cut from it")
        return problems

    def tensor(self, picture: np.ndarray) -> np.ndarray:
        """Return the model's input, float32 [C, H, W], of one picture, uint8 [h, w, c] with c equal to C, or 1 or 3 of them.

        Raises DataError for a picture that is smaller than what is to be cut from it.
        """
        channels, height, width = self.shape
        pixels = frame(match_channels(picture, channels), height, width, self.framing or Framing()).astype(np.float32)
        if self.channel_order == "bgr":
            pixels = pixels[:, :, ::-1]
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        normalised = (pixels / np.float32(255) - mean) / std
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and std, one a channel, that the model's input has when photographs are shown to it.

        mean' = (PHOTOGRAPH_MEAN - mean) / std and std' = PHOTOGRAPH_STD / std: 0 and 1 for torchvision's normalisation (the space
        in which GENIE distils), about 115 and 58 for raw 0..255. For subjects other than photographs (digits, spectrograms) it
        is an estimate, to start learning from.
        """
        channels = self.shape[0]
        mean, std = np.array(PHOTOGRAPH_MEAN), np.array(PHOTOGRAPH_STD)
        if channels != 3:
            mean, std = np.full(channels, LUMINANCE @ mean), np.full(channels, LUMINANCE @ std)
        elif self.channel_order == "bgr":
            mean, std = mean[::-1], std[::-1]
        return tuple(((mean - np.array(self.mean)) / np.array(self.std)).tolist()), tuple((std / np.array(self.std)).tolist())


def match_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    """Return uint8 [h, w, channels] of uint8 [h, w, c]: luminance of 3 for 1, three copies of 1 for 3."""
    found = picture.shape[2]
    if found == channels:
        return picture
    if (found, channels) == (3, 1):
        return np.asarray(Image.fromarray(picture).convert("L"))[:, :, None]
    if (found, channels) == (1, 3):
        return np.repeat(picture, 3, axis=2)
    raise DataError(
        f"a picture of {found} channels cannot serve a model that takes {channels}: give arrays of {channels} channels"
    )


def frame(picture: np.ndarray, height: int, width: int, framing: Framing) -> np.ndarray:
    """Return uint8 [height, width, c] of uint8 [h, w, c], by the table in `genie_onnx.framing`.

    `framing.crop` is that size or None. Sizes and positions are rounded as torchvision's Resize and CenterCrop do.
    Raises DataError where there is too little to cut.
    """
    if framing.resize is None and framing.crop is None:
        return fit(picture, height, width, framing.interpolation)
    if framing.resize is not None:
        picture = _resized(picture, _scaled(picture.shape[:2], framing.resize), framing.interpolation)
    h, w, _ = picture.shape
    if _smaller((h, w), (height, width)):
        done = f"--resize {_text(framing.resize)} makes it {h}x{w}" if framing.resize else f"it is {h}x{w}"
        raise DataError(f"a picture is smaller than the {height}x{width} that are to be cut from it: {done}; resize to more")
    top, left = round((h - height) / 2), round((w - width) / 2)
    return picture[top : top + height, left : left + width]


def fit(picture: np.ndarray, height: int, width: int, interpolation: Interpolation = "bilinear") -> np.ndarray:
    """Return uint8 [height, width, c] of uint8 [h, w, c]: the largest such centred part, scaled with antialiasing."""
    h, w, _ = picture.shape
    scale = max(height / h, width / w)
    left, top = (w - width / scale) / 2, (h - height / scale) / 2
    box = (max(left, 0.0), max(top, 0.0), min(w - left, w), min(h - top, h))
    return _resized(picture, (height, width), interpolation, box)


def _resized(
    picture: np.ndarray,
    size: tuple[int, int],
    interpolation: Interpolation,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Return `box` (left, top, right, bottom; None: all) of a picture scaled to `size`; a picture of that size as it is."""
    if picture.shape[:2] == size:
        return picture
    height, width = size
    bands = [
        np.asarray(Image.fromarray(np.ascontiguousarray(band)).resize((width, height), _FILTERS[interpolation], box=box))
        for band in picture.transpose(2, 0, 1)  # [h, w] each: any number of channels, and the same result as on an RGB picture
    ]
    return np.stack(bands, axis=2)


def _scaled(size: tuple[int, ...], resize: tuple[int, ...]) -> tuple[int, int]:
    if len(resize) == 2:
        return resize[0], resize[1]
    h, w = size
    return (resize[0], int(resize[0] * w / h)) if h <= w else (int(resize[0] * h / w), resize[0])


def _smaller(size: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return any(side < least for side, least in zip(size, wanted, strict=True))


def _text(size: tuple[int, ...] | None) -> str:
    return "x".join(map(str, size or ()))
