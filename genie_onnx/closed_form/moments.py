"""Second moments of what a layer reads: all that its rounding needs to know of the images.

    H = cov(x_q, x_q)    G = cov(x, x_q)    E[x]    E[x_q]          [n, n], [n] a group (of wide layers by parts: split)

x is a column of the float network's input of the layer, x_q the same one as the quantised network feeds it. With these the error
of any weights w_q against the float weights w is known without an image, but for a part that no w_q changes:

    E |w x - w_q x_q|^2 = w_q H w_q' - 2 w G w_q' + (mean error)^2 + ...

Covariances add up over images and processes, whatever their order. They come from positions drawn at random; means are exact
(columns.mean_column), as biases are made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genie_onnx.closed_form.split import Split


@dataclass(frozen=True)
class Moments:
    """float64: `H` and `G` [g p, m, m], `mean` E[x] and `mean_q` E[x_q] [g, n]; of `count` columns.

    Of a layer whose n features are in one part, p = 1 and m = n.
    """

    H: Tensor
    G: Tensor
    mean: Tensor
    mean_q: Tensor
    count: int

    @property
    def split(self) -> Split:
        """The parts that features are in."""
        return Split(self.mean.shape[1], len(self.H) // len(self.mean))

    @property
    def uncentred(self) -> Moments:
        """The moments about 0, for a layer whose bias cannot take the mean error."""
        mean, mean_q = (self.split.apart(total[:, None]) for total in (self.mean, self.mean_q))
        return Moments(self.H + mean_q.mT * mean_q, self.G + mean.mT * mean_q, self.mean, self.mean_q, self.count)

    @property
    def without_mismatch(self) -> Moments:
        """The moments as if the float network read x_q as well."""
        return Moments(self.H, self.H, self.mean, self.mean_q, self.count)

    def with_means(self, mean: Tensor, mean_q: Tensor) -> Moments:
        """Return the same covariances about other means, those over all positions."""
        return Moments(self.H, self.G, mean.double(), mean_q.double(), self.count)


class Sums:
    """Sums over columns, of features in parts; they add up."""

    def __init__(self, groups: int, split: Split, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        parts, size = groups * split.count, split.size
        self.split = split
        self.totals = [zeros(parts, size, size), zeros(parts, size, size), zeros(parts, 1, size), zeros(parts, 1, size), zeros(1)]

    def add(self, x: Tensor, x_q: Tensor) -> None:
        """Take in columns [g, M, n] of both networks at the same positions.

        Products are of what is left of the columns without these columns' means: in float32 the square of a large mean would
        drown the variance of an input that hardly varies.
        """
        number = x.shape[1]
        x, x_q = self.split.apart(x), self.split.apart(x_q)
        hh, gg, mean, mean_q, count = self.totals
        own, own_q = x.sum(1, keepdim=True, dtype=torch.float64), x_q.sum(1, keepdim=True, dtype=torch.float64)
        about, about_q = (total / number for total in (own, own_q))
        rest, rest_q = x - about.to(x.dtype), x_q - about_q.to(x_q.dtype)
        hh += rest_q.mT @ rest_q
        gg += rest.mT @ rest_q
        hh += own_q.mT * about_q
        gg += own.mT * about_q
        mean += own
        mean_q += own_q
        count += number

    def moments(self) -> Moments:
        """Return the moments of all columns so far, at least one."""
        return combined([self])


def combined(folds: Sequence[Sums]) -> Moments:
    """Return the moments of the columns of several sums together."""
    hh, gg, mean, mean_q, count = (sum(totals[1:], totals[0]) for totals in zip(*(fold.totals for fold in folds), strict=True))
    mean, mean_q = mean / count, mean_q / count
    H = (hh / count).sub_(mean_q.mT * mean_q)
    G = (gg / count).sub_(mean.mT * mean_q)
    mean, mean_q = (folds[0].split.joined(total)[:, 0] for total in (mean, mean_q))
    return Moments(H, G, mean, mean_q, int(count))
