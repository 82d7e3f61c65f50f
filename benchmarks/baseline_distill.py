"""The published distillation loop written down plainly, as the thing to be faster than. A baseline only: nothing uses it.

Eager torch modules in the default memory format, forward hooks on the BatchNorm layers that take torch.std_mean of their input,
autograd for everything, one scheduler object for each learning rate. Same losses, generator, optimisers and swing convolution as
genie_onnx.synthesis; the teacher is frozen here too, which the published code does not care for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.importer import BatchNormalization, Conv, Network
from genie_onnx.synthesis.bn_loss import BatchNormStatistics


class PlainGenerator(nn.Module):
    """z [N, latent] -> images [N, C, H, W]; H and W multiples of 4."""

    def __init__(self, shape: tuple[int, int, int], latent_size: int = 256) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        self.linear = nn.Linear(latent_size, 128 * (self.height // 4) * (self.width // 4))
        self.blocks = nn.Sequential(
            nn.BatchNorm2d(128),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(64, channels, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(channels, affine=False),
        )

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.blocks(self.linear(z).view(len(z), 128, self.height // 4, self.width // 4))
        return images


class PlainSwing(nn.Module):
    """A strided convolution behind a random shift."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, *parameters: Tensor) -> Tensor:
        dy, dx = torch.randint(0, 3, (2,)).tolist()
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        result: Tensor = self.conv(padded[:, :, dy : dy + x.shape[2], dx : dx + x.shape[3]], *parameters)
        return result


def baseline(
    network: Network,
    batchnorms: Sequence[BatchNormStatistics],
    shape: tuple[int, int, int],
    batch_size: int,
    device: torch.device,
) -> Callable[[], float]:
    """Return a function that makes one iteration and returns its loss."""
    teacher = copy.deepcopy(network.module).to(device)
    for node in list(teacher.graph.nodes):
        if node.op == "call_module":
            layer = teacher.get_submodule(node.target)
            if isinstance(layer, Conv) and max(layer.stride) > 1:
                teacher.set_submodule(node.target, PlainSwing(layer))
    seen: list[Tensor] = []

    def remember(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen.append(arguments[0])

    for layer in teacher.modules():
        if isinstance(layer, BatchNormalization):
            layer.register_forward_pre_hook(remember)
    stored = [(torch.from_numpy(b.mean).to(device), torch.from_numpy(b.std).to(device)) for b in batchnorms]
    generator = PlainGenerator(shape).to(device)
    z = torch.randn(batch_size, 256, device=device).requires_grad_()
    optimiser_z = torch.optim.Adam([z], lr=0.1)
    optimiser_g = torch.optim.Adam(generator.parameters(), lr=0.01)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser_z, patience=100, min_lr=1e-4)
    decay = torch.optim.lr_scheduler.StepLR(optimiser_g, step_size=100, gamma=0.95)

    def iteration() -> float:
        seen.clear()
        optimiser_z.zero_grad()
        optimiser_g.zero_grad()
        images = generator(z)
        teacher(images)
        std, mean = torch.std_mean(images, (2, 3))
        loss = F.mse_loss(mean, torch.zeros_like(mean)) + F.mse_loss(std, torch.ones_like(std))
        for value, (wanted_mean, wanted_std) in zip(seen, stored, strict=True):
            std, mean = torch.std_mean(value, [d for d in range(value.dim()) if d != 1])
            loss = loss + F.mse_loss(mean, wanted_mean) + F.mse_loss(std, wanted_std)
        loss.backward()
        optimiser_z.step()
        optimiser_g.step()
        plateau.step(loss.item())
        decay.step()
        return loss.item()

    return iteration
