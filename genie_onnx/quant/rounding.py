"""Learned rounding with a joint step size (paper, Eq. 9-11 and Algorithm 2; AdaRound's rectified sigmoid and regulariser).

    B   = floor(W / s0), a constant                    V = h(v) = clip(sigmoid(v) (zeta - gamma) + gamma, 0, 1)
    w_q = s (clip(B + V + z, 0, 2^b - 1) - z)          d w_q/d s = clip(...) - z,   d w_q/d v = s h'(v),   d w_q/d B = 0
    R   = sum(1 - |2 h(v) - 1|^beta)

B + z is an integer and V lies in [0, 1], so whether an element is clipped does not depend on v: it is decided once, and
clip(B + V + z, 0, 2^b - 1) = base + alive V with two constant tensors. All weights of a block share one flat v (METHOD 3:
summed module by module, the rounding term costs more than the convolutions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genie_onnx.quant.ranges import Grid

GAMMA, ZETA = -0.1, 1.1


def h(v: Tensor) -> Tensor:
    """Return the soft bits V in [0, 1] of the logits `v`."""
    return torch.clamp(torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA, 0, 1)


def inverse_h(soft_bits: Tensor) -> Tensor:
    """Return the logits v with h(v) = `soft_bits`, for soft bits in [0, 1]."""
    return torch.logit((soft_bits - GAMMA) / (ZETA - GAMMA))


@dataclass(frozen=True)
class SoftRounding:
    """The constants of the learned rounding of several weights, laid end to end.

    Each weight is [C_k, K_k], its output channels first; P = sum C_k K_k, S = sum C_k.
    """

    shapes: tuple[tuple[int, int], ...]
    base: Tensor  # [P] clip(B + z, 0, 2^b - 1) - z
    alive: Tensor  # [P] 1 where V moves the code, 0 where the clip swallows it
    initial_v: Tensor  # [P] h(initial_v) = W / s0 - B
    initial_scale: Tensor  # [S] s0
    zero_points: tuple[Tensor, ...]  # [C_k] each

    @staticmethod
    def build(weights: Sequence[Tensor], grids: Sequence[Grid], bits: Sequence[int]) -> SoftRounding:
        """Derive the constants from `weights` ([C_k, K_k] float32), their searched grids and bits."""
        base, alive, logits = [], [], []
        for w, (scale, zero_point), b in zip(weights, grids, bits, strict=True):
            s, z = scale.unsqueeze(1), zero_point.unsqueeze(1)
            qmax = 2**b - 1
            floor = torch.floor(w / s)  # B
            base.append(((floor + z).clamp(0, qmax) - z).flatten())
            alive.append(((floor + z >= 0) & (floor + z <= qmax - 1)).to(w.dtype).flatten())
            logits.append(inverse_h(w / s - floor).flatten())
        return SoftRounding(
            shapes=tuple((w.shape[0], w.shape[1]) for w in weights),
            base=torch.cat(base),
            alive=torch.cat(alive),
            initial_v=torch.cat(logits),
            initial_scale=torch.cat([g.scale for g in grids]),
            zero_points=tuple(g.zero_point for g in grids),
        )

    def split(self, flat: Tensor) -> list[Tensor]:
        """Return the views [C_k, K_k] of a flat tensor [P]."""
        return [part.view(shape) for part, shape in zip(flat.split([c * k for c, k in self.shapes]), self.shapes, strict=True)]

    def split_scale(self, scale: Tensor) -> list[Tensor]:
        """Return the views [C_k, 1] of the flat scales [S]."""
        return [part.unsqueeze(1) for part in scale.split([c for c, _ in self.shapes])]


class _SoftWeights(torch.autograd.Function):
    """v [P], s [S], beta -> (R, w_q of each weight); the gradient of all of it in one pass over flat tensors."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, scale: Tensor, beta: float, rounding: SoftRounding) -> tuple[Tensor, ...]:
        sigmoid = torch.sigmoid(v)
        stretched = sigmoid * (ZETA - GAMMA) + GAMMA
        soft = stretched.clamp(0, 1)
        codes = torch.addcmul(rounding.base, rounding.alive, soft)  # clip(B + V + z, 0, 2^b - 1) - z
        weights = [c * s for c, s in zip(rounding.split(codes), rounding.split_scale(scale), strict=True)]
        distance = soft.mul_(2).sub_(1)  # 2 h(v) - 1
        # beta = 0 stands for "no rounding term": R is then not worth its pass
        regulariser = v.new_zeros(()) if beta == 0 else v.numel() - _power(distance, beta).sum()
        ctx.save_for_backward(sigmoid, stretched, distance, codes, scale)
        ctx.beta, ctx.rounding = beta, rounding
        return regulariser, *weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        sigmoid, stretched, distance, codes, scale = ctx.saved_tensors
        rounding, beta = ctx.rounding, ctx.beta
        grad_r, grad_weights = grads[0], grads[1:]
        grad_soft = torch.empty_like(codes)
        grad_scale = []
        parts = (rounding.split(grad_soft), rounding.split(codes), rounding.split_scale(scale), grad_weights)
        for out, code, s, grad in zip(*parts, strict=True):
            grad_scale.append((grad * code).sum(1))
            torch.mul(grad, s, out=out)
        grad_soft *= rounding.alive
        if beta != 0:  # d R / d h = -2 beta |2h - 1|^(beta - 1) sign(2h - 1)
            slope = _power(distance, beta - 1).mul_(distance.sign())
            grad_soft.addcmul_(slope, grad_r, value=-2 * beta)
        through_clip = torch.ops.aten.hardtanh_backward(grad_soft, stretched, 0.0, 1.0)
        grad_v = torch.ops.aten.sigmoid_backward(through_clip, sigmoid).mul_(ZETA - GAMMA)
        return grad_v, torch.cat(grad_scale), None, None


def _power(distance: Tensor, exponent: float) -> Tensor:
    """Return |distance|^exponent, through the logarithm: four times as fast on a CPU as pow, and 0 stays 0."""
    return distance.abs().log_().mul_(exponent).exp_()


def soft_weights(v: Tensor, scale: Tensor, beta: float, rounding: SoftRounding) -> tuple[Tensor, list[Tensor]]:
    """Return R (0-dim; 0 when `beta` is 0) and the soft-quantised weights [C_k, K_k], differentiable in v [P] and scale [S]."""
    regulariser, *weights = _SoftWeights.apply(v, scale, beta, rounding)
    return regulariser, weights


def harden(v: Tensor, rounding: SoftRounding) -> list[Tensor]:
    """Return the final codes - z of each weight [C_k, K_k]: V in {0, 1} by v >= 0 (h(v) >= 1/2)."""
    return rounding.split(torch.addcmul(rounding.base, rounding.alive, (v >= 0).to(rounding.base.dtype)))
