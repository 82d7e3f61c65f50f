"""The generator: any size, normalised output, reproducible, nothing drawn from torch's global stream."""

from __future__ import annotations

import pytest
import torch

from genie_onnx.synthesis.generator import Generator


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 97, 31), (3, 30, 30), (2, 1, 40), (4, 3, 2)], ids=str)
def test_any_shape_and_normalised(shape: tuple[int, int, int]) -> None:
    generator = Generator(shape, 16, torch.Generator().manual_seed(0))
    images = generator(torch.randn(6, 16, generator=torch.Generator().manual_seed(1)))
    assert images.shape == (6, *shape)
    std, mean = torch.std_mean(images, (0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(shape[0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(std, torch.ones(shape[0]), rtol=0, atol=2e-3)  # BN divides by sqrt(var + 1e-5)


def test_published_layout() -> None:
    sizes = {name: tuple(p.shape) for name, p in Generator((3, 30, 32), 256, torch.Generator()).named_parameters()}
    assert sizes == {
        "linear_weight": (128 * 8 * 8, 256),
        "linear_bias": (128 * 8 * 8,),
        "norm1.weight": (128,),
        "norm1.bias": (128,),
        "conv1_weight": (64, 128, 3, 3),
        "conv1_bias": (64,),
        "norm2.weight": (64,),
        "norm2.bias": (64,),
        "conv2_weight": (3, 64, 3, 3),
        "conv2_bias": (3,),
    }


def test_drawn_from_its_own_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, second, other = (Generator((3, 8, 8), 16, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    z = torch.ones(4, 16) + torch.arange(4.0)[:, None]
    assert torch.equal(first(z), second(z))
    assert not torch.equal(first(z), other(z))


def test_every_weight_and_the_latent_learn() -> None:
    generator = Generator((3, 8, 8), 16, torch.Generator().manual_seed(0))
    z = torch.randn(4, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    generator(z).pow(3).sum().backward()
    for name, parameter in [*generator.named_parameters(), ("z", z)]:
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
