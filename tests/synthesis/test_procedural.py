"""Procedural samples: any size, the statistics asked for, the same for the same generator, structure that noise has not."""

from __future__ import annotations

import pytest
import torch
from small_bn_net import SHAPE, imported, small_bn_net

from genie_onnx.synthesis import dead_leaves, is_picture, procedural
from genie_onnx.synthesis.bn_loss import bn_loss, targets
from genie_onnx.synthesis.teacher import teacher


def made(samples: int, shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return procedural(samples, shape, mean=None, std=None, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 97, 31), (5, 24, 94), (3, 1, 40), (2, 7, 1), (40, 1, 64)], ids=str)
def test_any_shape_with_the_statistics_asked_for(shape: tuple[int, int, int]) -> None:
    mean, std = [120.0 + c for c in range(shape[0])], [60.0 - c for c in range(shape[0])]
    images = procedural(5, shape, mean=mean, std=std, generator=torch.Generator().manual_seed(0))
    assert images.shape == (5, *shape)
    assert images.dtype == torch.float32
    measured_std, measured_mean = torch.std_mean(images, (0, 2, 3), correction=0)
    torch.testing.assert_close(measured_mean, torch.tensor(mean), rtol=1e-4, atol=0)
    torch.testing.assert_close(measured_std, torch.tensor(std), rtol=1e-4, atol=0)


def test_seeded_and_all_different() -> None:
    state = torch.random.get_rng_state()
    images = made(6, (3, 16, 16))
    assert torch.equal(made(6, (3, 16, 16)), images)
    assert not torch.equal(made(6, (3, 16, 16), seed=1), images)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all((images[i] - images[j]).abs().mean() > 0.1 for i in range(6) for j in range(i))


def test_neighbours_and_channels_are_related_as_in_photographs() -> None:
    images = made(32, (3, 32, 32))
    neighbours = torch.corrcoef(torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()]))[0, 1]
    far = torch.corrcoef(torch.stack([images[..., 16:].flatten(), images[..., :-16].flatten()]))[0, 1]
    channels = torch.corrcoef(images.transpose(0, 1).flatten(1))[0, 1]
    assert neighbours > 0.8 > 0.5 > far
    assert channels > 0.7
    brightness = images.mean((1, 2, 3))
    assert brightness.std() > 0.1, "images differ as a whole"


def test_edges_are_sharp_and_surfaces_smooth() -> None:
    """Differences of neighbours: most are small, a few large (noise of the same deviation has a kurtosis of 3)."""
    step = made(32, (1, 64, 64)).diff(dim=-1).flatten()
    assert (step**4).mean() / (step**2).mean() ** 2 > 8


def test_nearer_to_a_trained_network_than_noise() -> None:
    """The network of small_bn_net has no statistics of these very images: it saw others."""
    network, batchnorms = imported(small_bn_net())
    cpu = torch.device("cpu")
    teach, stored = teacher(network, batchnorms, shifts=None, device=cpu), targets(batchnorms, cpu)
    images = made(64, SHAPE, seed=99)
    with torch.no_grad():
        ours, noise = bn_loss(teach(images), stored), bn_loss(teach(torch.randn(images.shape)), stored)
    assert ours < 0.1 * noise


def test_features_are_smooth_over_time_and_unrelated_between_channels() -> None:
    features = made(64, (40, 1, 64))
    along = torch.corrcoef(torch.stack([features[..., 1:].flatten(), features[..., :-1].flatten()]))[0, 1]
    channels = torch.corrcoef(features.transpose(0, 1).flatten(1)) - torch.eye(40)
    assert along > 0.7
    assert channels.abs().max() < 0.2
    assert torch.corrcoef(made(32, (4, 32, 32)).transpose(0, 1).flatten(1))[0, 1] > 0.7, "a picture, by its channels"
    assert is_picture((4, 2, 2))
    assert not is_picture((5, 32, 32))
    assert not is_picture((1, 1, 640))


def test_many_are_painted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_leaves, "PIECE", 1)
    assert made(3, (2, 8, 8)).shape == (3, 2, 8, 8)


@pytest.mark.parametrize("shape", [(3, 640, 640), (1, 4, 70_000), (2, 70_000, 4)], ids=str)
def test_of_a_large_picture_a_shape_touches_a_part_alone(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is the same to the bit, for a fraction of the work."""
    worked: list[int] = []
    around = dead_leaves._around

    def counting(centre: torch.Tensor, size: torch.Tensor, end: int) -> slice:
        found = around(centre, size, end)
        worked.append(found.stop - found.start)
        return found

    monkeypatch.setattr(dead_leaves, "_around", counting)
    image = dead_leaves.dead_leaves(1, shape, torch.Generator().manual_seed(5))
    pixels = sum(rows * columns for rows, columns in zip(worked[::2], worked[1::2], strict=True))
    assert pixels < 0.4 * dead_leaves.SHAPES * shape[1] * shape[2]
    monkeypatch.setattr(dead_leaves, "_around", lambda centre, size, end: slice(0, end))
    assert torch.equal(dead_leaves.dead_leaves(1, shape, torch.Generator().manual_seed(5)), image)
