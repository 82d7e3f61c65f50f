"""Swing convolution: which pixels it reads, which dimensions it leaves alone, which convolutions are swapped."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from small_bn_net import SHAPE, imported, small_bn_net

from genie_onnx.distill.swing_conv import SwingConv, swing, with_swing
from genie_onnx.importer import Conv


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


def test_one_draw_a_call_for_the_whole_batch() -> None:
    first = Conv((2, 2), ((0, 0), (0, 0)), (1, 1), 1)
    layer = SwingConv(first, torch.Generator().manual_seed(0))
    image = torch.arange(16.0).view(1, 1, 4, 4)
    weight = torch.ones(1, 1, 1, 1)
    results = [layer(image.expand(3, -1, -1, -1), weight) for _ in range(60)]
    assert all(torch.equal(r[0], r[1]) and torch.equal(r[0], r[2]) for r in results)
    assert len({tuple(r[0].flatten().tolist()) for r in results}) == 9, "all (dy, dx) in 0..2 x 0..2 occur"
    again = SwingConv(first, torch.Generator().manual_seed(0))
    assert all(torch.equal(r, again(image.expand(3, -1, -1, -1), weight)) for r in results)


def test_only_strided_convolutions_of_a_copy_swing() -> None:
    network, _ = imported(small_bn_net())
    x = torch.randn(2, *SHAPE)
    before = network.module(x)[0]
    swung = with_swing(network.module, torch.Generator().manual_seed(3))
    assert sorted(type(layer).__name__ for layer in swung.children() if "Conv" in type(layer).__name__) == ["Conv", "SwingConv"]
    assert not any(isinstance(layer, SwingConv) for layer in network.module.modules())
    assert len({swung(x)[0].sum().item() for _ in range(20)}) > 1
    assert torch.equal(network.module(x)[0], before)
