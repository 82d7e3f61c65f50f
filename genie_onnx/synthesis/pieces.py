"""The gradient of a batch's loss where the batch is too large to be run at once: exact, for one more forward pass.

Eq. 5 depends on a batch only through the moments of each layer, and its gradient with respect to an element x is a + b x:

    1. every piece forward, without a gradient: its moments, and those of the whole batch from them -> loss, a and b of each layer
    2. every piece once more, with the gradient a + b x from each layer down to its images
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from genie_onnx.synthesis.bn_loss import Targets, affine, deviation, element_slope, statistics_loss, together, var_mean
from genie_onnx.synthesis.classes import WEIGHT, class_loss


class _Pulled(torch.autograd.Function):
    """x -> 0, with the gradient a + b x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, a, b)
        return x.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return affine(*ctx.saved_tensors), None, None


def loss_in_pieces(
    teacher: Callable[[Tensor], list[Tensor]], images: Tensor, stored: Targets, labels: Tensor | None, pieces: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Eq. 5 and the class term as scalar tensors, and the gradient of their sum with respect to `images` [N, C, H, W].

    teacher: images -> what enters each layer of `stored`, and scores [N, K] last where `labels` (int64 [N]) are given.
    """
    parts = images.detach().chunk(pieces)
    moments, counts, scores = _measured(teacher, parts, labels is not None)
    leaves = [(mean.requires_grad_(), deviation(v, n).requires_grad_()) for (v, mean), n in zip(moments, counts, strict=True)]
    bn = statistics_loss(leaves, stored)
    gradients = torch.autograd.grad(bn, [leaf for pair in leaves for leaf in pair])
    slopes = [
        element_slope(mean.detach(), std.detach(), count, *gradients[2 * k : 2 * k + 2])
        for k, ((mean, std), count) in enumerate(zip(leaves, counts, strict=True))
    ]
    sure = bn.new_zeros(()) if labels is None or scores is None else WEIGHT * class_loss(scores, labels)
    given = (None,) * pieces if labels is None else labels.chunk(pieces)
    found = [_slope(teacher, part, slopes, own, len(part) / len(images)) for part, own in zip(parts, given, strict=False)]
    return bn.detach(), sure, torch.cat(found)


@torch.no_grad()
def _measured(
    teacher: Callable[[Tensor], list[Tensor]], parts: Sequence[Tensor], scored: bool
) -> tuple[list[tuple[Tensor, Tensor]], list[int], Tensor | None]:
    """Return (variance, mean) and the number of elements of each channel, for each layer of the whole batch; and all scores."""
    layers: list[list[tuple[Tensor, Tensor]]] = []
    counts: list[int] = []
    scores = []
    shares = [len(part) / sum(map(len, parts)) for part in parts]
    for part in parts:
        values = teacher(part)
        if scored:
            *values, last = values
            scores.append(last.float())
        layers.append([var_mean(value) for value in values])
        sizes = [value.numel() // value.shape[1] for value in values]
        counts = [a + b for a, b in zip(counts or [0] * len(sizes), sizes, strict=True)]
    moments = [together(layer, shares) for layer in zip(*layers, strict=True)]
    return moments, counts, torch.cat(scores) if scored else None


def _slope(
    teacher: Callable[[Tensor], list[Tensor]],
    part: Tensor,
    slopes: Sequence[tuple[Tensor, Tensor]],
    labels: Tensor | None,
    share: float,
) -> Tensor:
    """Return the gradient with respect to the images of one piece."""
    images = part.requires_grad_()
    values = teacher(images)
    loss = images.new_zeros(())
    if labels is not None:
        *values, scores = values
        loss = share * WEIGHT * class_loss(scores.float(), labels)
    for value, (a, b) in zip(values, slopes, strict=True):
        loss = loss + _Pulled.apply(value, a, b)
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient
