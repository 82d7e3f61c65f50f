"""Statistics that a network without BatchNorm plausibly has: those on procedural images, corrected by what these lack.

    mean_l = mean on dead leaves,  std_l = (1 + DEEPER * depth_l) * deviation on them,  depth_l = 0 .. 1 from first to last layer

Dead leaves come near to what training images leave in a network (correlation of a layer's logarithmic deviations, median over
the layers: 0.99 on a CIFAR ResNet-20, 0.82 on an ImageNet MobileNetV1), but the deeper the layer, the
less they excite it: photographs hold what it looks for, and leaves do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from genie_onnx.events import Step, Tally
from genie_onnx.importer import Network
from genie_onnx.synthesis.procedural import procedural
from genie_onnx.synthesis.statistics import Measured, measure

# Median deviation in the last third of the layers, of the stored one: 0.88 on a CIFAR ResNet-20, 0.95 on MLPerf's ResNet-8, 0.76
# on an ImageNet MobileNetV1, 0.73 on a detector; in the first third 0.73 .. 1.2 of it.
DEEPER = 0.25
IMAGES, IMAGE_PIXELS = 1024, 32 * 32  # measured on so many, down to a sixteenth of it for images of more pixels ...
MOST_PIXELS, FEWEST = 2**26, 8  # ... and fewer for pictures of a camera: gigabytes and minutes


def image_count(shape: tuple[int, int, int]) -> int:
    """Return on how many procedural images [C, H, W] = `shape` is measured."""
    pixels = shape[1] * shape[2]
    usual = int(np.clip(IMAGES * IMAGE_PIXELS // pixels, IMAGES // 16, IMAGES))
    return min(usual, max(FEWEST, MOST_PIXELS // pixels))


def plausible(
    network: Network,
    values: Sequence[str],
    shape: tuple[int, int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
    device: torch.device,
    progress: Callable[[Step], None] = lambda step: None,
) -> tuple[Measured, ...]:
    """Return plausible moments of `values` [N, C, ...] of `network`, which are in topological order.

    shape: C, H, W of an image; mean, std: of the model's input, one number a channel. Procedural images come from `generator`.
    """
    count = image_count(shape)
    tell = Tally(progress, Step(stage="statistics", iterations=2 * count))  # painting an image counts as much as measuring on it
    images = procedural(count, shape, mean=mean, std=std, generator=generator, tell=tell)
    found = measure(network, values, images, device, lambda done: tell(count + done))
    depths = np.linspace(0, 1, len(found), dtype=np.float32)
    return tuple(replace(m, std=m.std * (1 + np.float32(DEEPER) * depth)) for m, depth in zip(found, depths, strict=True))
