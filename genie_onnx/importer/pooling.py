"""MaxPool, AveragePool, LpPool and the global pools, in one to three dimensions.

Output positions along one axis (ONNX specification):

    floor:  floor((size + before + after - extent) / stride) + 1,   extent = dilation * (kernel - 1) + 1
    ceil:   the same with ceil, minus a last window that would start in the padding behind

What torch's pools do themselves (symmetric pads of at most half the kernel, floor) is left to them; otherwise x is padded
explicitly to exactly the pixels that the windows cover, and averages are divided by the number of pixels that ONNX counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.forms import PLAIN, convolve
from genie_onnx.importer.calls import Call
from genie_onnx.importer.conv import spatial_pads
from genie_onnx.importer.operation import NodeReader, Operation

_MAX_POOL: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOL: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class Window:
    """The geometry of a pool; one entry for each spatial dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    ceil: bool

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def plain(self) -> bool:
        """Whether torch's own pools compute it."""
        return not self.ceil and all(
            before == after and 0 <= 2 * before <= kernel for (before, after), kernel in zip(self.pads, self.kernel, strict=True)
        )

    def cover(self, spatial: torch.Size) -> list[int]:
        """Pads in torch's order (last axis first) that extend or crop an input to just the pixels which the windows cover."""
        amounts: list[int] = []
        for i in reversed(range(self.rank)):
            before, after = self.pads[i]
            extent = self.dilation[i] * (self.kernel[i] - 1) + 1
            free = spatial[i] + before + after - extent
            count = (-(-free // self.stride[i]) if self.ceil else free // self.stride[i]) + 1
            if self.ceil and (count - 1) * self.stride[i] >= spatial[i] + before:
                count -= 1
            amounts += [before, (count - 1) * self.stride[i] + extent - spatial[i] - before]
        return amounts

    def counted(self, spatial: torch.Size, include_pads: bool) -> list[int]:
        """Of the pixels that `cover` adds, those that an average counts: the pads of the node, or none."""
        if not include_pads:
            return [0] * (2 * self.rank)
        cover = self.cover(spatial)
        afters = [self.pads[i][1] for i in reversed(range(self.rank))]
        return [min(amount, afters[i // 2]) if i % 2 else amount for i, amount in enumerate(cover)]


def window(node: NodeReader) -> Window:
    """The geometry of a pool node. Raises ModelError for more than three spatial dimensions."""
    kernel = node.integers("kernel_shape")
    if len(kernel) not in _MAX_POOL:
        raise node.refuse(f"{len(kernel)} spatial dimensions", "1, 2 or 3")
    ones = (1,) * len(kernel)
    pads = spatial_pads(node, len(kernel))
    return Window(
        kernel, node.integers("strides", ones), pads, node.integers("dilations", ones), bool(node.integer("ceil_mode", 0))
    )


class MaxPool(nn.Module):
    """forward(x [N, C, *S]); padding never wins (it is minus infinity)."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window
        self._pool = _MAX_POOL[window.rank]
        self._padding = [before for before, _ in window.pads] if window.plain else [0] * window.rank

    def forward(self, x: Tensor) -> Tensor:
        if not self.window.plain:
            x = F.pad(x, self.window.cover(x.shape[2:]), value=-torch.inf)
        return self._pool(x, self.window.kernel, self.window.stride, self._padding, self.window.dilation)

    def extra_repr(self) -> str:
        return f"{self.window}"


def max_pool(node: NodeReader) -> Operation:
    return Operation(MaxPool(window(node)))


class AveragePool(nn.Module):
    """forward(x [N, C, *S]); the divisor counts the pads where `include_pads`, else only pixels of x."""

    def __init__(self, window: Window, include_pads: bool) -> None:
        super().__init__()
        self.window = window
        self.include_pads = include_pads
        self._plain = window.plain and max(window.dilation) == 1
        self._pool = _AVERAGE_POOL[window.rank]

    def forward(self, x: Tensor) -> Tensor:
        if self._plain:
            padding = [before for before, _ in self.window.pads]
            return self._pool(x, self.window.kernel, self.window.stride, padding, False, self.include_pads)
        spatial = x.shape[2:]
        cover, counted = self.window.cover(spatial), self.window.counted(spatial, self.include_pads)
        ones = F.pad(x.new_ones((1, 1, *spatial)), counted, value=1.0)
        ones = F.pad(ones, [amount - inside for amount, inside in zip(cover, counted, strict=True)])
        return window_sums(F.pad(x, cover), self.window) / window_sums(ones, self.window)

    def extra_repr(self) -> str:
        return f"{self.window}, include_pads={self.include_pads}"


def window_sums(x: Tensor, window: Window) -> Tensor:
    """The sum of x [N, C, *S] in each window; x is padded already."""
    weight = x.new_ones((1, 1, *window.kernel))
    summed = partial(_CONV[window.rank], stride=window.stride, dilation=window.dilation)
    alone = x.flatten(0, 1).unsqueeze(1)  # a channel
    sums = convolve(summed, alone, weight, None, PLAIN) if x.device.type == "cpu" else summed(alone, weight)
    return sums.reshape(x.shape[:2] + sums.shape[2:])


def average_pool(node: NodeReader) -> Operation:
    return Operation(AveragePool(window(node), bool(node.integer("count_include_pad", 0))))


class LpPool(nn.Module):
    """(sum of |x| ** p in each window) ** (1 / p)."""

    def __init__(self, window: Window, p: int) -> None:
        super().__init__()
        self.window = window
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        powers = F.pad(x.abs() ** self.p, self.window.cover(x.shape[2:]))
        return window_sums(powers, self.window) ** (1 / self.p)


def lp_pool(node: NodeReader) -> Operation:
    return Operation(LpPool(window(node), node.integer("p", 2)))


def global_average_pool(node: NodeReader) -> Operation:
    return Operation(Call(_global_average))


def _global_average(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


def global_max_pool(node: NodeReader) -> Operation:
    return Operation(Call(_global_max))


def _global_max(x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


class GlobalLpPool(nn.Module):
    """(sum of |x| ** p over the space) ** (1 / p)."""

    def __init__(self, p: int) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return (x.abs() ** self.p).sum(tuple(range(2, x.dim())), keepdim=True) ** (1 / self.p)


def global_lp_pool(node: NodeReader) -> Operation:
    return Operation(GlobalLpPool(node.integer("p", 2)))
