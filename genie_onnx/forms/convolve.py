"""A convolution computed in a form: x and weight are brought into it, the result out of it, and gradients the other way.

    x, weight --type and layout of the form--> convolution --type and layout of the values around it--> y

Those are float32, or bfloat16 inside of `Compute.products` at that precision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from genie_onnx.forms.form import Form

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by rank


def convolve(
    function: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    form: Form,
    last: bool = False,
) -> Tensor:
    """Return function(x, weight, bias), computed in `form`: x [N, C, *S] in float32 or bfloat16, differentiable in all three.

    The result has the channels last where x has them so, or `last` says it.
    """
    low = torch.is_autocast_enabled("cpu")
    off: AbstractContextManager[object] = torch.autocast("cpu", enabled=False) if low else contextlib.nullcontext()
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32  # who computes in float64 means it
    dtype = torch.bfloat16 if form.bf16 else wide
    with off:  # it would choose the type once more
        y = function(
            _brought(x, dtype, form.channels_last),
            _brought(weight, dtype, form.channels_last),
            None if bias is None else bias.to(dtype),
        )
        return _brought(y, torch.bfloat16 if low else wide, last or has_channels_last(x))


def laid_out(x: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    """Return `x` [N, C, *S] in a type and a layout, with the very strides of that layout.

    Those of a dimension of size 1 are open, and torch takes for channels last what has strides like it: a depthwise weight, an
    image of one channel, a single pixel.
    """
    if channels_last and x.dim() in LAST:
        moved = x.to(dtype=dtype, memory_format=LAST[x.dim()]).movedim(1, -1)
        return _exactly(moved).movedim(-1, 1)
    return _exactly(x.to(dtype=dtype, memory_format=torch.contiguous_format))


def has_channels_last(x: Tensor) -> bool:
    """Whether `x` [N, C, *S] has its channels last in memory; not where both layouts are the same."""
    return x.dim() in LAST and not x.is_contiguous() and x.is_contiguous(memory_format=LAST[x.dim()])


class _Brought(torch.autograd.Function):
    """`laid_out`, whose gradient is laid out as x was: torch's own leaves that in whatever layout it comes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
        ctx.came = x.dtype, has_channels_last(x)
        y = laid_out(x, dtype, channels_last)
        return y.view_as(y) if y is x else y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return laid_out(grads[0], *ctx.came), None, None


def _brought(x: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    if not (x.requires_grad and torch.is_grad_enabled()):
        return laid_out(x, dtype, channels_last)
    brought: Tensor = _Brought.apply(x, dtype, channels_last)
    return brought


def _exactly(x: Tensor) -> Tensor:
    """Return `x`, contiguous, with the strides that follow from its shape."""
    strides, step = [], 1
    for size in reversed(x.shape):
        strides.append(step)
        step *= size
    return x if list(x.stride()) == strides[::-1] else x.contiguous().flatten().view(x.shape)
