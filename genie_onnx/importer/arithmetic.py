"""Element-wise arithmetic, comparison, logic and selection, where ONNX differs from the torch function of the same name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie_onnx.importer.calls import Call, variadic
from genie_onnx.importer.operation import NodeReader, Operation


def divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b; integers are truncated towards zero, as in C."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """base ** exponent in the type of the base."""
    return torch.pow(base, exponent).to(base.dtype)


class Power(nn.Module):
    """x ** exponent for one constant exponent; quicker than a tensor of it, and 0 ** 0 has no gradient of log(0)."""

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, x: Tensor) -> Tensor:
        return torch.pow(x, self.exponent).to(x.dtype)


def pow_(node: NodeReader) -> Operation:
    exponent = node.array(1)
    if exponent is not None and exponent.ndim == 0:
        return Operation(Power(exponent.item()))
    return Operation(Call(power), tensors=(0, 1))


def mod(node: NodeReader) -> Operation:
    """fmod=1: the sign of the dividend (C fmod); fmod=0: the sign of the divisor (Python %)."""
    return Operation(Call(torch.fmod if node.integer("fmod", 0) else torch.remainder), tensors=(0, 1))


class Mean(nn.Module):
    """The element-wise mean of any number of operands."""

    def forward(self, *tensors: Tensor) -> Tensor:
        return sum(tensors[1:], tensors[0]) / len(tensors)


def mean(node: NodeReader) -> Operation:
    return Operation(Mean(), tensors=tuple(range(node.input_count)))


def where(node: NodeReader) -> Operation:
    return Operation(Call(torch.where), tensors=(0, 1, 2))


maximum = variadic(torch.maximum)
minimum = variadic(torch.minimum)
total = variadic(torch.add)


class IsInf(nn.Module):
    """Whether x is plus or minus infinity, of the asked signs."""

    def __init__(self, positive: bool, negative: bool) -> None:
        super().__init__()
        self.positive = positive
        self.negative = negative

    def forward(self, x: Tensor) -> Tensor:
        return (torch.isposinf(x) & self.positive) | (torch.isneginf(x) & self.negative)


def is_inf(node: NodeReader) -> Operation:
    return Operation(IsInf(bool(node.integer("detect_positive", 1)), bool(node.integer("detect_negative", 1))))
