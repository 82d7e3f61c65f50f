"""Reduce*, ArgMax and ArgMin.

Axes are constants: the attribute `axes` in older opsets, input 1 in newer ones (ReduceSum from 13, the others from 18).
No axes means all axes, or none where noop_with_empty_axes is set.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from genie_onnx.importer.operation import Converter, NodeReader, Operation

Reducer = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.mean(axes, keepdim=keep)


def _prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _l1(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x.abs(), axes, keep)


def _l2(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep).sqrt()


def _sum_square(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _log_sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x, axes, keep).log()


REDUCERS: dict[str, Reducer] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceProd": _prod,
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceSumSquare": _sum_square,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": torch.logsumexp,
}


class Reduce(nn.Module):
    """forward(x): `reducer` over the axes (None for all), reduced axes kept with size one where `keep`."""

    def __init__(self, reducer: Reducer, axes: tuple[int, ...] | None, keep: bool) -> None:
        super().__init__()
        self.reducer = reducer
        self.axes = axes
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        return self.reducer(x, tuple(range(x.dim())) if self.axes is None else self.axes, self.keep)

    def extra_repr(self) -> str:
        return f"{self.reducer.__name__}, axes={self.axes}, keep={self.keep}"


def reduce(op: str) -> Converter:
    """The converter of one of REDUCERS."""

    def convert(node: NodeReader) -> Operation:
        axes = node.constant_integers(1) if node.has(1) else node.integers("axes")
        if axes is None:
            raise node.refuse("the axes are computed", "constant axes")
        if not axes and node.integer("noop_with_empty_axes", 0):
            raise node.refuse("noop_with_empty_axes=1 without axes", "given axes")
        return Operation(Reduce(REDUCERS[op], axes or None, bool(node.integer("keepdims", 1))))

    return convert


class ArgExtreme(nn.Module):
    """Index of the largest or smallest value along an axis, the first or the last one of equals."""

    def __init__(self, largest: bool, axis: int, keep: bool, last: bool) -> None:
        super().__init__()
        self.largest = largest
        self.axis = axis
        self.keep = keep
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        find = torch.argmax if self.largest else torch.argmin
        if self.last:
            return x.shape[self.axis] - 1 - find(x.flip(self.axis), self.axis, self.keep)
        return find(x, self.axis, self.keep)


def arg_extreme(largest: bool) -> Converter:
    """The converter of ArgMax (largest) or ArgMin."""

    def convert(node: NodeReader) -> Operation:
        keep, last = bool(node.integer("keepdims", 1)), bool(node.integer("select_last_index", 0))
        return Operation(ArgExtreme(largest, node.integer("axis", 0), keep, last))

    return convert


class CumSum(nn.Module):
    """The running sum along a constant axis, from the end where `reverse`, without the element itself where `exclusive`."""

    def __init__(self, axis: int, exclusive: bool, reverse: bool) -> None:
        super().__init__()
        self.axis = axis
        self.exclusive = exclusive
        self.reverse = reverse

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(self.axis) if self.reverse else x
        y = x.cumsum(self.axis, dtype=x.dtype)
        y = y - x if self.exclusive else y
        return y.flip(self.axis) if self.reverse else y


def cumsum(node: NodeReader) -> Operation:
    axis = node.constant_integers(1)
    if axis is None:
        raise node.refuse("the axis is computed", "a constant axis")
    return Operation(CumSum(axis[0], bool(node.integer("exclusive", 0)), bool(node.integer("reverse", 0))))
