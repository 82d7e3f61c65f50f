"""Does the preprocessing fit the model? Its first BatchNorm layers store what they saw in training; pictures show what they see.

pictures at 0..1, each usual preprocessing -> statistics of what enters the first layers -> how far they are from the stored ones

    misfit = mean over layers and channels of   o^2 / (1 + o^2) + d^2,   o = (mu - mu_l) / (sigma + sigma_l),
                                                                        d = (sigma - sigma_l) / (sigma + sigma_l)

Seven published models were tried with photographs: what is wrong was mostly 1.2 to 25 times as far off as what is right. Two of
COMMON can come out nearly equal (a MobileNet), so only a clearly nearer one is named (NEARER), and as a possibility. The order of
channels shows too little to be told from it (1.0 to 1.9 times).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genie_onnx.config import QuantizeConfig
from genie_onnx.data import Preprocess
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.seeds import stream
from genie_onnx.synthesis import is_picture, measure, procedural, with_measurements

LAYERS, PICTURES, PAINTED = 3, 16, 8  # looked at
PAINTED_PIXELS = 2**21  # of all painted pictures: painting is slow, and a plan is to be there at once
NEARER = 0.7  # times the misfit of what was given: from there on another preprocessing is worth a word
COMMON: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {  # mean and std on pixels of 0..1 (data.Preprocess)
    "0..1": ((0.0,), (1.0,)),
    "-1..1": ((0.5,), (0.5,)),
    "torchvision's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0..255": ((0.0,), (0.003922,)),
    "-128..127": ((0.5,), (0.003922,)),
}


@dataclass(frozen=True)
class LikelyInput:
    """A preprocessing, by its name in COMMON, that fits the model much better than another that was tried."""

    name: str
    misfit: float
    other: float  # misfit of the one that was tried

    @property
    def options(self) -> str:
        """The options that ask for it."""
        mean, std = (",".join(f"{number:g}" for number in numbers) for numbers in COMMON[self.name])
        return f"--mean {mean} --std {std}"

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return `pixels` [N, C, H, W] of 0..1 as this preprocessing makes them."""
        mean, std = COMMON[self.name]
        return (pixels - _channels(mean)) / _channels(std)


def likely_input(prepared: Prepared, images: Tensor, mean: Sequence[float], std: Sequence[float]) -> LikelyInput | None:
    """Return the preprocessing that fits the model much better than `mean` and `std`; None where none does, or nothing is known.

    `images`: pictures prepared with `mean` and `std`, float32 [N, C, H, W]; the first PICTURES count.
    """
    layers = with_measurements(prepared.statistics)[:LAYERS]
    if not layers:
        return None
    images = images[:PICTURES]
    pixels = as_pixels(images, mean, std)

    def misfit(shown: Tensor) -> float:
        found = {m.value: m for m in measure(prepared.teacher, [b.value for b in layers], shown, torch.device("cpu"))}
        pairs = [(found[b.value], b) for b in layers if b.value in found]
        return float(np.mean([_distance(now.mean, now.std, then.mean, then.std) for now, then in pairs]))

    possible = [name for name, space in COMMON.items() if len(space[0]) in (1, pixels.shape[1])]
    misfits = {name: misfit(LikelyInput(name, 0, 0).prepare(pixels)) for name in possible}
    best, given = min(misfits, key=lambda name: misfits[name]), misfit(images)
    return LikelyInput(best, misfits[best], given) if misfits[best] < NEARER * given else None


def better_input(prepared: Prepared, images: Tensor, mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Say what `likely_input` finds of the user's pictures."""
    found = likely_input(prepared, images, mean, std)
    if found is None:
        return None
    return (
        f"Prepared like this, the pictures do not give the model's first layers what they saw in training (misfit "
        f"{found.other:.2g}); prepared as {found.name} they come nearer ({found.misfit:.2g}). If that is what the model takes: "
        f"{found.options}"
    )


def painted_input(prepared: Prepared, config: QuantizeConfig) -> LikelyInput | None:
    """Return the preprocessing that painted pictures fit the model with, much better than with mean 0 and deviation 1; None where
    none does, nothing is known, the input is no picture or a huge one, or the user has said what it is."""
    channels, height, width = prepared.shape
    count = min(PAINTED, PAINTED_PIXELS // (height * width))
    if config.mean is not None or not is_picture(prepared.shape) or not prepared.batchnorms or count == 0:
        return None
    generator = stream(config.seed, "likely-input")
    images = procedural(count, prepared.shape, mean=[0.0] * channels, std=[1.0] * channels, generator=generator)
    return likely_input(prepared, images, *_photographs(prepared, config))


def likely_statistics(prepared: Prepared, config: QuantizeConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std, one a channel, that the model's input has on photographs, as far as its first layers tell; else 0
    and 1."""
    found = painted_input(prepared, config)
    if found is None:
        return (0.0,) * prepared.shape[0], (1.0,) * prepared.shape[0]
    (mean, std), (shift, scale) = _photographs(prepared, config), (np.array(numbers) for numbers in COMMON[found.name])
    return tuple(map(float, (np.array(mean) - shift) / scale)), tuple(map(float, np.array(std) / scale))


def as_painted(found: LikelyInput, images: Tensor, prepared: Prepared, config: QuantizeConfig) -> Tensor:
    """Return painted `images` [N, C, H, W] of mean 0 and deviation 1 as photographs that were prepared as `found`.

    Calibrated on others, grids are made for numbers that never come: MLPerf's ResNet-8 takes 0..255, W8A4: 9.9 % right on images
    of mean 0 and deviation 1, 86.8 % on these; its person detector takes 0..1, W8A8: 23.5 and 25.1 dB on photographs.
    """
    return found.prepare(as_pixels(images, *_photographs(prepared, config)).clamp(0, 1))


def _photographs(prepared: Prepared, config: QuantizeConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std of photographs whose pixels are 0..1, one a channel."""
    return Preprocess(shape=prepared.shape, mean=(0.0,), std=(1.0,), channel_order=config.channel_order).statistics()


def as_pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return `images` [N, C, H, W], prepared with `mean` and `std`, as pixels of 0..1."""
    return images * _channels(std) + _channels(mean)


def _channels(numbers: Sequence[float]) -> Tensor:
    """Return [C or 1, 1, 1]."""
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1)


def _distance(mean: np.ndarray, std: np.ndarray, stored_mean: np.ndarray, stored_std: np.ndarray) -> float:
    """Return the misfit of one layer from moments [C], 0 (none) to 2."""
    spread = std + stored_std
    off, wider = (mean - stored_mean) / spread, (std - stored_std) / spread
    return float((off**2 / (1 + off**2) + wider**2).mean())
