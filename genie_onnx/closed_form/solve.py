"""The rounding of one layer in closed form: weights and moments in, codes and scales out.

    search the scale, weighted by the input's power  ->  round with error feedback  ->  sweeps of descent, refitting the scale

Rows (output channels) are independent of one another given the moments, so all are solved at once, and each keeps the best that
was found for it: what comes out is never worse, by the objective, than rounding w to the nearest at the searched scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genie_onnx.closed_form.descent import descend, refitted
from genie_onnx.closed_form.feedback import round_with_feedback
from genie_onnx.closed_form.moments import Moments
from genie_onnx.closed_form.objective import Objective, objective
from genie_onnx.closed_form.split import Split
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
    split, parts = moments.split, moments.split.apart(weight)
    order = moments.H.diagonal(dim1=1, dim2=2).argsort(1, descending=True)  # [g p, m]
    back = order.argsort(1)
    problem = _reordered(objective(weight, moments, ridge), order)
    scaled, together = constraints.scales == "any", constraints.weight_scale == "tensor"
    nearest, wanted = parts.gather(2, _along(order, parts)), problem.optimum().float().contiguous()
    first = _grid(nearest, problem, bits, constraints)
    grids = [_grid(wanted, problem, bits, constraints)]
    if weight.shape[2] <= SMALL and scaled and not together:
        grids = [Grid(grids[0].scale * factor, grids[0].zero_point) for factor in FACTORS]
    best = _solution(problem, _nearest(nearest, first, bits, split), first, back)
    A, T = problem.A.float(), problem.T.float()
    for grid in grids:
        scale, zero = grid.scale[..., None], split.shared(grid.zero_point[..., None])
        low, high = -zero, 2**bits - 1 - zero
        codes = round_with_feedback(wanted, problem.A, split.shared(scale), low, high)
        best = _better(best, _solution(problem, codes, grid, back), together)
        for _ in range(sweeps):
            before = codes, scale
            codes = descend(A, T, codes, split.shared(scale), low, high)
            if scaled:
                scale = refitted(A, T, codes, scale, grid.scale[..., None], together)
            if torch.equal(codes, before[0]) and torch.equal(scale, before[1]):
                break
        best = _better(best, _solution(problem, codes, Grid(scale[..., 0], grid.zero_point), back), together)
    return best


def nearest_solution(weight: Tensor, moments: Moments, bits: int, constraints: Constraints, ridge: float) -> Solution:
    """Return `weight` [g, R, n] rounded to the nearest at the searched scale: what 8 bits need, and nothing more."""
    problem, parts = objective(weight, moments, ridge), moments.split.apart(weight)
    grid = _grid(parts, problem, bits, constraints)
    return _solution(problem, _nearest(parts, grid, bits, moments.split), grid)


def stacked(solutions: Sequence[Solution]) -> Solution:
    """Return solutions of some rows each, [g, R_k, ...], as one."""
    fields = zip(*((one.codes, one.scale, one.zero_point, one.error) for one in solutions), strict=True)
    return Solution(*(torch.cat(parts, 1) for parts in fields))


def bias_shift(weight: Tensor, rounded: Tensor, moments: Moments) -> Tensor:
    """Return by how much the bias has to grow for the mean output to stay what it was, w E[x] - w_q E[x_q]: float64 [g, R]."""
    before = (weight.double() @ moments.mean[..., None])[..., 0]
    return before - (rounded.double() @ moments.mean_q[..., None])[..., 0]


def _grid(parts: Tensor, problem: Objective, bits: int, constraints: Constraints) -> Grid:
    """Return the searched grid of each row, [g, R] each: what it loses is weighted by the power of the inputs."""
    weight, power = (problem.split.filled(x) for x in (parts, problem.A.diagonal(dim1=1, dim2=2).float()[:, None]))
    groups, rows, features = weight.shape  # zeros that fill up are on every grid
    power = power.expand(-1, rows, -1).reshape(-1, features)
    grid = weight_grid(weight.reshape(-1, features), bits, constraints, power)
    return Grid(grid.scale.view(groups, rows), grid.zero_point.view(groups, rows))


def _nearest(parts: Tensor, grid: Grid, bits: int, split: Split) -> Tensor:
    scale, zero = (split.shared(part)[..., None] for part in grid)
    return (parts / scale).round_().clamp_(-zero, 2**bits - 1 - zero)


def _solution(problem: Objective, codes: Tensor, grid: Grid, back: Tensor | None = None) -> Solution:
    """Return the solution with these codes [g p, R, m]; `back` [g p, m]: where features were before they were reordered."""
    whole = codes.to(torch.int8)
    error = problem(whole.float() * problem.split.shared(grid.scale)[..., None])
    if back is not None:
        whole = whole.gather(2, _along(back, whole))
    return Solution(problem.split.joined(whole), grid.scale, grid.zero_point, error)


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
    """Return the problem with its features in `order` [g p, m]."""
    A = problem.A.gather(1, order[:, :, None].expand_as(problem.A)).gather(2, _along(order, problem.A))
    return Objective(A, problem.T.gather(2, _along(order, problem.T)), problem.split)


def _along(order: Tensor, rows: Tensor) -> Tensor:
    """Return `order` [g p, m] for each of `rows` [g p, R, m], as gather wants it."""
    return order[:, None, :].expand_as(rows)
