"""The loss of GENIE-D: how far images are from the statistics that a network's BatchNorm layers store.

    L = input term + sum over BN layers l of  mse(mu_l(x), mu_l) + mse(sigma_l(x), sigma_l)        (paper, Eq. 5)

mu_l(x), sigma_l(x) are mean and standard deviation, per channel over batch and positions, of what enters layer l;
mu_l and sigma_l = sqrt(running_var + eps) are what the model stores; mse is the squared norm over the number of channels.
The input term does the same with each image and channel of the normalised input, against 0 and 1.
Tensors in, tensors out: no model here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

# Below this a standard deviation is taken for zero: a dead channel must not divide by it.
TINY = 1e-6
# torch adds up channels_last statistics in float32, one row after the other: 1.6 million rows lose three digits
# (measured), pieces of half a million elements lose none that matter and cost 10-30 % more of 2 % of the time.
PIECE = 2**19


class BatchNormStatistics(Protocol):
    """What is read of a BatchNormalization node, e.g. of `genie_onnx.graph.BatchNorm`."""

    @property
    def value(self) -> str:
        """Name of the value that enters the layer."""

    @property
    def mean(self) -> np.ndarray:
        """Running mean, float32 [C]."""

    @property
    def std(self) -> np.ndarray:
        """sqrt(running variance + eps), float32 [C]."""

    @property
    def measured(self) -> bool:
        """Whether the layer has ever seen data."""


@dataclass(frozen=True)
class Targets:
    """Stored statistics of all layers end to end, K = sum of their channels: three float32 tensors [K]."""

    mean: Tensor
    std: Tensor
    weight: Tensor  # 1 / channels of the layer that an entry belongs to


def with_measurements(batchnorms: Sequence[BatchNormStatistics]) -> tuple[BatchNormStatistics, ...]:
    """Return those of `batchnorms` that have ever seen data: the others say nothing about images."""
    return tuple(b for b in batchnorms if b.measured)


def targets(batchnorms: Sequence[BatchNormStatistics], device: torch.device) -> Targets:
    """Return the statistics of `batchnorms` in their order, on `device`."""

    def flat(arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays).astype(np.float32)).to(device)

    return Targets(
        mean=flat([b.mean for b in batchnorms]),
        std=flat([b.std for b in batchnorms]),
        weight=flat([np.full(len(b.mean), 1.0 / len(b.mean)) for b in batchnorms]),
    )


def var_mean(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the biased variance and the mean of each channel of `x` [N, C, ...], of float32 at least, [C] each."""
    if x.dtype.itemsize < 4:
        x = x.float()  # half precision would give the moments themselves seven bits
    if x.device.type != "cpu":
        return torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
    # On a CPU torch.var_mean is scalar code, ten times slower (measured) than what batch normalisation itself uses.
    pieces = x.split(max(1, PIECE * x.shape[0] // x.numel()))
    parts = [torch.batch_norm_update_stats(piece, None, None, 0.0) for piece in pieces]
    if len(parts) == 1:
        mean, variance = parts[0]
        return variance, mean
    return together([(variance, mean) for mean, variance in parts], [len(piece) / len(x) for piece in pieces])


def together(parts: Sequence[tuple[Tensor, Tensor]], shares: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return variance and mean [C] of a whole from those of its `parts`, each with its share of the elements."""
    variances, means = (torch.stack(column) for column in zip(*parts, strict=True))
    share = torch.stack([means.new_full((), share) for share in shares])  # no copy from the host: a captured step may have none
    mean = share @ means
    return share @ (variances + (means - mean).square()), mean


def deviation(variance: Tensor, count: int) -> Tensor:
    """Return the standard deviation that a biased `variance` over `count` elements stands for, at least TINY.

    running_var is an average of unbiased variances (torch, Keras), hence count - 1.
    """
    return (variance * (count / max(count - 1, 1))).sqrt().clamp_min(TINY)


def element_slope(mean: Tensor, std: Tensor, count: int, grad_mean: Tensor, grad_std: Tensor) -> tuple[Tensor, Tensor]:
    """Return a, b [C] of the gradient a + b x with respect to each of the `count` elements x of a channel.

    d mean / d x = 1 / n,  d std / d x = (x - mean) / ((n - 1) std)
    """
    b = grad_std / (max(count - 1, 1) * std)
    return grad_mean / count - b * mean, b


def affine(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return a + b x, for `x` [N, C, ...] and a, b [C]."""
    shape = [1, -1] + [1] * (x.dim() - 2)
    return torch.addcmul(a.view(shape).to(x.dtype), x, b.view(shape).to(x.dtype))


class _MeanStd(torch.autograd.Function):
    """Mean and standard deviation with the gradient a + b x: one pass over `x` each way, `x` alone kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        count = x.numel() // x.shape[1]
        variance, mean = var_mean(x)
        std = deviation(variance, count)
        ctx.save_for_backward(x, mean, std)
        return mean, std

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, mean, std = ctx.saved_tensors
        return affine(x, *element_slope(mean, std, x.numel() // x.shape[1], *gradients))


def mean_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and (unbiased) standard deviation of each channel of `x` [N, C, ...]: two float32 tensors [C].

    Differentiable once. A channel without variation has the deviation `TINY` and gradients that stay finite.
    """
    mean, std = _MeanStd.apply(x)
    return mean, std


def bn_loss(values: Sequence[Tensor], stored: Targets) -> Tensor:
    """Return Eq. 5 as a scalar tensor: `values` [N, C_l, ...] are what enters each layer, in the order of `stored`."""
    return statistics_loss([mean_std(value) for value in values], stored)


def statistics_loss(measured: Sequence[tuple[Tensor, Tensor]], stored: Targets) -> Tensor:
    """Return Eq. 5 as a scalar tensor from mean and deviation [C_l] of what enters each layer, in the order of `stored`."""
    mean, std = torch.cat([m for m, _ in measured]), torch.cat([s for _, s in measured])
    return ((mean - stored.mean).square() + (std - stored.std).square()) @ stored.weight


def input_loss(images: Tensor) -> Tensor:
    """Return the input term as a scalar tensor: `images` [N, C, H, W] in normalised units (mean 0, deviation 1).

    Each image and channel counts by itself: mse(mean, 0) + mse(std, 1) over the N C pairs.
    """
    mean = images.mean((2, 3))
    variance = images.square().mean((2, 3)) - mean.square()  # no cancellation: the values are around 1
    return mean.square().mean() + (variance.clamp_min(TINY).sqrt() - 1).square().mean()


def batch_loss(images: Tensor) -> Tensor:
    """Return the same for all of `images` together, a scalar tensor: mse(mean, 0) + mse(std, 1) over the C channels."""
    mean, std = mean_std(images)
    return mean.square().mean() + (std - 1).square().mean()
