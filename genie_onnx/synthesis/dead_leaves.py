"""Pictures out of nothing: dead leaves, coloured shapes that hide one another.

Random overlapping ellipses and rectangles with power-law sizes have edges, flat parts and the scale invariance of photographs
(Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001); the colours of an image are related, each shape has
a slight gradient, the whole a little noise and a mild blur.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Chosen by how well the images fit the BatchNorm statistics of two trained networks (Eq. 5; a CIFAR ResNet-20 and an ImageNet
# MobileNetV1): 2.7 and 40 against 37 and 227 for Gaussian noise, 0.9 and 14 for photographs.
SHAPES = 128  # shapes an image: the first fill it, the last are in front
SMALLEST, LARGEST = 0.02, 0.4  # half size of a shape, as a share of the image's longer side; density ~ size^-2
PALETTE = 4  # colours an image
LIGHT, TINT = 0.4, 0.06  # how far the colours of an image are apart: all channels together, and each by itself
IMAGE_LIGHT, IMAGE_TINT = 0.15, 0.06  # the same between images
JITTER = 0.12  # of a shape's colour around its place in the palette
SLOPE = 0.1  # change of a shape's colour from its centre to its edge
NOISE = 0.06  # of a pixel, before the blur
BLUR = 0.125  # weight of either neighbour
PIECE = 2**21  # values painted at a time: bounds the memory at about ten times as many bytes


def dead_leaves(
    samples: int, shape: tuple[int, int, int], generator: torch.Generator, tell: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Return float32 [samples, C, H, W] of any mean and deviation, drawn from `generator` (on the CPU).

    Images differ in brightness and contrast, as photographs do. `tell` is told how many are painted.
    """
    channels, height, width = shape
    share = max(1, PIECE // (height * width * max(channels, 8)))
    pieces: list[Tensor] = []
    for first in range(0, samples, share):
        pieces.append(_paint(min(share, samples - first), shape, generator))
        tell(min(first + share, samples))
    return torch.cat(pieces)


def _paint(samples: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """One piece of them."""
    channels, height, width = shape

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator)

    palette = _related_colours(samples, channels, generator)  # [samples, PALETTE, C]
    choice = torch.randint(0, PALETTE, (samples, SHAPES), generator=generator)
    colours = palette.gather(1, choice[:, :, None].expand(-1, -1, channels))  # [samples, SHAPES, C]
    colours += JITTER * torch.randn(colours.shape, generator=generator)
    y = (torch.arange(height) + 0.5).view(1, height, 1)
    x = (torch.arange(width) + 0.5).view(1, 1, width)
    # Which shape is seen at a pixel, and its gradient there: painted once, whatever the number of channels.
    front = torch.zeros(samples, height, width, dtype=torch.int64)
    ramp = torch.zeros(samples, height, width)
    for index in range(SHAPES):
        # Sizes: inverse of the cumulative distribution of r^-2 between the limits.
        reach = torch.lerp(torch.tensor(1 / LARGEST), torch.tensor(1 / SMALLEST), uniform(samples, 1, 1)) / max(height, width)
        elongation = torch.exp2(uniform(samples, 1, 1) * 2 - 1)
        angle = uniform(samples, 1, 1) * math.pi
        cosine, sine = angle.cos() * reach, angle.sin() * reach
        down, right = uniform(samples, 1, 1) * height, uniform(samples, 1, 1) * width
        is_ellipse = bool(uniform(1) < 0.5)  # the same for all images of a piece
        slope = SLOPE * torch.randn(samples, 1, 1, generator=generator)
        size = torch.hypot(elongation, 1 / elongation) / reach  # from the centre to a corner
        rows, columns = _around(down, size, height), _around(right, size, width)
        dy, dx = y[:, rows] - down, x[:, :, columns] - right  # [samples, h, 1], [samples, 1, w]
        u = dx * (cosine / elongation) + dy * (sine / elongation)  # [samples, h, w]; the shape is within -1..1
        v = dy * (cosine * elongation) - dx * (sine * elongation)
        inside = (u.square() + v.square() if is_ellipse else torch.maximum(u.abs(), v.abs())) < 1
        front[:, rows, columns].masked_fill_(inside, index)
        part = ramp[:, rows, columns]
        part.copy_(torch.where(inside, slope * u, part))
    seen = front.view(samples, -1, 1).expand(-1, -1, channels)  # [samples, H W, C]
    canvas = colours.gather(1, seen).view(samples, height, width, channels).permute(0, 3, 1, 2)
    canvas = canvas + ramp[:, None] + NOISE * torch.randn(samples, channels, height, width, generator=generator)
    return _blur(canvas)


def _around(centre: Tensor, size: Tensor, end: int) -> slice:
    """Return the places 0..end that are within `size` of `centre` in any of the images: a shape covers a part of a large one."""
    first, last = float((centre - size).min()), float((centre + size).max())
    return slice(max(0, math.floor(first) - 1), min(end, math.ceil(last) + 1))


def _related_colours(samples: int, channels: int, generator: torch.Generator) -> Tensor:
    """Palettes [samples, PALETTE, C]: channels move together more than apart, and the colours of an image lie near its own."""

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    light = IMAGE_LIGHT * normal(samples, 1, 1) + LIGHT * normal(samples, PALETTE, 1)
    tint = IMAGE_TINT * normal(samples, 1, channels) + TINT * normal(samples, PALETTE, channels)
    return light + tint


def _blur(images: Tensor) -> Tensor:
    """`images` [N, C, H, W] under the kernel (BLUR, 1 - 2 BLUR, BLUR) in both directions, edges repeated."""
    padded = F.pad(images, (1, 1, 0, 0), mode="replicate")
    images = (padded[..., :-2] + padded[..., 2:]) * BLUR + padded[..., 1:-1] * (1 - 2 * BLUR)
    padded = F.pad(images, (0, 0, 1, 1), mode="replicate")
    return (padded[..., :-2, :] + padded[..., 2:, :]) * BLUR + padded[..., 1:-1, :] * (1 - 2 * BLUR)
