"""What can come at a model's input: made images within what pixels can be there, and images to judge on that look alike.

pixels 0..255 -> (pixel / 255 - mean) / std -> a span, where mean and std are known; else that of the images at hand
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genie_onnx.config import QuantizeConfig
from genie_onnx.images.choice import judged_on
from genie_onnx.seeds import stream
from genie_onnx.synthesis import procedural


def as_pixels(images: Tensor, config: QuantizeConfig) -> Tensor:
    """Return made `images` [N, C, H, W] within what pixels 0..255 are in the model's input space, where that is known.

    No other image ever comes, nor does the grid of the input hold another. MobileNetV1, painted images, W4A8: the outputs are at
    10.3 dB of the float ones in place of 9.3.
    """
    if config.mean is None or config.std is None:
        return images
    mean, std = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (config.mean, config.std))
    return images.clamp(-mean / std, (1 - mean) / std)


def pixel_range(config: QuantizeConfig) -> tuple[float, float] | None:
    """Return what pixels 0..255 become in the model's input space, over all channels; None where that space is not known."""
    if config.mean is None or config.std is None:
        return None
    pairs = list(zip(config.mean, config.std, strict=True))
    return min(-mean / std for mean, std in pairs), max((1 - mean) / std for mean, std in pairs)


def span_of(*images: Tensor) -> tuple[float, float]:
    return min(float(part.min()) for part in images), max(float(part.max()) for part in images)


def painted_like(
    images: Tensor, shape: tuple[int, int, int], config: QuantizeConfig, tell: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Return procedural images to judge on, with the mean and std that `images` have in each channel."""
    std, mean = torch.std_mean(images, (0, 2, 3))
    generator = stream(config.seed, "held-back")
    std = std.nan_to_num(1.0)
    made = procedural(judged_on(shape), shape, mean=mean.tolist(), std=std.tolist(), generator=generator, tell=tell)
    return as_pixels(made, config)
