"""Random masks of one bit an element, cheaply: a float for each from `torch.rand` costs more than a convolution on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genie_onnx.machine.team import ALL, Share

WORD = 32  # bits in a word of a mask
_LEVELS = 8  # binary digits to which a probability is met


class MaskSource:
    """An endless stream of independent masks whose bits are 1 with probability `keep`, met to 1/256.

    Nothing is carried from one draw to the next but the state of `generator`, so that drawing can be captured in a CUDA graph.
    A process that has a `share` of each batch draws the bits of the whole, like the others, and takes its own.
    """

    def __init__(self, keep: float, generator: torch.Generator, share: Share = ALL) -> None:
        if not 0 <= keep <= 1:
            raise ValueError(f"a probability lies in 0..1, not {keep}")
        self._digits = round(keep * 2**_LEVELS)
        self._generator, self._share = generator, share

    @property
    def all_set(self) -> bool:
        """Whether every bit is 1."""
        return self._digits == 2**_LEVELS

    def draw(self, count: int) -> Tensor | None:
        """Return the bits of `count` elements, int32 [words] on the generator's device; None where all are 1.

        Element i is bit i % 32 of word i // 32. Of a share, samples are outermost in memory.
        """
        if self.all_set:
            return None
        return cut(self._drawn(self._share.whole_of(count)), self._share.before(count), count)

    def _drawn(self, count: int) -> Tensor:
        words = -(-count // WORD)
        if not self._digits:
            return torch.zeros(words, dtype=torch.int32, device=self._generator.device)
        # P = 0.d1 d2 .. d8 in binary. From the last digit that is 1 on: fair bits OR what is there give (1 + P) / 2, AND P / 2.
        last = (self._digits & -self._digits).bit_length() - 1
        bits = self._fair(words)
        for level in range(last + 1, _LEVELS):
            fair = self._fair(words)
            bits = bits | fair if self._digits >> level & 1 else bits & fair
        return bits

    def _fair(self, words: int) -> Tensor:
        drawn = torch.empty(-(-words // 2), dtype=torch.int64, device=self._generator.device)
        return drawn.random_(-(2**63), None, generator=self._generator).view(torch.int32)[:words]


def cut(bits: Tensor, start: int, count: int) -> Tensor:
    """Return the bits `start` .. `start + count` of a mask as a mask of their own, with noise behind them in its last word."""
    first, inside = divmod(start, WORD)
    words = -(-count // WORD)
    if not inside:
        return bits[first : first + words]
    lower, upper = F.pad(bits[first : first + words + 1], (0, 1)).long().unfold(0, words, 1)[:2]
    # each with the next one as a number of 64 bits; of the shifted number the lower word is wanted
    return ((upper << WORD | lower & 2**WORD - 1) >> inside).int()


def unpacked(bits: Tensor, count: int) -> Tensor:
    """Return the first `count` bits of a mask, bool [count]."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    # bytes of a word lie lowest first on every machine that torch runs on
    return ((bits.view(torch.uint8).unsqueeze(1) >> places) & 1).flatten()[:count].bool()
