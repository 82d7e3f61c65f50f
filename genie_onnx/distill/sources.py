"""Where the images of one batch come from: what is optimised, and how it becomes images.

    Generated   u = G(z): z and the weights of G are optimised (paper, Algorithm 1), or the weights alone (its "GBA")
    Pixels      u itself is optimised (ZeroQ; the paper's "DBA")

u [N, C, H, W] is in normalised units, mean 0 and deviation 1; `scaling.Scaling` takes it to what the model reads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie_onnx.config import DistillConfig
from genie_onnx.distill.generator import Generator


class Generated(nn.Module):
    """u = G(z), with z ~ N(0, I) [size, latent] drawn from `generator`, then the weights of G."""

    def __init__(self, size: int, shape: tuple[int, int, int], config: DistillConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.randn(size, config.latent_size, generator=generator), requires_grad=config.train_latent)
        self.generator = Generator(shape, config.latent_size, generator)

    def forward(self) -> Tensor:
        """Return u float32 [size, C, H, W]."""
        images: Tensor = self.generator(self.z)
        return images

    def latents(self) -> list[nn.Parameter]:
        """What learns at `latent_lr`: z, unless it is fixed."""
        return [self.z] if self.z.requires_grad else []

    def weights(self) -> list[nn.Parameter]:
        """What learns at `generator_lr`: the weights of G."""
        return list(self.generator.parameters())


class Pixels(nn.Module):
    """u ~ N(0, 1) [size, C, H, W] drawn from `generator`: each pixel is its own latent."""

    def __init__(self, size: int, shape: tuple[int, int, int], generator: torch.Generator) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.randn(size, *shape, generator=generator))

    def forward(self) -> Tensor:
        """Return u float32 [size, C, H, W]."""
        return self.u

    def latents(self) -> list[nn.Parameter]:
        """What learns at `latent_lr`: the pixels."""
        return [self.u]

    def weights(self) -> list[nn.Parameter]:
        """What learns at `generator_lr`: nothing, there is no generator."""
        return []


def source(size: int, shape: tuple[int, int, int], config: DistillConfig, generator: torch.Generator) -> Generated | Pixels:
    """Return the source that `config` asks for, drawn from `generator` (on the CPU), on the CPU."""
    return Generated(size, shape, config, generator) if config.generator else Pixels(size, shape, generator)
