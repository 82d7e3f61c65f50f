"""Swing convolution: which pixels it reads, which dimensions it leaves alone, which convolutions are swapped."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from small_bn_net import SHAPE, imported, small_bn_net

from genie_onnx.importer import Conv
from genie_onnx.synthesis.swing_conv import Shifts, SwingConv, swing, swing_on_device, with_swing


@pytest.mark.parametrize("offsets", list(itertools.product(range(3), range(3))), ids=str)
def test_pad_and_crop(offsets: tuple[int, int]) -> None:
    x = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    dy, dx = offsets
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    assert torch.equal(swing(x, offsets), padded[:, :, dy : dy + 4, dx : dx + 5])


def test_literal_row() -> None:
    row = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert swing(row, [0]).tolist() == [[[2, 1, 2]]]
    assert swing(row, [1]).tolist() == [[[1, 2, 3]]]
    assert swing(row, [2]).tolist() == [[[2, 3, 2]]]


def test_dimensions_of_size_one_stay() -> None:
    x = torch.randn(2, 3, 1, 5)
    assert torch.equal(swing(x, [0, 2]), F.pad(x, (1, 1, 0, 0), mode="reflect")[..., 2:7])
    assert torch.equal(swing(x[..., :1], [2, 0]), x[..., :1])


@pytest.mark.parametrize("offsets", list(itertools.product(range(3), range(3))), ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 1, 5), (1, 2, 2, 2)])
def test_offsets_on_the_device_do_the_same(offsets: tuple[int, int], shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    expected, found = swing(x, offsets), swing_on_device(x, torch.tensor(offsets))
    assert torch.equal(found, expected)
    weights = torch.randn(shape)
    slopes = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (expected, found))
    assert torch.allclose(*slopes)


def drawn(layer: SwingConv, shifts: Shifts, x: torch.Tensor, weight: torch.Tensor) -> Iterator[torch.Tensor]:
    for _ in range(60):
        shifts.draw()
        yield layer(x, weight)


def test_one_draw_a_step_for_the_whole_batch() -> None:
    first = Conv((2, 2), ((0, 0), (0, 0)), (1, 1), 1)
    shifts, again_shifts = (Shifts(torch.Generator().manual_seed(0)) for _ in range(2))
    layer = SwingConv(first, shifts)
    image = torch.arange(16.0).view(1, 1, 4, 4)
    weight = torch.ones(1, 1, 1, 1)
    results = list(drawn(layer, shifts, image.expand(3, -1, -1, -1), weight))
    assert all(torch.equal(r[0], r[1]) and torch.equal(r[0], r[2]) for r in results)
    assert len({tuple(r[0].flatten().tolist()) for r in results}) == 9, "all (dy, dx) in 0..2 x 0..2 occur"
    again = drawn(SwingConv(first, again_shifts), again_shifts, image.expand(3, -1, -1, -1), weight)
    assert all(torch.equal(r, other) for r, other in zip(results, again, strict=True))
    assert torch.equal(layer(image, weight), layer(image, weight)), "nothing moves between two draws"


def test_only_strided_convolutions_of_a_copy_swing() -> None:
    network, _ = imported(small_bn_net())
    x = torch.randn(2, *SHAPE)
    before = network.module(x)[0]
    shifts = Shifts(torch.Generator().manual_seed(3))
    swung = with_swing(network.module, shifts)
    assert torch.equal(swung(x)[0], before), "nothing is shifted before the first draw"
    assert sorted(type(layer).__name__ for layer in swung.children() if "Conv" in type(layer).__name__) == ["Conv", "SwingConv"]
    assert not any(isinstance(layer, SwingConv) for layer in network.module.modules())
    sums = set()
    for _ in range(20):
        shifts.draw()
        sums.add(swung(x)[0].sum().item())
    assert len(sums) > 1
    assert torch.equal(network.module(x)[0], before)
