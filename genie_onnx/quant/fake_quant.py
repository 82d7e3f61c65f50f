"""Fake quantization of activations with a learned step (LSQ) and random dropping of it (QDrop; METHOD 2).

    x_q = s round(clip(x / s, n, p)),   n = -z, p = 2^b - 1 - z
    d x_q/d x = 1 inside (n, p), else 0          d x_q/d s = round(u) - u inside, n or p outside,   u = x / s
    y   = m x_q + (1 - m) x                      m: 1 quantised, 0 left alone (QDrop)

One autograd node with a handful of vectorised passes: written as separate operators, `where` and the comparisons alone take
a third of an iteration on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: float, high: float, mask: Tensor | None) -> Tensor:
        u = x / scale
        q = u.clamp(low, high).round_()
        ctx.save_for_backward(u, q, mask)
        ctx.low, ctx.high = low, high
        y = q * scale
        # lerp is exact at weights 0 and 1
        return y if mask is None else torch.lerp(x, y, mask, out=y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        u, q, mask = ctx.saved_tensors
        grad = grads[0]
        grad_q = grad if mask is None else grad * mask
        inside = torch.ops.aten.hardtanh_backward(grad_q, u, ctx.low, ctx.high)
        grad_x = grad_scale = None
        if ctx.needs_input_grad[1]:
            # sum g (q - u [inside]) : outside the range q is the bound itself
            grad_scale = q.mul_(grad_q).sum() - u.mul_(inside).sum()
        if ctx.needs_input_grad[0]:
            grad_x = inside if mask is None else inside.add_(grad).sub_(grad_q)
        return grad_x, grad_scale, None, None, None


def fake_quantize(x: Tensor, scale: Tensor, zero_point: int, qmax: int, mask: Tensor | None = None) -> Tensor:
    """Round `x` (any shape, float32) to the grid of `scale` (0-dim) and `zero_point` in 0..qmax, where `mask` is 1.

    `mask` is float, of x's shape and strides, with values 0 and 1; None quantises every element. The forward value is
    exactly that of ONNX QuantizeLinear -> Clip -> DequantizeLinear.
    """
    return _FakeQuantize.apply(x, scale, float(-zero_point), float(qmax - zero_point), mask)
