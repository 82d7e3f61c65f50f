"""Operators that pick values by position: Slice, Gather, GatherElements, TopK, Trilu."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie_onnx.importer.operation import NodeReader, Operation


class Slice(nn.Module):
    """x[start:end:step] along the given axes: forward(x), or forward(x, starts, ends[, axes[, steps]]) where they are computed.

    ONNX and Python clamp bounds alike.
    torch cannot slice backwards: those axes are sliced forwards over the same elements and flipped.
    """

    def __init__(self, bounds: tuple[tuple[int, ...], ...] | None) -> None:
        super().__init__()
        self.bounds = bounds

    def forward(self, x: Tensor, *computed: Tensor | None) -> Tensor:
        given = self.bounds if self.bounds is not None else [None if values is None else values.tolist() for values in computed]
        starts, ends = given[0], given[1]
        assert starts is not None
        assert ends is not None
        axes = given[2] if len(given) > 2 and given[2] is not None else range(len(starts))
        steps = given[3] if len(given) > 3 and given[3] is not None else [1] * len(starts)
        index = [slice(None)] * x.dim()
        flipped = []
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            if step > 0:
                index[axis] = slice(start, end, step)
                continue
            picked = range(*slice(start, end, step).indices(x.shape[axis]))
            index[axis] = slice(picked[-1], picked[0] + 1, -step) if len(picked) else slice(0, 0)
            flipped.append(axis)
        y = x[tuple(index)]
        return y.flip(flipped) if flipped else y

    def extra_repr(self) -> str:
        return f"{self.bounds}"


def slice_(node: NodeReader) -> Operation:
    places = range(1, node.input_count)
    constants = [node.constant_integers(i) for i in places]
    if any(node.has(i) and values is None for i, values in zip(places, constants, strict=True)):
        return Operation(Slice(None), sizes=tuple(places))
    starts, ends = constants[0], constants[1]
    assert starts is not None
    assert ends is not None
    axes = constants[2] if len(constants) > 2 and constants[2] is not None else tuple(range(len(starts)))
    steps = constants[3] if len(constants) > 3 and constants[3] is not None else (1,) * len(starts)
    return Operation(Slice((starts, ends, axes, steps)))


class Select(nn.Module):
    """Gather of one constant index: a view without the axis."""

    def __init__(self, axis: int, index: int) -> None:
        super().__init__()
        self.axis = axis
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        return x.select(self.axis, self.index)


class Gather(nn.Module):
    """numpy.take(x, indices, axis): the axis is replaced by the axes of the indices; negative indices count from the end."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        axis = self.axis % x.dim()
        flat = non_negative(indices, x.shape[axis]).reshape(-1)
        return x.index_select(axis, flat).reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def gather(node: NodeReader) -> Operation:
    axis = node.integer("axis", 0)
    indices = node.array(1)
    if indices is not None and indices.ndim == 0:
        return Operation(Select(axis, int(indices)))
    return Operation(Gather(axis), tensors=(0, 1))


class GatherElements(nn.Module):
    """torch.gather with negative indices counting from the end."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        return torch.gather(x, self.axis, non_negative(indices, x.shape[self.axis]))


def gather_elements(node: NodeReader) -> Operation:
    return Operation(GatherElements(node.integer("axis", 0)), tensors=(0, 1))


def non_negative(indices: Tensor, size: int) -> Tensor:
    """Indices into an axis of `size` as int64, those that count from the end made to count from the start."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


class TopK(nn.Module):
    """The k largest or smallest values along an axis and their indices; equal values come in the order of their indices."""

    def __init__(self, k: int | None, axis: int, largest: bool) -> None:
        super().__init__()
        self.k = k
        self.axis = axis
        self.largest = largest

    def forward(self, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
        count = self.k if k is None else int(k)
        assert count is not None
        # A stable sort, since torch.topk leaves the order of ties open and ONNX does not.
        values, indices = torch.sort(x, dim=self.axis, descending=self.largest, stable=True)
        return values.narrow(self.axis, 0, count), indices.narrow(self.axis, 0, count)


def topk(node: NodeReader) -> Operation:
    k = node.constant_integers(1)
    module = TopK(None if k is None else k[0], node.integer("axis", -1), bool(node.integer("largest", 1)))
    return Operation(module, sizes=() if k is not None else (1,), outputs=2)


class Trilu(nn.Module):
    """The upper or lower triangle of the last two axes, shifted by the diagonal k."""

    def __init__(self, upper: bool, diagonal: int) -> None:
        super().__init__()
        self.upper = upper
        self.diagonal = diagonal

    def forward(self, x: Tensor) -> Tensor:
        return torch.triu(x, self.diagonal) if self.upper else torch.tril(x, self.diagonal)


def trilu(node: NodeReader) -> Operation:
    diagonal = node.constant_integers(1) if node.has(1) else (0,)
    if diagonal is None:
        raise node.refuse("the diagonal k is computed", "a constant k")
    return Operation(Trilu(bool(node.integer("upper", 1)), diagonal[0]))
