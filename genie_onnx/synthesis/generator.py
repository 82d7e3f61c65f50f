"""The generator G of GENIE-D, z [N, latent] -> images [N, C, H, W] of mean 0 and deviation 1.

    linear -> 128 x h/4 x w/4, BN, up x2, conv3x3 -> 64, BN, LeakyReLU(0.2), up x2, conv3x3 -> C, crop, tanh, BN without affine

h, w are H, W rounded up to a multiple of 4 and cropped back, so any size is served. Every BN normalises with the statistics of
the batch at hand: an image depends on the others of its batch, and a batch has at least 2.
The layout is that of the published results; the linear layer has 128 h w / 16 * latent weights (103 million at 224x224).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.synthesis.upsampled_conv import upsampled_conv

WIDE, NARROW = 128, 64


def _uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> nn.Parameter:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's own default for linear and convolution, from a generator of one's own."""
    bound = 1.0 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


class Generator(nn.Module):
    """G(z). Stateless between calls; weights drawn from `generator` (on the CPU, so that all devices start alike)."""

    def __init__(self, shape: tuple[int, int, int], latent_size: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        self.rows, self.columns = math.ceil(self.height / 4), math.ceil(self.width / 4)
        units = WIDE * self.rows * self.columns
        self.linear_weight = _uniform((units, latent_size), latent_size, generator)
        self.linear_bias = _uniform((units,), latent_size, generator)
        self.norm1 = nn.BatchNorm2d(WIDE, track_running_stats=False)
        self.conv1_weight = _uniform((NARROW, WIDE, 3, 3), WIDE * 9, generator)
        self.conv1_bias = _uniform((NARROW,), WIDE * 9, generator)
        self.norm2 = nn.BatchNorm2d(NARROW, track_running_stats=False)
        self.conv2_weight = _uniform((channels, NARROW, 3, 3), NARROW * 9, generator)
        self.conv2_bias = _uniform((channels,), NARROW * 9, generator)
        self.norm3 = nn.BatchNorm2d(channels, affine=False, track_running_stats=False)

    def forward(self, z: Tensor) -> Tensor:
        """Return float32 [N, C, H, W] for `z` float32 [N, latent], N >= 2; each channel has mean 0 and deviation 1."""
        x = F.linear(z, self.linear_weight, self.linear_bias)
        # The order of the units is free: with the channels last no copy is needed for the memory format of the convolutions.
        x = x.view(-1, self.rows, self.columns, WIDE).permute(0, 3, 1, 2)  # [N, 128, h/4, w/4]
        x = upsampled_conv(self.norm1(x), self.conv1_weight, self.conv1_bias)  # [N, 64, h/2, w/2]
        x = F.leaky_relu(self.norm2(x), 0.2)
        x = upsampled_conv(x, self.conv2_weight, self.conv2_bias)  # [N, C, h, w]
        return self.norm3(torch.tanh(x[:, :, : self.height, : self.width]))
