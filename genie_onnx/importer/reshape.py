"""Operators that rearrange values without computing: Reshape, Transpose, Concat, Split, DepthToSpace and their kin.

Shapes that the file gives as constants are Python integers in the module; computed ones arrive as an integer tensor on the host.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genie_onnx.importer.operation import NodeReader, Operation

MAX_AXES = 16  # numpy and torch have a limit at 64, and onnx infers no shapes there


class Reshape(nn.Module):
    """forward(x) to a constant shape, or forward(x, shape) to a computed one.

    -1 is inferred; 0 copies the dimension of x, unless `allow_zero`.
    """

    def __init__(self, shape: tuple[int, ...] | None, allow_zero: bool) -> None:
        super().__init__()
        self.shape = shape
        self.allow_zero = allow_zero

    def forward(self, x: Tensor, shape: Tensor | None = None) -> Tensor:
        target = self.shape if shape is None else shape.tolist()
        assert target is not None
        if not self.allow_zero:
            target = [x.shape[i] if dim == 0 else dim for i, dim in enumerate(target)]
        return x.reshape(target)

    def extra_repr(self) -> str:
        return f"{self.shape}"


def reshape(node: NodeReader) -> Operation:
    shape = node.constant_integers(1)
    return Operation(Reshape(shape, bool(node.integer("allowzero", 0))), sizes=() if shape is not None else (1,))


class Flatten(nn.Module):
    """[d0..dn] -> [d0 * .. * d(axis-1), d(axis) * .. * dn]."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        if self.axis == 1:
            return x.flatten(1) if x.dim() > 1 else x.reshape(-1, 1)
        # a negative axis counts from the end, as slicing does
        return x.reshape(math.prod(x.shape[: self.axis]), math.prod(x.shape[self.axis :]))


def flatten(node: NodeReader) -> Operation:
    return Operation(Flatten(node.integer("axis", 1)))


class Permute(nn.Module):
    """numpy.transpose; perm=None reverses the axes."""

    def __init__(self, perm: tuple[int, ...] | None) -> None:
        super().__init__()
        self.perm = perm

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.perm if self.perm is not None else tuple(reversed(range(x.dim()))))

    def extra_repr(self) -> str:
        return f"{self.perm}"


def transpose(node: NodeReader) -> Operation:
    return Operation(Permute(node.integers("perm") if node.has_attribute("perm") else None))


class Squeeze(nn.Module):
    """Axes of size one removed; None removes all of them."""

    def __init__(self, axes: tuple[int, ...] | None) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze() if self.axes is None else x.squeeze(self.axes)


def squeeze(node: NodeReader) -> Operation:
    return Operation(Squeeze(_constant_axes(node) if node.has(1) else None))


class Unsqueeze(nn.Module):
    """Axes of size one put in; the axes count in the result."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        rank = x.dim() + len(self.axes)
        for axis in sorted(axis % rank for axis in self.axes):
            x = x.unsqueeze(axis)
        return x


def unsqueeze(node: NodeReader) -> Operation:
    return Operation(Unsqueeze(_constant_axes(node)))


def _constant_axes(node: NodeReader) -> tuple[int, ...]:
    axes = node.constant_integers(1)
    if axes is None:
        raise node.refuse("the axes are computed", "constant axes")
    if len(axes) > MAX_AXES:
        raise node.refuse(f"it has {len(axes)} axes", f"up to {MAX_AXES}")
    return axes


class Expand(nn.Module):
    """Broadcast of x with the shape, in both directions."""

    def __init__(self, shape: tuple[int, ...] | None) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor, shape: Tensor | None = None) -> Tensor:
        target = self.shape if shape is None else shape.tolist()
        assert target is not None
        return x.expand(torch.broadcast_shapes(x.shape, tuple(target)))


def expand(node: NodeReader) -> Operation:
    shape = node.constant_integers(1)
    return Operation(Expand(shape), sizes=() if shape is not None else (1,))


class Tile(nn.Module):
    """numpy.tile with one repeat an axis."""

    def __init__(self, repeats: tuple[int, ...] | None) -> None:
        super().__init__()
        self.repeats = repeats

    def forward(self, x: Tensor, repeats: Tensor | None = None) -> Tensor:
        target = self.repeats if repeats is None else repeats.tolist()
        assert target is not None
        return x.repeat(*target)


def tile(node: NodeReader) -> Operation:
    repeats = node.constant_integers(1)
    return Operation(Tile(repeats), sizes=() if repeats is not None else (1,))


class Concat(nn.Module):
    """The operands one after the other along `axis`."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


def concat(node: NodeReader) -> Operation:
    return Operation(Concat(node.integer("axis", 0)), tensors=tuple(range(node.input_count)))


class Split(nn.Module):
    """x cut along `axis` into pieces of the given sizes, or into `count` equal ones, the last one smaller if need be."""

    def __init__(self, axis: int, sizes: tuple[int, ...] | None, count: int) -> None:
        super().__init__()
        self.axis = axis
        self.sizes = sizes
        self.count = count

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        target = self.sizes if sizes is None else sizes.tolist()
        if target is None:
            return torch.split(x, math.ceil(x.shape[self.axis] / self.count), self.axis)
        return torch.split(x, list(target), self.axis)


class Only(nn.Module):
    """The single element of a module's tuple: a node with one output gives a tensor."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *tensors: Tensor) -> Tensor:
        (result,) = self.inner(*tensors)
        return result


def split(node: NodeReader) -> Operation:
    count = len(node.node.outputs)
    sizes = node.constant_integers(1)
    module: nn.Module = Split(node.integer("axis", 0), sizes, count)
    return Operation(module if count > 1 else Only(module), sizes=(1,) if node.has(1) and sizes is None else (), outputs=count)


class DepthToSpace(nn.Module):
    """[N, C*b*b, H, W] -> [N, C, H*b, W*b]; mode DCR has the block first in the channels, CRD (torch's pixel shuffle) last."""

    def __init__(self, block: int, depth_first: bool) -> None:
        super().__init__()
        self.block = block
        self.depth_first = depth_first

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        b = self.block
        if self.depth_first:
            y = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
        return y.reshape(n, c // (b * b), h * b, w * b)


def depth_to_space(node: NodeReader) -> Operation:
    return Operation(DepthToSpace(node.integer("blocksize", 1), node.text("mode", "DCR") == "DCR"))


class SpaceToDepth(nn.Module):
    """[N, C, H*b, W*b] -> [N, b*b*C, H, W], the block first in the channels."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        b = self.block
        return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, b * b * c, h // b, w // b)


def space_to_depth(node: NodeReader) -> Operation:
    return Operation(SpaceToDepth(node.integer("blocksize", 1)))
