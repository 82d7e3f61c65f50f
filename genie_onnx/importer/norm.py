"""Normalisations: forward(x, scale, bias, ...) with every parameter an argument.

    BatchNormalization         (x - mean) / sqrt(var + eps) * scale + bias, statistics [C] given (inference only)
    InstanceNormalization      statistics over the space of each sample and channel
    GroupNormalization         statistics over groups of channels; scale and bias are [C] (opset 21), [groups] before
    LayerNormalization         statistics over axes `axis` and later
    RMSNormalization           x / sqrt(mean of x*x over axes `axis` and later + eps) * scale
    MeanVarianceNormalization  (x - mean) / std over given axes
    LpNormalization            x / norm of x along one axis
    LRN                        x / (bias + alpha/size * sum of squares in a window of `size` channels) ** beta

Variances are those of the population (divided by n), as everywhere in ONNX.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.importer.operation import NodeReader, Operation


class BatchNormalization(nn.Module):
    """forward(x [N, C, ...], scale, bias, mean, var: each [C])."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return F.batch_norm(x, mean, var, scale, bias, False, 0.0, self.epsilon)

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon}"


def batch_normalization(node: NodeReader) -> Operation:
    if node.integer("training_mode", 0):
        raise node.refuse("training_mode=1", "inference; export the model in eval mode")
    return Operation(BatchNormalization(node.number("epsilon", 1e-5)), tensors=(0, 1, 2, 3, 4))


class GroupNormalization(nn.Module):
    """forward(x [N, C, ...], scale, bias), scale and bias [C] or [groups]; groups=None is one group a channel (instance norm)."""

    def __init__(self, groups: int | None, epsilon: float) -> None:
        super().__init__()
        self.groups = groups
        self.epsilon = epsilon

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        channels = x.shape[1]
        if scale.shape[0] != channels:
            scale = scale.repeat_interleave(channels // scale.shape[0])
            bias = bias.repeat_interleave(channels // bias.shape[0])
        # torch.group_norm rather than functional.instance_norm: that one refuses a space of one pixel.
        return torch.group_norm(x, channels if self.groups is None else self.groups, scale, bias, self.epsilon)


def instance_normalization(node: NodeReader) -> Operation:
    return Operation(GroupNormalization(None, node.number("epsilon", 1e-5)), tensors=(0, 1, 2))


def group_normalization(node: NodeReader) -> Operation:
    return Operation(GroupNormalization(node.integer("num_groups", 1), node.number("epsilon", 1e-5)), tensors=(0, 1, 2))


class LayerNormalization(nn.Module):
    """forward(x, scale, bias or None); scale and bias broadcast to x.shape[axis:]."""

    def __init__(self, axis: int, epsilon: float) -> None:
        super().__init__()
        self.axis = axis
        self.epsilon = epsilon

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[self.axis :]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return F.layer_norm(x, shape, scale, bias, self.epsilon)
        y = F.layer_norm(x, shape, eps=self.epsilon) * scale
        return y if bias is None else y + bias


def layer_normalization(node: NodeReader) -> Operation:
    return Operation(LayerNormalization(node.integer("axis", -1), node.number("epsilon", 1e-5)), tensors=(0, 1, 2))


class RMSNormalization(nn.Module):
    """forward(x, scale); scale broadcasts to x.shape[axis:]."""

    def __init__(self, axis: int, epsilon: float) -> None:
        super().__init__()
        self.axis = axis
        self.epsilon = epsilon

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[self.axis :], eps=self.epsilon) * scale


def rms_normalization(node: NodeReader) -> Operation:
    return Operation(RMSNormalization(node.integer("axis", -1), node.number("epsilon", 1e-5)), tensors=(0, 1))


class MeanVariance(nn.Module):
    """(x - mean) / (std + 1e-9) over the axes; the constant is that of the function in the ONNX specification."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, self.axes, correction=0, keepdim=True)
        return (x - mean) / (var.sqrt() + 1e-9)


def mean_variance_normalization(node: NodeReader) -> Operation:
    return Operation(MeanVariance(node.integers("axes", (0, 2, 3))))


def lrn(node: NodeReader) -> Operation:
    size = node.integer("size", 1)
    if size % 2 == 0:  # the window of an even size lies differently in torch, and onnxruntime refuses it too
        raise node.refuse(f"size={size}", "odd sizes")
    alpha, beta, bias = node.number("alpha", 1e-4), node.number("beta", 0.75), node.number("bias", 1.0)
    return Operation(nn.LocalResponseNorm(size, alpha, beta, bias))


class LpNormalization(nn.Module):
    """x / norm(x, p) along one axis; zero vectors stay zero."""

    def __init__(self, p: int, axis: int) -> None:
        super().__init__()
        self.p = p
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, p=float(self.p), dim=self.axis, eps=torch.finfo(x.dtype).tiny)


def lp_normalization(node: NodeReader) -> Operation:
    return Operation(LpNormalization(node.integer("p", 2), node.integer("axis", -1)))
