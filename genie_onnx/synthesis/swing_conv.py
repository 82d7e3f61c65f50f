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

DIMENSIONS = 3  # of space, at most


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


def swing_on_device(x: Tensor, offsets: Tensor) -> Tensor:
    """Return the same for `offsets` that are a tensor on the device of `x` (int64, one a dimension), which is not read back."""
    for dim, offset in enumerate(offsets.unbind(), start=2):
        last = x.shape[dim] - 1
        if last:
            places = (torch.arange(last + 1, device=x.device) + offset - 1).abs()
            x = x.index_select(dim, last - (last - places).abs())
    return x


class Shifts:
    """The offsets of one step for every place that swings: drawn together, so that all pieces of a batch are shifted alike.

    On a GPU they stay there, and drawing them can be captured in a CUDA graph. Before the first draw nothing is shifted.
    """

    def __init__(self, generator: torch.Generator, on_device: bool | None = None) -> None:
        """`generator`: on the device of what is shifted. `on_device`: whether they stay there; None: on a GPU."""
        self._generator = generator
        self._on_device = generator.device.type != "cpu" if on_device is None else on_device
        self._places = 0
        self._drawn = torch.ones(0, DIMENSIONS, dtype=torch.int64, device=generator.device)
        self._offsets: Tensor | list[list[int]] = []

    @property
    def generator(self) -> torch.Generator:
        """What is drawn from."""
        return self._generator

    def place(self) -> int:
        """Return the number of a new place."""
        self._drawn = torch.ones(self._places + 1, DIMENSIONS, dtype=torch.int64, device=self._generator.device)
        self._offsets = self._drawn if self._on_device else self._drawn.tolist()
        self._places += 1
        return self._places - 1

    def draw(self) -> None:
        """Draw the offsets of the next step."""
        self._drawn.random_(0, 3, generator=self._generator)
        if not self._on_device:
            self._offsets = self._drawn.tolist()

    def shifted(self, x: Tensor, place: int) -> Tensor:
        """Return `x` [N, C, ...] as `place` shifts it in this step."""
        offsets, dimensions = self._offsets[place], x.dim() - 2
        if isinstance(offsets, Tensor):
            return swing_on_device(x, offsets[:dimensions])
        return swing(x, offsets[:dimensions])


class SwingConv(nn.Module):
    """`conv` on an input shifted by `shifts`, the same for the whole batch."""

    def __init__(self, conv: nn.Module, shifts: Shifts) -> None:
        super().__init__()
        self.conv = conv
        self._shifts, self._place = shifts, shifts.place()

    def forward(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return conv(shifted x, *parameters): `x` [N, C, ...] and the weight and bias that `conv` takes."""
        result: Tensor = self.conv(self._shifts.shifted(x, self._place), *parameters)
        return result


def with_swing(module: fx.GraphModule, shifts: Shifts) -> fx.GraphModule:
    """Return a copy of `module` in which `shifts` shifts every convolution of a stride above 1; `module` is left alone."""
    swung = copy.deepcopy(module)
    for name, layer in list(swung.named_modules()):
        if isinstance(layer, Conv) and max(layer.stride) > 1:
            swung.set_submodule(name, SwingConv(layer, shifts))
    return swung
