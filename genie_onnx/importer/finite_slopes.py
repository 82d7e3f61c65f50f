"""Operators with an infinite slope somewhere have the slope 0 there.

    d sqrt(x) / dx = 1 / (2 sqrt(x)) = inf at x = 0, and 0 * inf = NaN: what other branches have to say of x is lost with it

Rounding puts many numbers just there, since 0 is on every grid. 0 is what torch takes where a slope is not defined at all, as
that of |x| at 0. Values are not touched, nor any slope that is finite.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

STEEP_OPS = frozenset({
    "Acos", "Acosh", "Asin", "Atanh", "Div", "GlobalLpPool", "GroupNormalization", "InstanceNormalization", "LRN",
    "LayerNormalization", "Log", "LpNormalization", "LpPool", "MeanVarianceNormalization", "Pow", "RMSNormalization",
    "Reciprocal", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "Sqrt",
})  # fmt: skip
"""Operators that contain a root, a logarithm, a reciprocal or a norm; normalisations may have an epsilon of 0."""


class FiniteSlopes(nn.Module):
    """forward as that of `module`; what of its gradient is not finite is 0."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor | None) -> Any:
        return self.module(*(x if x is None or not x.requires_grad else _finite(x) for x in tensors))


class _Finite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return torch.nan_to_num(slopes[0], nan=0.0, posinf=0.0, neginf=0.0)


def _finite(x: Tensor) -> Tensor:
    found: Tensor = _Finite.apply(x)
    return found
