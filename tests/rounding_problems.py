"""Random layers for tests: weights, correlated inputs, and what a coarse grid leaves of these."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genie_onnx.closed_form import Moments, Split, Sums


class Problem(NamedTuple):
    """`weight` [g, R, n]; columns [g, M, n] of both networks, to be rounded with and to be judged by."""

    weight: Tensor
    x: Tensor
    x_q: Tensor
    held: Tensor
    held_q: Tensor

    @property
    def moments(self) -> Moments:
        return moments(self.x, self.x_q)

    def loss(self, rounded: Tensor) -> float:
        """Mean squared error on held-out columns, the mean of each output set right."""
        error = self.held @ self.weight.mT - self.held_q @ rounded.mT
        return float((error - error.mean(1, keepdim=True)).square().mean())


def problem(seed: int, groups: int = 1, rows: int = 8, features: int = 24, columns: int = 2000, codes: int = 15) -> Problem:
    """Features are non-negative and share a few causes, as behind a Relu; x_q is on a grid of 0 and `codes` more."""
    generator = torch.Generator().manual_seed(seed)
    causes = max(2, features // 4)
    mix = torch.randn(groups, causes, features, generator=generator)
    hidden = torch.randn(groups, 2 * columns, causes, generator=generator)
    own = 0.3 * torch.randn(groups, 2 * columns, features, generator=generator)
    x = (hidden @ mix + own).relu()
    x, held = x[:, :columns], x[:, columns:]
    weight = torch.randn(groups, rows, features, generator=generator)
    step = 0.7 * float(x.max()) / codes  # what is beyond is clipped, as by a searched grid
    return Problem(weight, x, on_grid(x, step, codes), held, on_grid(held, step, codes))


def on_grid(x: Tensor, step: float, codes: int) -> Tensor:
    """The nearest of the numbers 0, step, ... codes step."""
    return (x / step).round().clamp(0, codes) * step


def moments(x: Tensor, x_q: Tensor, parts: int = 1) -> Moments:
    """Those of columns [g, M, n], features in so many parts."""
    found = Sums(x.shape[0], Split(x.shape[2], parts), x.device)
    found.add(x, x_q)
    return found.moments()
