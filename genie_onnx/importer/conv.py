"""Conv and ConvTranspose in one, two or three dimensions: forward(x, weight, bias).

    Conv           x [N, C, *S], weight [M, C/group, *K]  ->  [N, M, *S']
                   S' = floor((S + before + after - dilation*(K - 1) - 1) / stride) + 1
    ConvTranspose  x [N, C, *S], weight [C, M/group, *K]  ->  [N, M, *S']
                   S' = stride*(S - 1) + output_padding + dilation*(K - 1) + 1 - before - after

Weight and bias are arguments, not attributes of the module: reconstruction passes computed tensors, and a weight that two nodes
share is one. ONNX lists pads as all befores, then all afters, and they may differ; torch's own padding is symmetric, so what
differs is padded or cropped apart.

On a CPU each is computed in the form (layout, type) that `forms` has for its shapes, plain float32 where it has none; on a GPU as
the tensors come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.forms import PLAIN, Case, Form, Forms, convolve
from genie_onnx.importer.operation import NodeReader, Operation

_CONV = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_CONV_TRANSPOSE = {1: torch.conv_transpose1d, 2: torch.conv_transpose2d, 3: torch.conv_transpose3d}


class Convolution(nn.Module, ABC):
    """What both directions have in common; one entry for each spatial dimension.

    stride, dilation   steps of the window and between its taps
    pads               (before, after) for each spatial dimension, in pixels of the side that ONNX pads
    padding            the symmetric part of pads, min(before, after)
    groups             number of groups the channels are divided into
    forms              the forms of convolutions that were tried, set by who builds the network
    """

    def __init__(
        self, stride: tuple[int, ...], pads: tuple[tuple[int, int], ...], dilation: tuple[int, ...], groups: int
    ) -> None:
        super().__init__()
        self.stride = stride
        self.pads = pads
        self.padding = tuple(min(before, after) for before, after in pads)
        self.dilation = dilation
        self.groups = groups
        self.forms: Mapping[Case, Forms] = {}

    def extra_repr(self) -> str:
        return f"stride={self.stride}, pads={self.pads}, dilation={self.dilation}, groups={self.groups}"

    def case(self, x: Tensor, weight: Tensor) -> Case:
        """Return what is convolved for an input `x` [N, C, *S], whatever N is."""
        return self._case(self._padded(x), weight)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """See the module."""
        x = self._padded(x)
        if x.device.type != "cpu":
            return self._cropped(self._convolve(x, weight, bias))
        # Where forms were tried, it was between values with the channels last.
        return self._cropped(convolve(self._convolve, x, weight, bias, self._form(x, weight), last=bool(self.forms)))

    def _form(self, x: Tensor, weight: Tensor) -> Form:
        forms = self.forms.get(self._case(x, weight)) if self.forms else None
        if forms is None:
            return PLAIN
        form = forms.steps if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad) else forms.values
        return PLAIN if form.bf16 and not torch.is_autocast_enabled("cpu") else form

    def _padded(self, x: Tensor) -> Tensor:
        return x

    def _cropped(self, y: Tensor) -> Tensor:
        return y

    @abstractmethod
    def _case(self, x: Tensor, weight: Tensor) -> Case:
        """Return the case of `x` as `_convolve` gets it."""

    @abstractmethod
    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve `x`, padded by what torch cannot pad itself."""


class Conv(Convolution):
    """ONNX Conv: forward(x, weight, bias or None).

    Asymmetric or negative pads are put on x first (`outer`, in the order of torch's pad), then torch convolves without padding.
    """

    def __init__(
        self, stride: tuple[int, ...], pads: tuple[tuple[int, int], ...], dilation: tuple[int, ...], groups: int
    ) -> None:
        super().__init__(stride, pads, dilation, groups)
        symmetric = all(before == after >= 0 for before, after in pads)
        self.outer: list[int] | None = None if symmetric else [pad for pair in reversed(pads) for pad in pair]
        self._inner = self.padding if symmetric else (0,) * len(pads)
        self._function = _CONV[len(pads)]

    def _padded(self, x: Tensor) -> Tensor:
        return x if self.outer is None else F.pad(x, self.outer)

    def _case(self, x: Tensor, weight: Tensor) -> Case:
        return Case(tuple(x.shape[1:]), tuple(weight.shape), self.stride, self._inner, self.dilation, self.groups)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._function(x, weight, bias, self.stride, self._inner, self.dilation, self.groups)


class ConvTranspose(Convolution):
    """ONNX ConvTranspose: forward(x, weight, bias or None).

    The symmetric part of the pads is torch's padding, the rest is cropped off.
    """

    def __init__(
        self,
        stride: tuple[int, ...],
        pads: tuple[tuple[int, int], ...],
        dilation: tuple[int, ...],
        groups: int,
        output_padding: tuple[int, ...],
    ) -> None:
        super().__init__(stride, pads, dilation, groups)
        self.output_padding = output_padding
        rest = [self_pad - pad for pair, pad in zip(reversed(pads), reversed(self.padding), strict=True) for self_pad in pair]
        self._crop: list[int] | None = [-pad for pad in rest] if any(rest) else None
        self._function = _CONV_TRANSPOSE[len(pads)]

    def _cropped(self, y: Tensor) -> Tensor:
        return y if self._crop is None else F.pad(y, self._crop)

    def _case(self, x: Tensor, weight: Tensor) -> Case:
        sample, kernel = tuple(x.shape[1:]), tuple(weight.shape)
        return Case(sample, kernel, self.stride, self.padding, self.dilation, self.groups, self.output_padding)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._function(x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation)


def conv(node: NodeReader) -> Operation:
    stride, pads, dilation, groups = _geometry(node)
    return Operation(Conv(stride, pads, dilation, groups), tensors=(0, 1, 2))


def conv_transpose(node: NodeReader) -> Operation:
    if node.has_attribute("output_shape"):
        raise node.refuse("output_shape is given", "pads and output_padding")
    stride, pads, dilation, groups = _geometry(node)
    if any(min(pair) < 0 for pair in pads):
        raise node.refuse(f"pads {pads} are negative", "pads of zero or more")
    output_padding = node.integers("output_padding") or (0,) * len(stride)
    for padding, steps in zip(output_padding, zip(stride, dilation, strict=True), strict=True):
        if padding >= max(steps):
            raise node.refuse(
                f"output_padding {output_padding}", f"output_padding below stride or dilation ({stride}, {dilation})"
            )
    return Operation(ConvTranspose(stride, pads, dilation, groups, output_padding), tensors=(0, 1, 2))


def _geometry(node: NodeReader) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...], int]:
    spatial = node.rank(1) - 2
    if spatial not in _CONV:
        raise node.refuse(f"{spatial} spatial dimensions", "1, 2 or 3")
    ones = (1,) * spatial
    stride, dilation = node.integers("strides", ones), node.integers("dilations", ones)
    return stride, spatial_pads(node, spatial), dilation, node.integer("group", 1)


def spatial_pads(node: NodeReader, spatial: int) -> tuple[tuple[int, int], ...]:
    """(before, after) for each of the `spatial` dimensions, from the attribute `pads`.

    Raises ModelError for SAME padding: normalising makes it explicit wherever the input size is known.
    """
    mode = node.text("auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        raise node.refuse(f"auto_pad={mode} without a known input size", "explicit pads, or a fixed input height and width")
    pads = node.integers("pads", (0,) * (2 * spatial)) if mode == "NOTSET" else (0,) * (2 * spatial)
    return tuple(zip(pads[:spatial], pads[spatial:], strict=True))
