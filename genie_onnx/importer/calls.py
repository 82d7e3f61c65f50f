"""Modules that only call a function of their tensor arguments, for operators without anything to configure."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from torch import Tensor, nn

from genie_onnx.importer.operation import Converter, NodeReader, Operation


class Call(nn.Module):
    """forward(*tensors) = function(*tensors). The function lives in a module, so that copies and pickles work."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


class Fold(nn.Module):
    """forward(a, b, c, ...) = function(function(a, b), c)...; a single operand is returned as it is."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return reduce(self.function, tensors)


def unary(function: Callable[[Tensor], Tensor]) -> Converter:
    """The converter of an operator that is `function(x)`."""

    def convert(node: NodeReader) -> Operation:
        return Operation(Call(function))

    return convert


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Converter:
    """The converter of an operator that is `function(a, b)` with numpy broadcasting."""

    def convert(node: NodeReader) -> Operation:
        return Operation(Call(function), tensors=(0, 1))

    return convert


def variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Converter:
    """The converter of an operator that folds any number of operands with `function`."""

    def convert(node: NodeReader) -> Operation:
        return Operation(Fold(function), tensors=tuple(range(node.input_count)))

    return convert


def identity(node: NodeReader) -> Operation:
    """Identity, and Dropout at inference. The output is the input tensor itself."""
    return Operation(nn.Identity())
