"""Fake quantization of activations with a learned step (LSQ) and random dropping of it (QDrop).

    x_q = s round(clip(x / s, n, p)),   n = -z, p = 2^b - 1 - z
    d x_q/d x = 1 inside (n, p), else 0          d x_q/d s = round(u) - u inside, n or p outside,   u = x / s
    y   = m x_q + (1 - m) x                      m: 1 quantised, 0 left alone (QDrop)

On a CPU these are two compiled loops (kernels); elsewhere a handful of torch operators, which a CUDA graph makes cheap to launch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_onnx.quant import kernels
from genie_onnx.quant.masks import WORD, MaskSource, unpacked


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: float, high: float, bits: Tensor | None) -> Tensor:
        x = _dense(x)
        ctx.save_for_backward(x, scale, bits)
        ctx.low, ctx.high = low, high
        if not _compiled(x):
            q = (x.float() / scale).clamp_(low, high).round_().mul_(scale).to(x.dtype)
            return q if bits is None else torch.where(_mask(bits, x), q, x)
        y = torch.empty_like(x)
        kernels.quantize(_array(x), _words(bits, x), *_numbers(scale, low, high), _array(y))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, scale, bits = ctx.saved_tensors
        grad = _strided_like(grads[0], x)
        if not _compiled(x):
            u = x.float() / scale
            inside = (u > ctx.low) & (u < ctx.high)
            slope = torch.where(inside, u.round() - u, u.clamp(ctx.low, ctx.high)).mul_(grad)
            if bits is not None:
                mask = _mask(bits, x)
                slope, inside = slope.mul_(mask), inside | ~mask
            return grad * inside, slope.sum(dtype=torch.float32), None, None, None
        grad_x = torch.empty_like(x)
        grad_scale = kernels.quantize_slopes(
            _array(x), _words(bits, x), _array(grad), *_numbers(scale, ctx.low, ctx.high), _array(grad_x)
        )
        return grad_x, scale.new_tensor(grad_scale), None, None, None


def fake_quantize(x: Tensor, scale: Tensor, zero_point: int, qmax: int, bits: Tensor | None = None) -> Tensor:
    """Round `x` (any shape, float) to the grid of `scale` (0-dim float32) and `zero_point` in 0..qmax, where `bits` are 1.

    `bits` as `MaskSource.draw` returns them for x's elements in order of memory; None rounds every element. For float32 the
    value is exactly that of ONNX QuantizeLinear -> Clip -> DequantizeLinear.
    """
    rounded: Tensor = _FakeQuantize.apply(x, scale, float(-zero_point), float(qmax - zero_point), bits)
    return rounded


def mix(x: Tensor, x_q: Tensor, masks: MaskSource, dtype: torch.dtype) -> Tensor:
    """Return `x` where a mask drawn from `masks` is 1, and `x_q` where it is 0, as `dtype`: two tensors of one shape, without
    gradients."""
    bits = masks.draw(x.numel())
    if bits is None:
        return x.to(dtype)
    x = _dense(x)
    x_q = _strided_like(x_q, x)
    if not _compiled(x):
        return torch.where(_mask(bits, x), x, x_q).to(dtype)
    y = torch.empty_like(x, dtype=dtype)
    kernels.select(_words(bits, x), _array(x), _array(x_q), _array(y))
    return y


def scaled_difference(x: Tensor, y: Tensor, factor: float) -> Tensor:
    """Return factor (x - y) in the type of `x`, for two tensors of one shape, without a gradient."""
    x = _dense(x.detach())
    y = _strided_like(y, x)
    if not _compiled(x):
        return torch.sub(x, y).mul_(factor).to(x.dtype)
    z = torch.empty_like(x)
    kernels.scaled_difference(_array(x), _array(y), np.float32(factor), _array(z))
    return z


def _compiled(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def _dense(x: Tensor) -> Tensor:
    """Return `x`, or a copy of it where its elements are not side by side in memory."""
    if x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    expected = 1
    for size, stride in sorted(zip(x.shape, x.stride(), strict=True), key=lambda pair: (pair[1], pair[0])):
        if size != 1 and stride != expected:
            return x.contiguous()
        expected *= size
    return x


def _strided_like(x: Tensor, other: Tensor) -> Tensor:
    """Return `x` with the order of memory that `other` has."""
    return x if x.stride() == other.stride() else torch.empty_like(other, dtype=x.dtype).copy_(x)


def _array(x: Tensor) -> np.ndarray:
    """Return the memory of a dense tensor as an array [n] for kernels: float32, or the bits of bfloat16."""
    flat = x.detach().as_strided((x.numel(),), (1,))
    array: np.ndarray = (flat.view(torch.uint16) if x.dtype == torch.bfloat16 else flat).numpy()
    return array


def _words(bits: Tensor | None, x: Tensor) -> np.ndarray:
    if bits is None:
        return np.full(-(-x.numel() // WORD), 0xFFFFFFFF, dtype=np.uint32)
    words: np.ndarray = bits.numpy().view(np.uint32)
    return words


def _numbers(scale: Tensor, low: float, high: float) -> tuple[np.float32, np.float32, np.float32]:
    return np.float32(scale.item()), np.float32(low), np.float32(high)


def _mask(bits: Tensor, x: Tensor) -> Tensor:
    """Return a mask as bool, of x's shape and strides."""
    return unpacked(bits, x.numel()).as_strided(x.shape, x.stride())
