"""Swing convolution (paper, section 3.1.1, Fig. 4): a strided convolution that reads a randomly shifted input.

    x -> reflection pad by 1 on every side -> crop back to the size of x at a random (dy, dx) in 0..2 -> the same convolution

A convolution of stride n never reads some pixels in some phases, and its gradient makes checkerboards in the images; shifting its
input anew in every step lets all pixels take part. Only while distilling: `with_swing` returns a copy of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from genie_onnx.importer import Conv


def swing(x: Tensor, offsets: Sequence[int]) -> Tensor:
    """Return `x` [N, C, ...] reflection-padded by 1 and cropped back at `offsets`, one in 0..2 for each spatial dimension.

    Offset 1 is the identity. A dimension of size 1 has nothing to reflect and is left alone, whatever its offset.
    """
    offsets = [1 if size == 1 else offset for size, offset in zip(x.shape[2:], offsets, strict=True)]
    if all(offset == 1 for offset in offsets):
        return x
    pads = [int(size > 1) for size in reversed(x.shape[2:]) for _ in range(2)]
    padded = F.pad(x, pads, mode="reflect")
    for dim, (size, offset) in enumerate(zip(x.shape[2:], offsets, strict=True), start=2):
        if size > 1:
            padded = padded.narrow(dim, offset, size)
    return padded


def random_swing(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return `x` [N, C, ...] shifted as `swing` does, one draw for the batch, from `generator` (on the CPU)."""
    return swing(x, torch.randint(0, 3, (x.dim() - 2,), generator=generator).tolist())


class SwingConv(nn.Module):
    """`conv` on a shifted input: one draw a call, the same for the whole batch, from `generator` (on the CPU)."""

    def __init__(self, conv: nn.Module, generator: torch.Generator) -> None:
        super().__init__()
        self.conv = conv
        self.generator = generator

    def forward(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return conv(shifted x, *parameters): `x` [N, C, ...] and the weight and bias that `conv` takes."""
        shifted: Tensor = self.conv(random_swing(x, self.generator), *parameters)
        return shifted


def with_swing(module: fx.GraphModule, generator: torch.Generator) -> fx.GraphModule:
    """Return a copy of `module` in which every convolution with a stride above 1 swings; `module` is left alone.

    Offsets are drawn from `generator` in the order in which the convolutions run.
    """
    swung = copy.deepcopy(module)
    for name, layer in list(swung.named_modules()):
        if isinstance(layer, Conv) and max(layer.stride) > 1:
            swung.set_submodule(name, SwingConv(layer, generator))
    return swung
