"""Samples without data and without statistics: dead leaves where the input is a picture, smooth noise where it is none.

Measured with a network on 40 features over 64 steps (float 82.8 %), W2A4, three seeds: smooth noise 82.2 to 82.8, white noise
82.4 to 82.8, dead leaves 81.2 to 81.7; at W4A4 82.5 to 83.0 all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genie_onnx.synthesis.dead_leaves import dead_leaves
from genie_onnx.synthesis.smooth_noise import smooth_noise

PICTURE_CHANNELS = 4  # grey, colour, and one more: transparency, infrared, depth


def is_picture(shape: tuple[int, int, int]) -> bool:
    """Whether an input [C, H, W] can be a picture: few channels, and more than one line."""
    return shape[0] <= PICTURE_CHANNELS and min(shape[1:]) > 1


def procedural(
    samples: int,
    shape: tuple[int, int, int],
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    generator: torch.Generator,
    tell: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Return float32 [samples, C, H, W] with `mean` and `std` in each channel, over all samples (None: 0 and 1).

    Everything is drawn from `generator` (on the CPU). `tell` is told how many are painted.
    """
    made = dead_leaves(samples, shape, generator, tell) if is_picture(shape) else smooth_noise(samples, shape, generator)
    channels = shape[0]
    deviation, centre = torch.std_mean(made, (0, 2, 3), keepdim=True, correction=0)
    wanted = torch.tensor(std if std is not None else [1.0] * channels).view(1, -1, 1, 1)
    offset = torch.tensor(mean if mean is not None else [0.0] * channels).view(1, -1, 1, 1)
    return (made - centre).mul_(wanted / deviation.clamp_min(1e-6)).add_(offset)
