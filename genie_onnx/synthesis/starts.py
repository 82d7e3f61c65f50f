"""Where the images of one batch come from: what is optimised, and how it becomes images u [N, C, H, W].

    Generated   u = G(z): z and the weights of G are optimised (paper, Algorithm 1), or the weights alone (its "GBA")
    Noise       u itself is optimised, from Gaussian noise (ZeroQ; the paper's "DBA")
    Leaves      u itself is optimised, from dead leaves: it begins near the statistics and keeps the look of photographs

u is in normalised units, mean 0 and deviation 1; `scaling.Scaling` takes it to what the model reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from genie_onnx.config import DistillConfig
from genie_onnx.synthesis.bn_loss import batch_loss, input_loss
from genie_onnx.synthesis.generator import Generator
from genie_onnx.synthesis.procedural import procedural


class Source(nn.Module, ABC):
    """u float32 [size, C, H, W] by `forward()`, and how it is optimised."""

    def __init__(self, rate: float) -> None:
        """`rate`: the learning rate of `latents`, to begin with."""
        super().__init__()
        self.rate = rate

    @abstractmethod
    def latents(self) -> list[nn.Parameter]:
        """Return what learns at `rate`, which is reduced on plateaus."""

    def weights(self) -> list[nn.Parameter]:
        """Return what learns at `generator_lr`."""
        return []

    @property
    def swings(self) -> bool:
        """Whether the network is to see u shifted by up to a pixel each way, one draw for the batch."""
        return False

    def loss(self, u: Tensor) -> Tensor:
        """Return the input term of the loss, a scalar tensor."""
        return input_loss(u)


class Generated(Source):
    """u = G(z), with z ~ N(0, I) [size, latent] drawn from `generator`, then the weights of G."""

    def __init__(self, size: int, shape: tuple[int, int, int], config: DistillConfig, generator: torch.Generator) -> None:
        super().__init__(config.latent_lr)
        self.z = nn.Parameter(torch.randn(size, config.latent_size, generator=generator), requires_grad=config.train_latent)
        self.generator = Generator(shape, config.latent_size, generator)

    def forward(self) -> Tensor:
        """Return u."""
        images: Tensor = self.generator(self.z)
        return images

    def latents(self) -> list[nn.Parameter]:
        """Return z, unless it is fixed."""
        return [self.z] if self.z.requires_grad else []

    def weights(self) -> list[nn.Parameter]:
        """Return the weights of G."""
        return list(self.generator.parameters())


class Noise(Source):
    """u ~ N(0, 1) drawn from `generator`: each pixel is its own latent."""

    def __init__(self, size: int, shape: tuple[int, int, int], config: DistillConfig, generator: torch.Generator) -> None:
        super().__init__(config.latent_lr)
        self.u = nn.Parameter(torch.randn(size, *shape, generator=generator))

    def forward(self) -> Tensor:
        """Return u."""
        return self.u

    def latents(self) -> list[nn.Parameter]:
        """Return the pixels."""
        return [self.u]


class Leaves(Source):
    """u begins as procedural samples drawn from `generator`; if convolutions swing, so does what the network sees.

    The input term is over the batch: photographs differ in brightness and contrast, and so may these.
    """

    def __init__(self, size: int, shape: tuple[int, int, int], config: DistillConfig, generator: torch.Generator) -> None:
        super().__init__(config.pixel_lr)
        self.u = nn.Parameter(procedural(size, shape, mean=None, std=None, generator=generator))
        self._swing = config.swing

    def forward(self) -> Tensor:
        """Return u."""
        return self.u

    def latents(self) -> list[nn.Parameter]:
        """Return the pixels."""
        return [self.u]

    @property
    def swings(self) -> bool:
        """Whether convolutions swing."""
        return self._swing

    def loss(self, u: Tensor) -> Tensor:
        """Return how far the channels are from mean 0 and deviation 1 over the batch."""
        return batch_loss(u)


def source(size: int, shape: tuple[int, int, int], config: DistillConfig, generator: torch.Generator) -> Source:
    """Return the source that `config` asks for, drawn from `generator` (on the CPU), on the CPU."""
    match config.start:
        case "generator":
            return Generated(size, shape, config, generator)
        case "noise":
            return Noise(size, shape, config, generator)
        case "leaves":
            return Leaves(size, shape, config, generator)
