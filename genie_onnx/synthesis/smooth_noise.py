"""Samples that are no pictures (features over time, many channels): smooth Gaussian noise, every channel for itself.

    amplitude of a frequency f ~ 1 / |f|,  the phases at random

What is known of most signals: neighbours are alike, slow parts are strong. Of channels nothing is known, so they are unrelated.
"""

from __future__ import annotations

import torch
from torch import Tensor


def smooth_noise(samples: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Return float32 [samples, C, H, W] of any mean and deviation, drawn from `generator` (on the CPU)."""
    _, height, width = shape
    across, along = torch.fft.fftfreq(height).view(-1, 1), torch.fft.rfftfreq(width)
    frequency = torch.hypot(across, along).clamp_min(1 / max(height, width))  # the constant part is as strong as the slowest
    size = (samples, shape[0], *frequency.shape)
    waves = torch.complex(torch.randn(size, generator=generator), torch.randn(size, generator=generator)) / frequency
    return torch.fft.irfft2(waves, s=(height, width))
