"""Features in parts: the moments of a layer that reads very many are a block diagonal.

    n features   ->   p consecutive parts of m = ceil(n / p), zeros behind the last        p m^2 ~ n m numbers in place of n^2

What features of one part have to do with each other is known as ever, and what those of different parts have is left out. So a
part is like a group of its own, and [g, R, n] of a layer is [g p, R, m] here: "apart". But a row has one scale, whatever its
parts are, and its error is the sum of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """`features` n of a group in `count` p parts; 1: as they are."""

    features: int
    count: int = 1

    @property
    def size(self) -> int:
        """Features m of a part."""
        return -(-self.features // self.count)

    def apart(self, rows: Tensor) -> Tensor:
        """Return `rows` [g, R, n] as [g p, R, m]."""
        short = self.count * self.size - self.features
        filled = F.pad(rows, (0, short)) if short else rows
        return filled.unflatten(2, (self.count, self.size)).transpose(1, 2).flatten(0, 1)

    def filled(self, parts: Tensor) -> Tensor:
        """Return `parts` [g p, R, m] side by side, with the zeros that fill up the last: [g, R, p m]."""
        return parts.unflatten(0, (-1, self.count)).transpose(1, 2).flatten(2)

    def joined(self, parts: Tensor) -> Tensor:
        """Undo `apart`."""
        return self.filled(parts)[:, :, : self.features]

    def shared(self, numbers: Tensor) -> Tensor:
        """Return `numbers` [g, ...] of groups as those of their parts, [g p, ...]."""
        return numbers.repeat_interleave(self.count, 0)

    def summed(self, numbers: Tensor) -> Tensor:
        """Return the sums [g, ...] over the parts of each group of `numbers` [g p, ...]."""
        return numbers.unflatten(0, (-1, self.count)).sum(1)


def split(features: int, groups: int, elements: int) -> Split:
    """Return the fewest parts of `features` with which H of `groups` has at most `elements` numbers, or parts of one feature."""
    ways = (Split(features, count) for count in range(1, features))
    return next((way for way in ways if groups * way.count * way.size**2 <= elements), Split(features, features))
