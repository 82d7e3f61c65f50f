"""Random 0/1 masks by the hundred thousand, cheaply: eight masks from each random byte.

A float per element from `torch.rand` costs more than a convolution on a CPU; one 64-bit draw fills eight bytes, and each bit
plane of those is a mask of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOW_BITS = 0x0101010101010101
_PLANES = 8


class MaskSource:
    """An endless stream of independent masks whose elements are 1 with probability `keep`.

    keep = 1/2 takes single bits; any other value is met to 1/256 by comparing whole bytes.
    """

    def __init__(self, keep: float, generator: torch.Generator) -> None:
        if not 0 <= keep <= 1:
            raise ValueError(f"a probability lies in 0..1, not {keep}")
        self._threshold = round(keep * 256)
        self._generator = generator
        self._words = torch.empty(0, dtype=torch.int64, device=generator.device)
        self._plane = _PLANES

    def like(self, x: Tensor) -> Tensor | None:
        """Return a float mask with x's shape and device and the strides of `empty_like(x)`; None where all elements are 1."""
        if self._threshold >= 256:
            return None
        count = x.numel()
        words = -(-count // 8)
        if self._threshold == 128:
            if self._plane == _PLANES or self._words.numel() < words:
                self._words = self._draw(max(words, self._words.numel()))
                self._plane = 0
            # the shift fills with the sign bit, which the bit mask removes again
            bits = (self._words[:words] >> self._plane) & _LOW_BITS
            self._plane += 1
            flat = bits.view(torch.uint8)[:count].to(x.dtype)
        else:
            flat = (self._draw(words).view(torch.uint8)[:count] < self._threshold).to(x.dtype)
        # the strides that an operator gives its result: those of x where it is dense, contiguous ones for a view of a split
        return flat.as_strided(x.shape, torch.empty_like(x, device="meta").stride())

    def _draw(self, words: int) -> Tensor:
        drawn = torch.empty(words, dtype=torch.int64, device=self._generator.device)
        return drawn.random_(-(2**63), None, generator=self._generator)
