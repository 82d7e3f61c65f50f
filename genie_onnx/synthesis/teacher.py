"""The network to distil from: images [N, C, H, W] -> what enters each of its BatchNorm layers, and its class scores if wanted.

Frozen, without anything behind the last of these values, with swing convolutions if wanted, and with the channels last on a GPU,
which is what tensor cores want. On a CPU each convolution has a form of its own (forms).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from genie_onnx.importer import Network
from genie_onnx.synthesis.bn_loss import BatchNormStatistics
from genie_onnx.synthesis.frozen_bn import with_frozen_bn
from genie_onnx.synthesis.swing_conv import Shifts, with_swing


def place(module: nn.Module, device: torch.device) -> None:
    """Move `module` to `device`, in place, its weights in the order of memory that convolutions want there."""
    module.to(device)
    if device.type != "cpu":
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub does not know memory_format


def teacher(
    network: Network,
    batchnorms: Sequence[BatchNormStatistics],
    *,
    scores: str | None = None,
    shifts: Shifts | None,
    device: torch.device,
) -> Teacher:
    """Return the teacher of `network` (one input; left alone) on `device`.

    `scores` is the value with the class scores, if these are wanted; `shifts` has the offsets of swing convolutions (None: none).
    """
    wanted = [*(batchnorm.value for batchnorm in batchnorms), *([scores] if scores is not None else [])]
    values = tuple(dict.fromkeys(wanted))
    module = with_frozen_bn(network.extract(network.inputs, values).module)
    if shifts is not None:
        module = with_swing(module, shifts)
    _flush_denormals(module)
    place(module, device)
    return Teacher(module, tuple(map(values.index, wanted)))


@torch.no_grad()
def _flush_denormals(module: nn.Module) -> None:
    """Set weights that are zero for all purposes to zero: weight decay leaves thousands around 1e-40 in trained models, and a
    convolution with them takes a CPU a hundred times as long (measured on LPRNet)."""
    for parameter in module.parameters():
        parameter[parameter.abs() < torch.finfo(parameter.dtype).tiny] = 0


class Teacher:
    """Made by `teacher`."""

    def __init__(self, module: fx.GraphModule, order: tuple[int, ...]) -> None:
        self.module = module
        self._order = order  # of the module's outputs, for each value wanted; two layers may read one value

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return what enters each BatchNorm layer, [N, C_l, ...] each, for `images` float32 [N, C, H, W]; scores [N, K] last."""
        outputs = self.module(images)
        return [outputs[index] for index in self._order]
