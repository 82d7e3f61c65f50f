"""The rounding of one layer in closed form: weights and moments in, codes and scales out.

    search the scale, weighted by the input's power  ->  round with error feedback  ->  sweeps of descent, refitting the scale

Rows (output channels) are independent of one another given the moments, so all are solved at once, and each keeps the best that
was found for it: what comes out is never worse, by the objective, than rounding w to the nearest at the searched scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genie_onnx.closed_form.descent import descend, refitted
from genie_onnx.closed_form.feedback import round_with_feedback
from genie_onnx.closed_form.moments import Moments
from genie_onnx.closed_form.objective import Objective, objective
from genie_onnx.quant import Grid, weight_grid
from genie_onnx.targets import Constraints

SMALL = 64  # a group of so few features (depthwise: 9 or 25) is solved from several scales, at next to no cost
FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 1.05, 1.1)


@dataclass(frozen=True)
class Solution:
    """`codes` - zero point, int8 [g, R, n]; `scale` and `zero_point` float32 [g, R]; `error`: E of it, float64 [g, R]."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor
    error: Tensor

    @property
    def weights(self) -> Tensor:
        """The numbers that the codes stand for, float32 [g, R, n]."""
        return self.codes.float() * self.scale[..., None]


def solve(weight: Tensor, moments: Moments, bits: int, constraints: Constraints, ridge: float, sweeps: int) -> Solution:
    """Return the rounding of `weight` [g, R, n] to `bits` for inputs with these `moments`, in at most so many `sweeps`.

    `ridge` as in `objective`. `constraints` are the target's: symmetric grids, one scale a tensor, powers of two.
    """
    order = moments.H.diagonal(dim1=1, dim2=2).argsort(1, descending=True)  # [g, n]
    problem = _reordered(objective(weight, moments, ridge), order)
    rows = order[:, None, :].expand_as(weight)
    scaled, together = constraints.scales == "any", constraints.weight_scale == "tensor"
    nearest, wanted = weight.gather(2, rows), problem.optimum().float().contiguous()
    first = _grid(nearest, problem, bits, constraints)
    grids = [_grid(wanted, problem, bits, constraints)]
    if weight.shape[2] <= SMALL and scaled and not together:
        grids = [Grid(grids[0].scale * factor, grids[0].zero_point) for factor in FACTORS]
    best = _solution(problem, _nearest(nearest, first, bits), first)
    A, T = problem.A.float(), problem.T.float()
    for grid in grids:
        scale, zero = grid.scale[..., None], grid.zero_point[..., None]
        low, high = -zero, 2**bits - 1 - zero
        codes = round_with_feedback(wanted, problem.A, scale, low, high)
        best = _better(best, _solution(problem, codes, grid), together)
        for _ in range(sweeps):
            before = codes, scale
            codes = descend(A, T, codes, scale, low, high)
            if scaled:
                scale = refitted(A, T, codes, scale, grid.scale[..., None], together)
            if torch.equal(codes, before[0]) and torch.equal(scale, before[1]):
                break
        best = _better(best, _solution(problem, codes, Grid(scale[..., 0], grid.zero_point)), together)
    back = order.argsort(1)[:, None, :].expand_as(weight)
    return replace(best, codes=best.codes.gather(2, back))


def nearest_solution(weight: Tensor, moments: Moments, bits: int, constraints: Constraints, ridge: float) -> Solution:
    """Return `weight` [g, R, n] rounded to the nearest at the searched scale: what 8 bits need, and nothing more."""
    problem = objective(weight, moments, ridge)
    grid = _grid(weight, problem, bits, constraints)
    return _solution(problem, _nearest(weight, grid, bits), grid)


def bias_shift(weight: Tensor, rounded: Tensor, moments: Moments) -> Tensor:
    """Return by how much the bias has to grow for the mean output to stay what it was, w E[x] - w_q E[x_q]: float64 [g, R]."""
    before = (weight.double() @ moments.mean[..., None])[..., 0]
    return before - (rounded.double() @ moments.mean_q[..., None])[..., 0]


def _grid(weight: Tensor, problem: Objective, bits: int, constraints: Constraints) -> Grid:
    """Return the searched grid of each row, [g, R] each: what it loses is weighted by the power of the inputs."""
    groups, rows, features = weight.shape
    power = problem.A.diagonal(dim1=1, dim2=2).float()[:, None, :].expand(-1, rows, -1)
    grid = weight_grid(weight.reshape(-1, features), bits, constraints, power.reshape(-1, features))
    return Grid(grid.scale.view(groups, rows), grid.zero_point.view(groups, rows))


def _nearest(weight: Tensor, grid: Grid, bits: int) -> Tensor:
    zero = grid.zero_point[..., None]
    return (weight / grid.scale[..., None]).round_().clamp_(-zero, 2**bits - 1 - zero)


def _solution(problem: Objective, codes: Tensor, grid: Grid) -> Solution:
    whole = codes.to(torch.int8)
    return Solution(whole, grid.scale, grid.zero_point, problem(whole.float() * grid.scale[..., None]))


def _better(one: Solution, other: Solution, together: bool) -> Solution:
    """Return of each row the solution with the smaller error; of all rows where they have one scale."""
    chosen = other.error < one.error
    if together:
        chosen = (other.error.sum() < one.error.sum()).expand_as(chosen)
    return Solution(
        torch.where(chosen[..., None], other.codes, one.codes),
        torch.where(chosen, other.scale, one.scale),
        torch.where(chosen, other.zero_point, one.zero_point),
        torch.where(chosen, other.error, one.error),
    )


def _reordered(problem: Objective, order: Tensor) -> Objective:
    """Return the problem with its features in `order` [g, n]."""
    count = order.shape[1]
    A = problem.A.gather(1, order[:, :, None].expand(-1, -1, count)).gather(2, order[:, None, :].expand(-1, count, -1))
    return Objective(A, problem.T.gather(2, order[:, None, :].expand_as(problem.T)))
