"""Learned rounding with a joint step size (paper, Eq. 9-11 and Algorithm 2; AdaRound's rectified sigmoid and regulariser).

    B   = floor(W / s0), a constant                    V = h(v) = clip(sigmoid(v) (zeta - gamma) + gamma, 0, 1)
    w_q = s (clip(B + V + z, 0, 2^b - 1) - z)          d w_q/d s = clip(...) - z,   d w_q/d v = s h'(v),   d w_q/d B = 0
    R   = sum(1 - |2 h(v) - 1|^beta)

B + z is an integer and V lies in [0, 1], so whether an element is clipped does not depend on v: it is decided once. Where the
clip swallows V, v starts where h is 0 and flat, and stays there; so clip(B + V + z, 0, 2^b - 1) - z = base + V everywhere.

All weights of a block share one flat v (METHOD 3: summed module by module, the rounding term costs more than the
convolutions). A Gemm may have 10^8 weights, so everything is done piece by piece, and computed again in the backward pass
rather than kept: beside v, its gradient and w_q, an iteration holds nothing of that size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genie_onnx.quant.ranges import Grid

GAMMA, ZETA = -0.1, 1.1
FLAT = -10.0  # a logit at which h is 0 and has no slope
PIECE = 2**17  # elements worked on at once: a handful of such tensors stays in a core's cache


def h(v: Tensor) -> Tensor:
    """Return the soft bits V in [0, 1] of the logits `v`."""
    return _stretched(torch.sigmoid(v)).clamp_(0, 1)


def inverse_h(soft_bits: Tensor) -> Tensor:
    """Return the logits v with h(v) = `soft_bits`, for soft bits in [0, 1]."""
    return torch.logit((soft_bits - GAMMA) / (ZETA - GAMMA))


def _stretched(sigmoid: Tensor) -> Tensor:
    return torch.mul(sigmoid, ZETA - GAMMA).add_(GAMMA)


@dataclass(frozen=True)
class Penalty:
    """lambda R: the exponent beta of R, and `weight`, lambda, 0-dim."""

    beta: float
    weight: Tensor


@dataclass(frozen=True)
class Piece:
    """Elements that lie side by side in the flat tensors, and the rows that they are: (k, rows of weight k), row length."""

    elements: slice
    rows: tuple[tuple[int, slice], ...]
    shapes: tuple[tuple[int, int], ...]

    def cut(self, elements: Tensor) -> list[Tensor]:
        """Return the rows as views [rows, K_k] of the flat tensor of this piece's elements."""
        parts = elements.split([count * length for count, length in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


@dataclass(frozen=True)
class SoftRounding:
    """The constants of the learned rounding of several weights, laid end to end.

    Each weight is [C_k, K_k], its output channels first; P = sum C_k K_k, S = sum C_k.
    """

    shapes: tuple[tuple[int, int], ...]
    base: Tensor  # [P] int8, clip(B + z, 0, 2^b - 1) - z: a weight's grid is one that INT8 holds without zero point
    initial_scale: Tensor  # [S] s0
    zero_points: tuple[Tensor, ...]  # [C_k] each

    @staticmethod
    def build(weights: Sequence[Tensor], grids: Sequence[Grid], bits: Sequence[int]) -> tuple[SoftRounding, Tensor]:
        """Return the constants of `weights` ([C_k, K_k] float32) on their searched grids, and the logits v [P] to start from.

        There h(v) = W / s0 - B; where V does not move the code, v = FLAT.
        """
        v = weights[0].new_empty(sum(w.numel() for w in weights))
        rounding = SoftRounding(
            shapes=tuple((w.shape[0], w.shape[1]) for w in weights),
            base=torch.empty_like(v, dtype=torch.int8),
            initial_scale=torch.cat([g.scale for g in grids]),
            zero_points=tuple(g.zero_point for g in grids),
        )
        for piece in rounding.pieces:
            places = zip(piece.rows, piece.cut(v[piece.elements]), piece.cut(rounding.base[piece.elements]), strict=True)
            for (k, rows), logits, base in places:
                s, z = (part[rows].unsqueeze(1) for part in grids[k])
                qmax = 2 ** bits[k] - 1
                ratio = weights[k][rows] / s
                floor = torch.floor(ratio)  # B
                base.copy_((floor + z).clamp_(0, qmax).sub_(z))
                moves = (floor + z >= 0) & (floor + z <= qmax - 1)
                logits.copy_(inverse_h(ratio.sub_(floor)).masked_fill_(~moves, FLAT))
        return rounding, v

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """All elements in order, about PIECE at a time: small weights together, large ones some rows at a time."""
        return tuple(_pieces(self.shapes))

    def split(self, flat: Tensor) -> list[Tensor]:
        """Return the views [C_k, K_k] of a flat tensor [P]."""
        return [part.view(shape) for part, shape in zip(flat.split([c * k for c, k in self.shapes]), self.shapes, strict=True)]

    def split_scale(self, scale: Tensor) -> list[Tensor]:
        """Return the views [C_k, 1] of the flat scales [S]."""
        return [part.unsqueeze(1) for part in scale.split([c for c, _ in self.shapes])]


def _pieces(shapes: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    start = end = 0
    rows: list[tuple[int, slice]] = []
    for k, (count, length) in enumerate(shapes):
        first = 0
        while first < count:
            fitting = min(count - first, (PIECE - (end - start)) // length)
            if rows and not fitting:
                yield _piece(start, end, rows, shapes)
                start, rows = end, []
                continue
            last = first + max(fitting, 1)
            rows.append((k, slice(first, last)))
            end += (last - first) * length
            first = last
    yield _piece(start, end, rows, shapes)


def _piece(start: int, end: int, rows: Sequence[tuple[int, slice]], shapes: Sequence[tuple[int, int]]) -> Piece:
    return Piece(slice(start, end), tuple(rows), tuple((part.stop - part.start, shapes[k][1]) for k, part in rows))


class _SoftWeights(torch.autograd.Function):
    """v [P], s [S] -> w_q of each weight; the backward pass adds the gradient of the penalty to that of v."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, scale: Tensor, rounding: SoftRounding, penalty: Penalty | None) -> tuple[Tensor, ...]:
        ctx.save_for_backward(v, scale)
        ctx.rounding, ctx.penalty = rounding, penalty
        weights = tuple(v.new_empty(shape) for shape in rounding.shapes)
        scales = rounding.split_scale(scale)
        for piece in rounding.pieces:
            codes = h(v[piece.elements]).add_(rounding.base[piece.elements])  # clip(B + V + z, 0, 2^b - 1) - z
            for (k, rows), code in zip(piece.rows, piece.cut(codes), strict=True):
                torch.mul(code, scales[k][rows], out=weights[k][rows])
        return weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        v, scale = ctx.saved_tensors
        rounding, penalty = ctx.rounding, ctx.penalty
        grad_v, grad_scale = torch.empty_like(v), torch.empty_like(scale)
        scales, scale_slopes = rounding.split_scale(scale), rounding.split_scale(grad_scale)
        for piece in rounding.pieces:
            sigmoid = torch.sigmoid(v[piece.elements])
            stretched = _stretched(sigmoid)
            soft = stretched.clamp(0, 1)
            codes = soft + rounding.base[piece.elements]
            slope = grad_v[piece.elements]  # with respect to V, until it is one with respect to v
            for (k, rows), code, out in zip(piece.rows, piece.cut(codes), piece.cut(slope), strict=True):
                grad = grads[k][rows]
                torch.mul(grad, scales[k][rows], out=out)
                torch.sum(code.mul_(grad), 1, keepdim=True, out=scale_slopes[k][rows])
            if penalty is not None:  # d R / d h = -2 beta |2h - 1|^(beta - 1) sign(2h - 1)
                distance = soft.mul_(2).sub_(1)
                direction = _power(distance, penalty.beta - 1).mul_(distance.sign())
                slope.addcmul_(direction, penalty.weight, value=-2 * penalty.beta)
            through_clip = torch.ops.aten.hardtanh_backward(slope, stretched, 0.0, 1.0)
            torch.ops.aten.sigmoid_backward(through_clip, sigmoid, grad_input=slope)
            slope.mul_(ZETA - GAMMA)
        return grad_v, grad_scale, None, None


def _power(distance: Tensor, exponent: float) -> Tensor:
    """Return |distance|^exponent, through the logarithm: four times as fast on a CPU as pow, and 0 stays 0."""
    return distance.abs().log_().mul_(exponent).exp_()


def soft_weights(v: Tensor, scale: Tensor, rounding: SoftRounding, penalty: Penalty | None) -> list[Tensor]:
    """Return the soft-quantised weights [C_k, K_k], differentiable in v [P] and scale [S].

    A backward pass through them adds the gradient of `penalty` to that of v. The penalty itself is not computed: an
    optimisation needs only its slope.
    """
    return list(_SoftWeights.apply(v, scale, rounding, penalty))


def harden(v: Tensor, rounding: SoftRounding) -> list[Tensor]:
    """Return the final codes - z of each weight, int8 [C_k, K_k]: V in {0, 1} by v >= 0 (h(v) >= 1/2)."""
    return rounding.split(rounding.base + (v >= 0))
