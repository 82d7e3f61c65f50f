"""The published reconstruction loop, transcribed plainly, as the baseline that benchmarks/speed.py measures against.

One ResNet basic block (conv-relu-conv-add-relu) in eager PyTorch, an operator for each term of the formulas, NCHW, a float
random number for each element of every mask, one quantizer module a tensor, the rounding term summed module by module:
the way the authors' code runs (METHOD 2 and 3). Not used by the package.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAMMA, ZETA = -0.1, 1.1


def round_ste(x: Tensor) -> Tensor:
    return (x.round() - x).detach() + x


class PlainActivation(nn.Module):
    """LSQ with QDrop: x_q = s round(clip(x / s)), each element left alone with probability 0.5."""

    def __init__(self, scale: float, bits: int) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.tensor(scale))
        self.levels = 2**bits

    def forward(self, x: Tensor) -> Tensor:
        x_int = round_ste(x / self.delta)
        x_quant = torch.clamp(x_int, 0, self.levels - 1)
        x_dequant = x_quant * self.delta
        return torch.where(torch.rand_like(x) < 0.5, x_dequant, x)


class PlainWeight(nn.Module):
    """w_q = s (clip(B + h(v) + z, 0, 2^b - 1) - z), s and v trained."""

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.levels = 2**bits
        low, high = weight.flatten(1).amin(1), weight.flatten(1).amax(1)
        scale = ((high - low) / (self.levels - 1)).view(-1, 1, 1, 1)
        self.delta = nn.Parameter(scale)
        self.zero_point = (-low.view(-1, 1, 1, 1) / scale).round()
        self.base = torch.floor(weight / scale)
        rest = weight / scale - torch.floor(weight / scale)
        self.alpha = nn.Parameter(-torch.log((ZETA - GAMMA) / (rest - GAMMA) - 1))

    def soft_bits(self) -> Tensor:
        return torch.clamp(torch.sigmoid(self.alpha) * (ZETA - GAMMA) + GAMMA, 0, 1)

    def forward(self) -> Tensor:
        x_int = self.base + self.soft_bits()
        x_quant = torch.clamp(x_int + self.zero_point, 0, self.levels - 1)
        return (x_quant - self.zero_point) * self.delta


class PlainBlock(nn.Module):
    """relu(x_q + conv2(q(relu(conv1(x_q))))) with x_q = q(x)."""

    def __init__(
        self, weights: tuple[Tensor, Tensor], biases: tuple[Tensor, Tensor], scales: tuple[float, float], bits: int
    ) -> None:
        super().__init__()
        self.weights = [PlainWeight(w, bits) for w in weights]
        self.activations = [PlainActivation(s, bits) for s in scales]
        self.biases = biases

    def forward(self, x: Tensor) -> Tensor:
        x = self.activations[0](x)
        y = F.relu(F.conv2d(x, self.weights[0](), self.biases[0], padding=1))
        y = F.conv2d(self.activations[1](y), self.weights[1](), self.biases[1], padding=1)
        return F.relu(x + y)


class PlainLoop:
    """The state of the loop; `step()` is one iteration."""

    def __init__(self, block: PlainBlock, x: Tensor, x_q: Tensor, y: Tensor, iterations: int, batch_size: int = 32) -> None:
        self.block, self.x, self.x_q, self.y = block, x, x_q, y
        self.iterations, self.batch_size, self.iteration = iterations, batch_size, 0
        self.round_opt = torch.optim.Adam([w.alpha for w in block.weights], lr=1e-3)
        self.scale_opt = torch.optim.Adam([w.delta for w in block.weights], lr=1e-4)
        self.act_opt = torch.optim.Adam([a.delta for a in block.activations], lr=4e-5)
        self.schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=iterations, eta_min=0.0) for o in (self.scale_opt, self.act_opt)
        ]

    def step(self) -> None:
        chosen = torch.randperm(len(self.x))[: self.batch_size]
        x, x_q, y = self.x[chosen], self.x_q[chosen], self.y[chosen]
        x_mix = torch.where(torch.rand_like(x) < 0.5, x_q, x)
        optimisers = (self.round_opt, self.scale_opt, self.act_opt)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss = (self.block(x_mix) - y).abs().pow(2).sum(1).mean()
        warmup = 0.2 * self.iterations
        if self.iteration >= warmup:
            beta = 2 + 18 * (1 - (self.iteration - warmup) / (self.iterations - warmup))
            for weight in self.block.weights:
                loss = loss + (1 - ((weight.soft_bits() - 0.5).abs() * 2).pow(beta)).sum()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        for schedule in self.schedules:
            schedule.step()
        self.iteration += 1
        assert not math.isnan(loss.item())  # the published loop reads the loss back for its log
