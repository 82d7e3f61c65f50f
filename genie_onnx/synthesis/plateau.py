"""A learning rate that falls when the loss stops falling, kept on the device.

The rule of torch's ReduceLROnPlateau (mode min, relative threshold) as tensor arithmetic: that one reads the loss back in every
step, which makes a GPU wait for the host; this one never leaves the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

THRESHOLD = 1e-4  # torch's default: an improvement is a loss below best * (1 - threshold)


class PlateauRate:
    """`rate` (a scalar tensor, changed in place: hand it to the optimiser) x `factor` after `patience` steps without progress."""

    def __init__(
        self, rate: float, *, device: torch.device, patience: int = 100, factor: float = 0.1, minimum: float = 1e-4
    ) -> None:
        self.rate = torch.tensor(rate, device=device)
        self.patience, self.factor = patience, factor
        self._floor = torch.tensor(min(minimum, rate), device=device)
        self._best = torch.tensor(float("inf"), device=device)
        self._bad = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self, loss: Tensor) -> None:
        """Take note of `loss`, a scalar tensor on the device, after an optimiser step."""
        better = loss < self._best * (1 - THRESHOLD)
        # in place: a captured step reads and writes the same memory every time
        self._best.copy_(torch.where(better, loss, self._best))
        self._bad.copy_(torch.where(better, 0.0, self._bad + 1))
        stuck = self._bad > self.patience
        self._bad.masked_fill_(stuck, 0.0)
        self.rate.copy_(torch.where(stuck, torch.maximum(self.rate * self.factor, self._floor), self.rate))
