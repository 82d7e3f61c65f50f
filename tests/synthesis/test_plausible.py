"""Statistics of a network without BatchNorm: those on procedural images, larger the deeper the layer."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from small_bn_net import SHAPE, imported, small_bn_net

from genie_onnx.importer import Network
from genie_onnx.synthesis import image_bytes, measure, plausible, procedural
from genie_onnx.synthesis.plausible import DEEPER

CPU = torch.device("cpu")
MEAN, STD = (0.5, -1.0, 0.0), (1.0, 2.0, 0.5)


@pytest.fixture(scope="module")
def network() -> Network:
    return imported(small_bn_net(MEAN, STD))[0]


def test_deviations_grow_from_the_first_layer_to_the_last(network: Network) -> None:
    values = ("a", "d", "g")
    found = plausible(network, values, SHAPE, mean=MEAN, std=STD, generator=torch.Generator().manual_seed(4), device=CPU)
    images = procedural(1024, SHAPE, mean=MEAN, std=STD, generator=torch.Generator().manual_seed(4))
    for ours, seen, factor in zip(found, measure(network, values, images, CPU), (1, 1 + DEEPER / 2, 1 + DEEPER), strict=True):
        assert ours.value == seen.value
        assert ours.measured
        np.testing.assert_array_equal(ours.mean, seen.mean)
        np.testing.assert_allclose(ours.std, factor * seen.std, rtol=1e-6)
        assert ours.std.dtype == np.float32


@pytest.mark.parametrize(("shape", "count"), [((3, 16, 16), 1024), ((3, 64, 64), 256), ((3, 224, 224), 64)], ids=str)
def test_fewer_images_of_more_pixels(
    network: Network, shape: tuple[int, int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        sys.modules["genie_onnx.synthesis.plausible"],
        "procedural",
        lambda samples, *_, **__: seen.append(samples) or torch.zeros(2, *SHAPE),
    )
    plausible(network, ["a"], shape, mean=MEAN, std=STD, generator=torch.Generator(), device=CPU)
    assert seen == [count]


def test_one_layer_is_taken_as_it_is_seen(network: Network) -> None:
    (found,) = plausible(network, ["d"], SHAPE, mean=MEAN, std=STD, generator=torch.Generator().manual_seed(4), device=CPU)
    images = procedural(1024, SHAPE, mean=MEAN, std=STD, generator=torch.Generator().manual_seed(4))
    np.testing.assert_array_equal(found.std, measure(network, ["d"], images, CPU)[0].std)


def test_an_image_takes_what_the_layers_behind_it_keep(network: Network) -> None:
    """A convolution needs no input kept for the gradient of its input; a ReLU keeps its output: 8 x 16 x 16 floats after `c`."""
    relu = 4 * 8 * 16 * 16
    assert image_bytes(network, ["c"], SHAPE) >= relu
    deeper = image_bytes(network, ["f"], SHAPE) - image_bytes(network, ["c"], SHAPE)
    assert relu / 4 <= deeper < 3 * relu  # 16 x 8 x 8, and what enters the convolution
    assert image_bytes(network, ["c"], (3, 32, 32)) >= 3 * image_bytes(network, ["c"], SHAPE)
