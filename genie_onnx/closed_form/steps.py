"""The step of a layer's input, by what it does to the layer's output.

    E(s) = sum_c m_c mean (s round(x_q,c / s) - x_c)^2        m_c = sum of the squares of the weights that read channel c

x_q is what the quantised network hands the layer before it is rounded, x what the float network has there. A channel that hardly
anything reads may be clipped; the search of Eq. 6 does not know, nor that channels were scaled to be alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

RATIOS = tuple(k / 20 for k in range(8, 33))  # of the step that was found without a look at the layer


def channel_weights(rows: Tensor, channels: int) -> Tensor:
    """Return m [C] of a weight as `rows` [g, R, n], whose features are (channel of the group, tap)."""
    squares = rows.square().sum(1)  # [g, n]
    return squares.reshape(channels, -1).sum(1)


def best_step(x: Tensor, x_q: Tensor, weights: Tensor, step: float, zero_point: int, qmax: int) -> float:
    """Return the step among RATIOS of `step` with the least E. `x`, `x_q` [C, n], `weights` [C]."""
    errors = []
    for ratio in RATIOS:
        s = step * ratio
        rounded = (x_q / s).round_().clamp_(-zero_point, qmax - zero_point).mul_(s)
        errors.append((rounded.sub_(x).square_().mean(1) * weights).sum())
    return step * RATIOS[int(torch.stack(errors).argmin())]
