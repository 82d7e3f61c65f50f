"""Two changes of shape that reconstruction lives by.

A weight is optimised as [C, K], its output channels first. An activation is stored sample by sample with channels last, so
that drawing a batch is one contiguous copy and the convolutions run in the layout that is twice as fast on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_rows(weight: Tensor, axis: int) -> Tensor:
    """Return `weight` as [C, K] with its channel `axis` first."""
    return weight.movedim(axis, 0).flatten(1) if weight.dim() > 1 else weight.reshape(-1, 1)


def from_rows(rows: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """Undo `to_rows`: return a view of `rows` [C, K] with the weight's own `shape`."""
    moved = [shape[axis], *(size for k, size in enumerate(shape) if k != axis)]
    return rows.reshape(moved).movedim(0, axis)


def to_stored(x: Tensor) -> Tensor:
    """Return [N, C, H, W] as contiguous [N, H, W, C]; other ranks as they are, contiguous."""
    return (x.movedim(1, -1) if x.dim() >= 4 else x).contiguous()


def from_stored(x: Tensor) -> Tensor:
    """Undo `to_stored` without copying: [N, H, W, C] becomes a channels-last view [N, C, H, W]."""
    return x.movedim(-1, 1) if x.dim() >= 4 else x
