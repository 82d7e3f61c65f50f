"""How much memory the gradient with respect to an image takes: what autograd keeps of the forward pass, counted as it is kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from genie_onnx.importer import Network
from genie_onnx.machine.footprint import kept_for_backward


def image_bytes(network: Network, values: Sequence[str], shape: tuple[int, int, int]) -> int:
    """Return the bytes that an image [C, H, W] = `shape` adds to a backward pass from `values` of `network` (one input), >= 1.

    Weights are not counted: they are there once, whatever the batch.
    """
    part = network.extract(network.inputs, tuple(values)).module
    sizes = kept_for_backward(lambda: part(torch.zeros(1, *shape, requires_grad=True)))
    for weight in (*part.parameters(), *part.buffers()):
        sizes.pop(weight.untyped_storage().data_ptr(), None)
    return max(1, sum(sizes.values()))
