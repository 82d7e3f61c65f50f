"""Second moments of what a layer reads: all that its rounding needs to know of the images.

    H = cov(x_q, x_q)    G = cov(x, x_q)    E[x]    E[x_q]          [n, n], [n] a group

x is a column of the float network's input of the layer, x_q the same one as the quantised network feeds it. With these the error
of any weights w_q against the float weights w is known without an image, but for a part that no w_q changes:

    E |w x - w_q x_q|^2 = w_q H w_q' - 2 w G w_q' + (mean error)^2 + ...

Covariances add up over images and processes, whatever their order. They come from positions drawn at random; means are exact
(columns.mean_column), as biases are made of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """float64: `H` and `G` [g, n, n], `mean` E[x] and `mean_q` E[x_q] [g, n]; of `count` columns."""

    H: Tensor
    G: Tensor
    mean: Tensor
    mean_q: Tensor
    count: int

    @property
    def uncentred(self) -> Moments:
        """The moments about 0, for a layer whose bias cannot take the mean error."""
        outer = self.mean_q[:, :, None] * self.mean_q[:, None, :]
        cross = self.mean[:, :, None] * self.mean_q[:, None, :]
        return Moments(self.H + outer, self.G + cross, self.mean, self.mean_q, self.count)

    @property
    def without_mismatch(self) -> Moments:
        """The moments as if the float network read x_q as well."""
        return Moments(self.H, self.H, self.mean, self.mean_q, self.count)

    def with_means(self, mean: Tensor, mean_q: Tensor) -> Moments:
        """Return the same covariances about other means, those over all positions."""
        return Moments(self.H, self.G, mean.double(), mean_q.double(), self.count)


class Sums:
    """Sums over columns; they add up."""

    def __init__(self, groups: int, features: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.parts = [zeros(groups, features, features), zeros(groups, features, features)]
        self.parts += [zeros(groups, features), zeros(groups, features), zeros(1)]

    def add(self, x: Tensor, x_q: Tensor) -> None:
        """Take in columns [g, M, n] of both networks at the same positions.

        Products are of what is left of the columns without these columns' means: in float32 the square of a large mean would
        drown the variance of an input that hardly varies.
        """
        number = x.shape[1]
        hh, gg, mean, mean_q, count = self.parts
        own, own_q = x.sum(1, dtype=torch.float64), x_q.sum(1, dtype=torch.float64)
        about, about_q = (total / number for total in (own, own_q))
        rest, rest_q = x - about.to(x.dtype)[:, None], x_q - about_q.to(x_q.dtype)[:, None]
        hh += rest_q.transpose(1, 2) @ rest_q
        gg += rest.transpose(1, 2) @ rest_q
        hh += own_q[:, :, None] * about_q[:, None, :]
        gg += own[:, :, None] * about_q[:, None, :]
        mean += own
        mean_q += own_q
        count += number

    def moments(self) -> Moments:
        """Return the moments of all columns so far, at least one."""
        return combined([self])


def combined(folds: Iterable[Sums]) -> Moments:
    """Return the moments of the columns of several sums together."""
    hh, gg, mean, mean_q, count = (sum(parts[1:], parts[0]) for parts in zip(*(fold.parts for fold in folds), strict=True))
    mean, mean_q = mean / count, mean_q / count
    H = hh / count - mean_q[:, :, None] * mean_q[:, None, :]
    G = gg / count - mean[:, :, None] * mean_q[:, None, :]
    return Moments(H, G, mean, mean_q, int(count))
