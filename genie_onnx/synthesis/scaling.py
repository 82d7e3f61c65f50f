"""From normalised images u (mean 0, deviation 1) to what the model reads: x = mean + std * u, per channel.

Where the user knows mean and std of the model's input, they are used as given. Where not, they are learned: a start is searched
so that procedural images, scaled so, give the statistics that the first BatchNorm layer stores (`search`); from there an
offset a and a gain exp(b) in units of that start are trained along with the images:

    x = mean + std * (a + exp(b) * u)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from genie_onnx.synthesis.bn_loss import mean_std
from genie_onnx.synthesis.procedural import procedural

SAMPLES = 8  # procedural images that the search looks at
STEPS = 100  # of Adam, after the grid
GAINS = 2.0 ** torch.arange(-8, 11)  # common std of all channels: 1/256 ... 1024
CENTRES = torch.tensor([0.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0])  # common mean / std
STEP_TRIALS = 4  # what a step costs: with its gradient, as much as so many looks
TRIALS = len(GAINS) * len(CENTRES) + STEP_TRIALS * STEPS  # what all that takes, in statistics of the first layer


class Scaling(nn.Module):
    """x = mean + std * u for fixed statistics, or the learned form above if `learn`."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, *, learn: bool) -> None:
        """`mean` and `std`: float32 [C]."""
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))
        self.offset = nn.Parameter(torch.zeros_like(self.mean), requires_grad=learn)
        self.log_gain = nn.Parameter(torch.zeros_like(self.std), requires_grad=learn)

    def forward(self, u: Tensor) -> Tensor:
        """Return x float32 [N, C, H, W] for `u` of the same shape."""
        if not self.offset.requires_grad:
            return torch.addcmul(self.mean, u, self.std)
        return torch.addcmul(self.mean + self.std * self.offset, u, self.std * self.log_gain.exp())

    def weights(self) -> list[nn.Parameter]:
        """What is learned, possibly nothing."""
        return [p for p in self.parameters() if p.requires_grad]


def search(
    first: Callable[[Tensor], Tensor],
    mean: Tensor,
    std: Tensor,
    shape: tuple[int, int, int],
    generator: torch.Generator,
    tell: Callable[[int], None] = lambda done: None,
) -> tuple[Tensor, Tensor]:
    """Return mean and std [C] of the input for which the first BatchNorm layer sees the statistics it stores.

    first: images [N, C, H, W] -> what enters that layer [N, C_1, ...]; mean, std: what it stores, [C_1], on the device to use.
    `tell` is told how many of TRIALS are done.
    Fitted on procedural images by a grid over one mean and std for all channels, then by gradient for each channel.
    """
    u = procedural(SAMPLES, shape, mean=None, std=None, generator=generator).to(mean.device)

    def misfit(centre: Tensor, log_gain: Tensor) -> Tensor:
        """How far the layer's statistics are off, as shares between 0 and 1: a dead channel cannot outvote the others."""
        measured_mean, measured_std = mean_std(first(log_gain.exp() * (centre + u)))
        spread = measured_std + std
        off = (measured_mean - mean) / spread
        return (off.square() / (1 + off.square())).mean() + ((measured_std - std) / spread).square().mean()

    channels = (1, shape[0], 1, 1)
    starts = [(c.expand(channels), g.log().expand(channels)) for g in GAINS.to(u) for c in CENTRES.to(u)]
    losses = []
    with torch.no_grad():
        for look, start in enumerate(starts, start=1):
            losses.append(misfit(*start))
            tell(look)
    centre, log_gain = (t.clone().requires_grad_() for t in starts[int(torch.stack(losses).nan_to_num(float("inf")).argmin())])
    optimiser = torch.optim.Adam([centre, log_gain], lr=0.05)
    for step in range(1, STEPS + 1):
        optimiser.zero_grad()
        misfit(centre, log_gain).backward()
        optimiser.step()
        tell(len(starts) + STEP_TRIALS * step)
    gain = log_gain.detach().exp()
    return (gain * centre.detach()).flatten(), gain.flatten()
