"""How much work a run is: presets of numbers of images and iterations, and the learning rate that suits few iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genie_onnx.config import ReconstructConfig, Start

Preset = Literal["fast", "balanced", "paper"]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much work a preset spends: images, distillation iterations a batch and from where, learning iterations a block behind
    the closed form, and as many where weights have NARROWEST bits; of large images so many are distilled that they have
    `most_pixels` together.

    At 3 and 4 bits learning gains nothing over the closed form that seeds would show, at 2 bits about a point (CIFAR ResNet-20).
    60 steps from dead leaves make images that serve better than 180 of a generator, and than 150 (benchmarks/RESULTS.md).
    """

    samples: int
    distill_iterations: int
    start: Start
    reconstruct_iterations: int
    narrow_iterations: int
    most_pixels: int | None = None


PRESETS: dict[Preset, Effort] = {
    "fast": Effort(
        samples=256,
        distill_iterations=60,
        start="leaves",
        reconstruct_iterations=0,
        narrow_iterations=250,
        most_pixels=64 * 224 * 224,
    ),
    "balanced": Effort(samples=512, distill_iterations=60, start="leaves", reconstruct_iterations=1000, narrow_iterations=1000),
    # as published, but for the start: --no-closed-form
    "paper": Effort(
        samples=1024, distill_iterations=4000, start="generator", reconstruct_iterations=20000, narrow_iterations=20000
    ),
}

TRAVEL, FASTEST_ROUNDING = 2.5, 2e-2


def rounding_rate(iterations: int) -> float:
    """Return the learning rate of the rounding logits for so many iterations: the published 1e-3, or more where they are few.

    A logit travels at most iterations x rate, and has to travel about TRAVEL for a bit to turn. 200 iterations at 1e-3 gave
    31.6 % at W2A4 on MLPerf's ResNet-8, at 1e-2 69.7 %; 1,000 at 1e-2 fit a CIFAR ResNet-20 to the images that it was given, and
    did worse on others than 500 at 5e-3 (all in benchmarks/RESULTS.md).
    """
    return min(max(ReconstructConfig.rounding_lr, TRAVEL / max(iterations, 1)), FASTEST_ROUNDING)
