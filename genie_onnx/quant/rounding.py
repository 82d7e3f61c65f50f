"""Learned rounding with a joint step size (paper, Eq. 9-11 and Algorithm 2; AdaRound's rectified sigmoid and regulariser).

    B   = floor(W / s0), a constant                    V = h(v) = clip(sigmoid(v) (zeta - gamma) + gamma, 0, 1)
    w_q = s (clip(B + V + z, 0, 2^b - 1) - z)          d w_q/d s = clip(...) - z,   d w_q/d v = s h'(v),   d w_q/d B = 0
    R   = sum(1 - |2 h(v) - 1|^beta)

B + z is an integer and V lies in [0, 1], so whether an element is clipped does not depend on v: it is decided once. Where the
clip swallows V, v starts where h is 0 and flat, and stays there; so clip(B + V + z, 0, 2^b - 1) - z = base + V everywhere.

All weights of a block share one flat v (summed module by module, the rounding term costs more than the
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
PIECE = 2**21  # elements worked on at once: small against a large weight; a piece takes two dozen operators, so few of them


def h(v: Tensor) -> Tensor:
    """Return the soft bits V in [0, 1] of the logits `v`."""
    return torch.clamp(torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA, 0, 1)


def inverse_h(soft_bits: Tensor) -> Tensor:
    """Return the logits v with h(v) = `soft_bits`, for soft bits in [0, 1]."""
    return torch.logit((soft_bits - GAMMA) / (ZETA - GAMMA))


@dataclass(frozen=True)
class Penalty:
    """lambda R: the exponent beta of R, and `weight`, lambda; 0-dim tensors, so that a captured step reads what they are then."""

    beta: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Piece:
    """Rows that lie side by side in the flat tensors: (k, rows of weight k), and their shapes, (number, K_k)."""

    rows: tuple[tuple[int, slice], ...]
    shapes: tuple[tuple[int, int], ...]

    def take(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Return the rows out of the weights [C_k, K_k], or of any [C_k, ...], as views."""
        return [weights[k] if rows == slice(0, len(weights[k])) else weights[k][rows] for k, rows in self.rows]

    def cut(self, elements: Tensor) -> list[Tensor]:
        """Return the rows as views [number, K_k] of the elements of this piece."""
        parts = elements.split([number * length for number, length in self.shapes])
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
        for piece, logits, base in zip(rounding.pieces, rounding.in_pieces(v), rounding.in_pieces(rounding.base), strict=True):
            rows = zip(piece.rows, piece.take(weights), piece.cut(logits), piece.cut(base), strict=True)
            for (k, places), w, logit, constant in rows:
                s, z = (part[places].unsqueeze(1) for part in grids[k])
                qmax = 2 ** bits[k] - 1
                ratio = w / s
                floor = torch.floor(ratio)  # B
                constant.copy_((floor + z).clamp_(0, qmax).sub_(z))
                moves = (floor + z >= 0) & (floor + z <= qmax - 1)
                logit.copy_(inverse_h(ratio.sub_(floor)).masked_fill_(~moves, FLAT))
        return rounding, v

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """All elements in order, about PIECE at a time: small weights together, large ones some rows at a time."""
        return tuple(_pieces(self.shapes))

    def in_pieces(self, flat: Tensor) -> Sequence[Tensor]:
        """Return the elements of each piece as views of a flat tensor [P]."""
        sizes = [sum(number * length for number, length in piece.shapes) for piece in self.pieces]
        return [flat] if len(sizes) == 1 else flat.split(sizes)

    def split(self, flat: Tensor) -> list[Tensor]:
        """Return the views [C_k, K_k] of a flat tensor [P]."""
        return [part.view(shape) for part, shape in zip(flat.split([c * k for c, k in self.shapes]), self.shapes, strict=True)]

    def split_scale(self, scale: Tensor) -> list[Tensor]:
        """Return the views [C_k, 1] of the flat scales [S]."""
        return [part.unsqueeze(1) for part in scale.split([c for c, _ in self.shapes])]


def _pieces(shapes: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    rows: list[tuple[int, slice]] = []
    elements = 0
    for k, (number, length) in enumerate(shapes):
        first = 0
        while first < number:
            fitting = min(number - first, (PIECE - elements) // length)
            if rows and not fitting:
                yield _piece(rows, shapes)
                rows, elements = [], 0
                continue
            last = first + max(fitting, 1)
            rows.append((k, slice(first, last)))
            elements += (last - first) * length
            first = last
    yield _piece(rows, shapes)


def _piece(rows: Sequence[tuple[int, slice]], shapes: Sequence[tuple[int, int]]) -> Piece:
    return Piece(tuple(rows), tuple((part.stop - part.start, shapes[k][1]) for k, part in rows))


class _SoftWeights(torch.autograd.Function):
    """v [P], s [S] -> w_q of each weight; the backward pass adds the gradient of the penalty to that of v."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, scale: Tensor, rounding: SoftRounding, penalty: Penalty | None) -> tuple[Tensor, ...]:
        ctx.save_for_backward(v, scale)
        ctx.rounding, ctx.penalty = rounding, penalty
        flat, scales = torch.empty_like(v), rounding.split_scale(scale)
        parts = (rounding.in_pieces(tensor) for tensor in (v, rounding.base, flat))
        for piece, logits, base, codes in zip(rounding.pieces, *parts, strict=True):
            torch.sigmoid(logits, out=codes)
            codes.mul_(ZETA - GAMMA).add_(GAMMA).clamp_(0, 1).add_(base)  # clip(B + V + z, 0, 2^b - 1) - z
            for rows, s in zip(piece.cut(codes), piece.take(scales), strict=True):
                rows.mul_(s)
        return tuple(rounding.split(flat))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        v, scale = ctx.saved_tensors
        rounding, penalty = ctx.rounding, ctx.penalty
        grad_v, grad_scale, scales = torch.empty_like(v), [], rounding.split_scale(scale)
        parts = (rounding.in_pieces(tensor) for tensor in (v, rounding.base, grad_v))
        for piece, logits, base, slope in zip(rounding.pieces, *parts, strict=True):
            sigmoid = torch.sigmoid(logits)
            soft = torch.mul(sigmoid, ZETA - GAMMA).add_(GAMMA).clamp_(0, 1)
            for rows, codes, grad, s in zip(
                piece.cut(slope), piece.cut(soft + base), piece.take(grads), piece.take(scales), strict=True
            ):
                torch.mul(grad, s, out=rows)
                grad_scale.append(codes.mul_(grad).sum(1))
            if penalty is not None:  # d R / d h = -2 beta |2h - 1|^(beta - 1) sign(2h - 1)
                distance = torch.mul(soft, 2).sub_(1)
                direction = _power(distance, penalty.beta - 1).copysign_(distance)
                slope.addcmul_(direction, penalty.weight * penalty.beta, value=-2)
            through_clip = torch.ops.aten.hardtanh_backward(slope, soft, 0.0, 1.0)
            torch.mul(torch.ops.aten.sigmoid_backward(through_clip, sigmoid), ZETA - GAMMA, out=slope)
        return grad_v, torch.cat(grad_scale), None, None


def _power(distance: Tensor, exponent: Tensor) -> Tensor:
    """Return |distance|^exponent, through the logarithm: four times as fast on a CPU as pow.

    What is below e^-80 is e^-80: a CPU takes fifty times as long for numbers that are denormal.
    """
    return distance.abs().log_().mul_(exponent).clamp_min_(-80.0).exp_()


def soft_weights(v: Tensor, scale: Tensor, rounding: SoftRounding, penalty: Penalty | None) -> list[Tensor]:
    """Return the soft-quantised weights [C_k, K_k], differentiable in v [P] and scale [S].

    A backward pass through them adds the gradient of `penalty` to that of v. The penalty itself is not computed: an
    optimisation needs only its slope.
    """
    return list(_SoftWeights.apply(v, scale, rounding, penalty))


def harden(v: Tensor, rounding: SoftRounding) -> list[Tensor]:
    """Return the final codes - z of each weight, int8 [C_k, K_k]: V in {0, 1} by v >= 0 (h(v) >= 1/2)."""
    return rounding.split(rounding.base + (v >= 0))
