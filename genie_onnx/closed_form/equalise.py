"""How much each channel of a value is to be scaled so that all use its one grid alike.

    c_c = the range that loses least when channel c alone is rounded to b bits
    e_c = (C / c_c)^alpha        C the geometric mean of all c_c, or the ceiling M of a Clip(0, M), where e_c >= 1

With one scale an output channel in every weight, the producer absorbs e_c whole. So does a depthwise consumer: alpha = 1. A dense
consumer has its columns divided by e_c, which spreads its rows (SmoothQuant, Xiao et al., ICML 2023, takes alpha = 1/2). What the
value gains and the weights lose is estimated (`noise`), and the best of a few alpha is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genie_onnx.quant import activation_grid, fake_quantize, weight_grid
from genie_onnx.targets import Constraints

SHRUNK = tuple(k / 100 for k in range(100, 8, -4))
LARGEST = 16.0  # a channel that is (almost) dead on the images is not blown up beyond this
DEPTHWISE, DENSE = 1.0, 0.5  # alpha; towards dense layers where their noise cannot be told
EXPONENTS = (0.25, 0.5, 0.75, 1.0)  # alpha that are tried towards dense layers


def best_clips(samples: Tensor, bits: int) -> Tensor:
    """Return c [C]: of each row of `samples` [C, n], the range that loses least when it is rounded to `bits`.

    They are rounded to a symmetric grid where any of them has a negative number, as all will share one, else to an unsigned one.
    0 where all of a row are 0.
    """
    widest = samples.abs().amax(1)
    signed = bool((samples < 0).any())
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    best, clips = torch.full_like(widest, torch.inf), widest.clone()
    for ratio in SHRUNK:
        scale = (widest * ratio / high).clamp_min(torch.finfo(widest.dtype).tiny * 1e3)[:, None]
        error = (samples / scale).round_().clamp_(low, high).mul_(scale).sub_(samples).square_().mean(1)
        better = error < best
        best, clips = torch.where(better, error, best), torch.where(better, widest * ratio, clips)
    return clips


def factors(clips: Tensor, exponents: Tensor, ceilings: Tensor) -> Tensor:
    """Return e [C] for clips c, exponents alpha and ceilings M (inf: none), [C] each.

    Channels that are 0 on all images keep e = 1.
    """
    alive = clips > 0
    if not bool(alive.any()):
        return torch.ones_like(clips)
    mean = clips[alive].log().mean().exp()
    goal = torch.where(ceilings.isfinite(), ceilings, mean)
    wanted = (goal / torch.where(alive, clips, goal)).pow(exponents)
    least = torch.where(ceilings.isfinite(), torch.ones_like(clips), torch.full_like(clips, 1 / LARGEST))
    return torch.maximum(wanted, least).clamp_max(LARGEST)


class Reader(NamedTuple):
    """A layer that reads a value of C = g c channels: its `weight`, float32 [g, R, c, K] for K taps, and their `bits`."""

    weight: Tensor
    bits: int


def noise(
    samples: Tensor, scaling: Tensor, ceilings: Tensor, bits: int, readers: Sequence[Reader], constraints: Constraints
) -> float:
    """Return the variance that rounding adds to what `readers` compute, about, summed over their outputs.

    `samples` [C, n] are of the value, `bits` its own, e = `scaling` and `ceilings` [C] as in `factors`.

        of the value      sum_c |W_:c|^2 var(x_qc / e_c - x_c)           x_q on one grid for all e_c x_c, searched
        of the weights    sum_r step_r^2 / 12 sum_c e_c^2 var(x_c)       the grid of each row of W / e, searched

    Means are left out: biases take them.
    """
    e = scaling[:, None]
    x = torch.minimum(samples * e, ceilings[:, None])
    grid = activation_grid(x.flatten(), x.min(), x.max(), bits, constraints, norm=2.0)
    error = (fake_quantize(x, grid.scale, int(grid.zero_point), 2**bits - 1) / e - samples).var(1, correction=0)
    total = 0.0
    for weight, width in readers:
        groups, _, channels, _ = weight.shape
        power = x.var(1, correction=0).view(groups, 1, channels, 1).expand_as(weight).flatten(0, 1).flatten(1)
        rows = (weight / scaling.view(groups, 1, channels, 1)).flatten(0, 1).flatten(1)
        step = weight_grid(rows, width, constraints, power).scale
        total += float(weight.square().sum((1, 3)).flatten() @ error + (step.square() / 12) @ power.sum(1))
    return total
