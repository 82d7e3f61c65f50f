"""BatchNormalization with fixed statistics as what it is: y = a x + b, with a = scale / sqrt(var + eps) and b = bias - mean a.

torch's own backward for it adds up gradients of scale and bias that nobody asked for: with a and b the backward takes half the
time (CPU, measured).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

from genie_onnx.importer import BatchNormalization


class FrozenBatchNorm(nn.Module):
    """forward(x [N, C, ...], scale, bias, mean, var: each [C]), as `BatchNormalization`; differentiable in x."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """Return y, of the shape of x."""
        a = scale * torch.rsqrt(var + self.epsilon)
        b = bias - mean * a
        shape = [1, -1] + [1] * (x.dim() - 2)
        return torch.addcmul(b.view(shape).to(x.dtype), x, a.view(shape).to(x.dtype))


def with_frozen_bn(module: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of `module` with every BatchNormalization frozen; `module` is left alone."""
    frozen = copy.deepcopy(module)
    for name, layer in list(frozen.named_modules()):
        if isinstance(layer, BatchNormalization):
            frozen.set_submodule(name, FrozenBatchNorm(layer.epsilon))
    return frozen
