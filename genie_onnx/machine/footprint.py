"""What a backward pass will need of a forward pass, counted while autograd keeps it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def kept_for_backward(forward: Callable[[], object]) -> dict[int, int]:
    """Run `forward`, and return the bytes of each piece of memory that autograd keeps for its gradients, by address."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sizes
