"""How much each channel of a value is to be scaled so that all use its one grid alike.

    c_c = the range that loses least when channel c alone is rounded to b bits
    e_c = (C / c_c)^alpha        C the geometric mean of all c_c, or the ceiling M of a Clip(0, M), where e_c >= 1

With one scale an output channel in every weight, the producer absorbs e_c whole. So does a depthwise consumer: alpha = 1. A dense
consumer has its columns divided by e_c, which spreads its rows: alpha = 1/2, as in SmoothQuant (Xiao et al., ICML 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

SHRUNK = tuple(k / 100 for k in range(100, 8, -4))
LARGEST = 16.0  # a channel that is (almost) dead on the images is not blown up beyond this
DEPTHWISE, DENSE = 1.0, 0.5  # alpha


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
