"""Activations: element-wise functions of x with constants from the node's attributes, and the two softmaxes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.importer.calls import Call
from genie_onnx.importer.operation import NodeReader, Operation


def relu(node: NodeReader) -> Operation:
    return Operation(nn.ReLU())


def leaky_relu(node: NodeReader) -> Operation:
    return Operation(nn.LeakyReLU(node.number("alpha", 0.01)))


def elu(node: NodeReader) -> Operation:
    return Operation(nn.ELU(node.number("alpha", 1.0)))


def celu(node: NodeReader) -> Operation:
    return Operation(nn.CELU(node.number("alpha", 1.0)))


class Selu(nn.Module):
    """gamma * (x if x > 0 else alpha * (exp(x) - 1)); the defaults are those of the ONNX specification."""

    def __init__(self, alpha: float, gamma: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * F.elu(x, self.alpha)


def selu(node: NodeReader) -> Operation:
    return Operation(Selu(node.number("alpha", 1.67326319217681884765625), node.number("gamma", 1.05070102214813232421875)))


def prelu(node: NodeReader) -> Operation:
    return Operation(Call(_prelu), tensors=(0, 1))


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    """x where x >= 0, else slope * x. The slope broadcasts as in numpy; torch's own prelu has one for each channel."""
    by_channel = slope.dim() == x.dim() - 1 and slope.shape[0] == slope.numel()
    return F.prelu(x, slope.flatten()) if by_channel else torch.where(x >= 0, x, x * slope)


class HardSigmoid(nn.Module):
    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return (self.alpha * x + self.beta).clamp(0.0, 1.0)


def hard_sigmoid(node: NodeReader) -> Operation:
    return Operation(HardSigmoid(node.number("alpha", 0.2), node.number("beta", 0.5)))


def gelu(node: NodeReader) -> Operation:
    return Operation(nn.GELU(node.text("approximate", "none")))


class Swish(nn.Module):
    """x * sigmoid(alpha * x)."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.alpha * x)


def swish(node: NodeReader) -> Operation:
    return Operation(Swish(node.number("alpha", 1.0)))


class ThresholdedRelu(nn.Module):
    """x where x > alpha, else 0."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return F.threshold(x, self.alpha, 0.0)


def thresholded_relu(node: NodeReader) -> Operation:
    return Operation(ThresholdedRelu(node.number("alpha", 1.0)))


class Shrink(nn.Module):
    """x + bias where x < -bound, x - bias where x > bound, else 0."""

    def __init__(self, bound: float, bias: float) -> None:
        super().__init__()
        self.bound = bound
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() > self.bound, x - self.bias * torch.sign(x), torch.zeros_like(x))


def shrink(node: NodeReader) -> Operation:
    bound = node.number("lambd", 0.5)
    if bound < 0:
        raise node.refuse(f"lambd={bound}", "zero or more")
    return Operation(Shrink(bound, node.number("bias", 0.0)))


class Clip(nn.Module):
    """min(max(x, low), high) with constant bounds, None for no bound."""

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low = low
        self.high = high

    def forward(self, x: Tensor) -> Tensor:
        return x if self.low is None and self.high is None else x.clamp(self.low, self.high)

    def extra_repr(self) -> str:
        return f"{self.low}, {self.high}"


def clip(node: NodeReader) -> Operation:
    bounds = [node.array(1), node.array(2)]
    if any(node.has(i + 1) and bound is None for i, bound in enumerate(bounds)):
        return Operation(Call(torch.clamp), tensors=(0, 1, 2))
    low, high = (None if bound is None else bound.item() for bound in bounds)
    return Operation(Clip(low, high))


def softmax(node: NodeReader) -> Operation:
    return Operation(nn.Softmax(node.integer("axis", -1)))


def log_softmax(node: NodeReader) -> Operation:
    return Operation(nn.LogSoftmax(node.integer("axis", -1)))
