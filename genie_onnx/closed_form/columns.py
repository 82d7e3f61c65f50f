"""What a weighted layer multiplies its weights with: one column of its unfolded input for each output position.

    y[r, p] = sum_j W[r, j] u[j, p] + b[r]          W [R, n] of one group, u [n, P]

    Conv            j = (c, k): channel c of the group, tap k       u[(c, k), p] = x[c, stride p + dilation k - before]
    ConvTranspose   the same, where stride divides it               u[(c, k), p] = x[c, (p + before - dilation k) / stride]
    Gemm, MatMul    j: the last axis of x; a position is a row

Taps that fall outside of the input read 0. Only the columns at the positions asked for are made: a covariance needs thousands of
them, and a map at 112x112 has millions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

MEAN_ELEMENTS = 2**24  # of the columns that are made at once where every position is wanted


class Columns(Protocol):
    """How one layer reads its input [N, ...]; `groups` g of n features each."""

    @property
    def groups(self) -> int:
        """Number of groups."""

    def positions(self, x: Tensor) -> int:
        """Return how many output positions a sample of `x` has."""

    def at(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return the columns [g, N m, n] at `positions` (int64 [N, m], each sample has its own) of `x`."""

    def total(self, x: Tensor) -> tuple[Tensor, int]:
        """Return the sum of `x` over what is alike, float64 [1, ...], and how many that is: `mean_column` wants the mean."""

    def rows(self, weight: Tensor) -> Tensor:
        """Return a weight as [g, R, n], its output channel being g R + r."""

    def weight(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """Undo `rows`."""


@dataclass(frozen=True)
class Windows:
    """Conv or ConvTranspose (`transposed`) in any number of dimensions; one entry for each, `pads` (before, after)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    def sizes(self, x: Tensor) -> list[int]:
        """Return the spatial size of the output for an input [N, C, *S] (ONNX Conv and ConvTranspose)."""
        sizes = []
        for axis, size in enumerate(x.shape[2:]):
            reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            padding = sum(self.pads[axis])
            if self.transposed:
                extra = self.output_padding[axis] if self.output_padding else 0
                sizes.append(self.stride[axis] * (size - 1) + reach + extra - padding)
            else:
                sizes.append((size + padding - reach) // self.stride[axis] + 1)
        return sizes

    def positions(self, x: Tensor) -> int:
        """See Columns."""
        return math.prod(self.sizes(x))

    def at(self, x: Tensor, positions: Tensor) -> Tensor:
        """See Columns."""
        index, inside = self._taps(x, positions)
        count, channels = len(x), x.shape[1]
        samples = torch.arange(count, device=x.device).view(-1, 1, 1) * math.prod(x.shape[2:])
        pixels = x.movedim(1, -1).reshape(-1, channels)  # no copy where channels lie last in memory
        found = pixels.index_select(0, (index + samples).flatten()).view(-1, index.shape[2], channels)  # [N m, k, C]
        if not bool(inside.all()):
            found = found * inside.view(-1, index.shape[2], 1)
        grouped = found.view(len(found), index.shape[2], self.groups, channels // self.groups)
        return grouped.permute(2, 0, 3, 1).flatten(2)  # [g, N m, (c, k)]

    def _taps(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each position and tap the pixel of its sample that is read, and whether there is one: [N, m, k] each."""
        sizes = self.sizes(x)
        index, inside = torch.zeros_like(positions)[..., None], torch.ones_like(positions, dtype=torch.bool)[..., None]
        for axis, place in enumerate(torch.unravel_index(positions, sizes)):
            extent, before = x.shape[2 + axis], self.pads[axis][0]
            tap = self.dilation[axis] * torch.arange(self.kernel[axis], device=x.device)
            if self.transposed:
                reached = place[..., None] + before - tap
                valid = reached % self.stride[axis] == 0
                reached = torch.div(reached, self.stride[axis], rounding_mode="floor")
            else:
                reached = self.stride[axis] * place[..., None] + tap - before
                valid = torch.ones_like(reached, dtype=torch.bool)
            valid = valid & (reached >= 0) & (reached < extent)
            index = (index[..., None] * extent + reached.clamp(0, extent - 1)[..., None, :]).flatten(-2)
            inside = (inside[..., None] & valid[..., None, :]).flatten(-2)
        return index, inside

    def total(self, x: Tensor) -> tuple[Tensor, int]:
        """See Columns: over samples."""
        return x.sum(0, keepdim=True, dtype=torch.float64), len(x)

    def rows(self, weight: Tensor) -> Tensor:
        """See Columns. Conv [O, I/g, *K]; ConvTranspose [I, O/g, *K]."""
        if self.transposed:
            return weight.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(2)
        return weight.flatten(1).unflatten(0, (self.groups, -1))

    def weight(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """See Columns."""
        if self.transposed:
            return rows.unflatten(2, (-1, *shape[2:])).transpose(1, 2).reshape(shape)
        return rows.reshape(shape)


@dataclass(frozen=True)
class Rows:
    """Gemm or MatMul: features on the last axis of x. `outputs_first`: the weight is [O, I] (Gemm with transB), else [I, O]."""

    outputs_first: bool
    groups: int = 1

    def positions(self, x: Tensor) -> int:
        """See Columns."""
        return math.prod(x.shape[1:-1])

    def at(self, x: Tensor, positions: Tensor) -> Tensor:
        """See Columns."""
        tokens = x.reshape(len(x), -1, x.shape[-1])
        return tokens.take_along_dim(positions[..., None], 1).reshape(1, -1, x.shape[-1])

    def total(self, x: Tensor) -> tuple[Tensor, int]:
        """See Columns: over rows, wherever the samples are among them."""
        rows = x.reshape(-1, x.shape[-1])
        return rows.sum(0, keepdim=True, dtype=torch.float64), len(rows)

    def rows(self, weight: Tensor) -> Tensor:
        """See Columns."""
        return (weight if self.outputs_first else weight.t())[None]

    def weight(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """See Columns."""
        return rows[0].view(shape) if self.outputs_first else rows[0].t()


def mean_column(columns: Columns, mean: Tensor) -> Tensor:
    """Return the mean column [g, n] over all positions, from the `mean` [1, ...] of x over samples: exact, padding included."""
    count = columns.positions(mean)
    total: Tensor | None = None
    features = columns.at(mean, torch.zeros(1, 1, dtype=torch.int64, device=mean.device)).numel()
    step = max(1, MEAN_ELEMENTS // features)
    for start in range(0, count, step):
        places = torch.arange(start, min(count, start + step), device=mean.device)[None]
        part = columns.at(mean, places).sum(1, dtype=torch.float64)
        total = part if total is None else total + part
    assert total is not None
    return total / count


def drawn_positions(count: int, samples: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Return int64 [samples, m] positions out of 0..count - 1: all of them, or `wanted` random ones where there are more."""
    if count <= wanted:
        return torch.arange(count, device=generator.device).expand(samples, count)
    return torch.randint(count, (samples, wanted), generator=generator, device=generator.device)
