"""Statistics against torch in float64, their gradient against autograd, the loss against numbers worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genie_onnx.synthesis import bn_loss as module
from genie_onnx.synthesis.bn_loss import bn_loss, input_loss, mean_std, targets, with_measurements

SHAPES = [(9, 5), (6, 4, 33), (8, 3, 7, 5), (64, 3, 32, 32)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("offset", [0.0, 300.0], ids="offset{}".format)
@pytest.mark.parametrize("piece", [2**19, 2**10], ids="piece{}".format)
def test_mean_std_is_that_of_float64(shape: tuple[int, ...], offset: float, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", piece)  # whole, and put together from pieces
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + offset
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    wanted_std, wanted_mean = torch.std_mean(x.double(), [d for d in range(x.dim()) if d != 1])
    mean, std = mean_std(x)
    # float32 sums of up to 64k values around `offset`
    torch.testing.assert_close(mean.double(), wanted_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(std.double(), wanted_std, rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 6), (3, 2, 4, 5)], ids=str)
def test_gradient_of_mean_std(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(mean_std, (x,))


def test_dead_channel_has_finite_gradients() -> None:
    x = torch.stack([torch.full((4, 6), 3.0), torch.randn(4, 6)], dim=1).requires_grad_()
    mean, std = mean_std(x)
    ((mean - 1).square().sum() + (std - 1).square().sum()).backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert std[0] < 1e-5


def layer(mean: list[float], std: list[float], measured: bool = True) -> SimpleNamespace:
    return SimpleNamespace(value="v", mean=np.float32(mean), std=np.float32(std), measured=measured)


def test_bn_loss_by_hand() -> None:
    # layer 1: one channel, values -1, 1 (mean 0, std sqrt 2) against 3, 0: 9 + 2; layer 2: two channels, twice mean 2, std 0
    first = torch.tensor([[-1.0], [1.0]])
    second = torch.tensor([[2.0, 2.0], [2.0, 2.0]])
    stored = targets([layer([3.0], [0.0]), layer([0.0, 2.0], [1.0, 3.0])], torch.device("cpu"))
    expected = (9 + 2) + ((2**2 + 0) / 2 + (1 + 9) / 2)
    assert bn_loss([first, second], stored).item() == pytest.approx(expected, rel=1e-5)


def test_swapped_mean_and_std_are_another_loss() -> None:
    x = 2 + 0.5 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(2))
    right, wrong = (targets([layer(m, s)], torch.device("cpu")) for m, s in [([2.0], [0.5]), ([0.5], [2.0])])
    assert bn_loss([x], right) < 1e-3 < 4 < bn_loss([x], wrong)


def test_input_loss_counts_each_image_and_channel() -> None:
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    assert input_loss(images) < 1e-3
    images[0] += 2  # one image of four off by 2 in mean: 4 / 4
    assert input_loss(images).item() == pytest.approx(1.0, abs=0.1)
    opposite = torch.cat([images[1:2] - 2, images[1:2] + 2])  # right in mean together, not one by one
    assert input_loss(opposite).item() == pytest.approx(4.0, abs=0.2)


def test_layers_that_never_measured_anything_are_left_out() -> None:
    """Whatever the numbers are: a folded layer may well have mean 0 and deviation 1 at its output."""
    layers = [layer([0, 0], [1, 1], measured=False), layer([0, 0], [1, 1]), layer([0, 0], [1, 2])]
    assert with_measurements(layers) == tuple(layers[1:])
