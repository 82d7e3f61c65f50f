"""The error of rounded weights as a quadratic form of them.

    E(w_q) = w_q A w_q' - 2 T w_q'        A = H + lambda D,   T = w (G + lambda D),   D = mean(diag H) I

which is E|w x - w_q x_q|^2 less a constant, with a ridge: lambda times the distance of w_q from w, in units of the input's power.
It is what keeps the correction of the mismatch between x and x_q from being fitted to the few images that the moments are of.

    w* = T A^-1      the best weights that were not rounded: they make good for what rounding did to the layer's input
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genie_onnx.closed_form.moments import Moments
from genie_onnx.closed_form.split import Split

# Of the squared mean: a smaller variance is what rounding leaves of a constant input (2^-48 in float32, 2^-52 n in the sums), and
# A could not be relied on to be positive definite
NOTHING = 2.0**-32


@dataclass(frozen=True)
class Objective:
    """`A` [g p, m, m] positive definite, `T` [g p, R, m]; float64. `split`: the parts that features are in."""

    A: Tensor
    T: Tensor
    split: Split

    def __call__(self, weights: Tensor) -> Tensor:
        """Return E [g, R] of weights [g p, R, m]."""
        w = weights.to(self.A.dtype)
        return self.split.summed(((w @ self.A - 2 * self.T) * w).sum(2))

    def optimum(self) -> Tensor:
        """Return w* [g p, R, m]."""
        factor = torch.linalg.cholesky(self.A)
        return torch.cholesky_solve(self.T.transpose(1, 2), factor).transpose(1, 2)


def objective(weight: Tensor, moments: Moments, ridge: float) -> Objective:
    """Return the objective of rounding `weight` [g, R, n] with lambda = `ridge` > 0.

    An input that is the same everywhere has D = I, so that its weights are rounded to the nearest.
    """
    split = moments.split
    power = split.joined(moments.H.diagonal(dim1=1, dim2=2)[:, None])[:, 0].mean(1)
    power = torch.where(power > NOTHING * moments.mean_q.square().mean(1), power, torch.ones_like(power))
    D = split.shared(ridge * power)[:, None]
    return Objective(_plus(moments.H, D), split.apart(weight.double()) @ _plus(moments.G, D), split)


def _plus(matrix: Tensor, diagonal: Tensor) -> Tensor:
    """Return `matrix` with `diagonal` added to its own."""
    matrix = matrix.clone()
    matrix.diagonal(dim1=1, dim2=2).add_(diagonal)
    return matrix
