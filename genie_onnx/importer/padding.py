"""Pad: a constant, the reflected inside, the edge, or the wrapped other side around x.

Negative pads crop in mode constant; in the other modes they are refused, as the specification leaves open what is cropped first.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.importer.operation import NodeReader, Operation

_TORCH_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


class Pad(nn.Module):
    """Constant pads: forward(x); computed pads (befores, then afters, of `axes`): forward(x, pads). `axes` None means all."""

    def __init__(self, pads: tuple[int, ...] | None, axes: tuple[int, ...] | None, mode: str, value: float) -> None:
        super().__init__()
        self.pads = pads
        self.axes = axes
        self.mode = mode
        self.value = value

    def forward(self, x: Tensor, pads: Tensor | None = None) -> Tensor:
        flat = self.pads if pads is None else pads.tolist()
        assert flat is not None
        rank = x.dim()
        axes = range(rank) if self.axes is None else [axis % rank for axis in self.axes]
        befores, afters = flat[: len(flat) // 2], flat[len(flat) // 2 :]
        wanted = {axis: pair for axis, *pair in zip(axes, befores, afters, strict=True) if any(pair)}
        if not wanted:
            return x
        if self.mode == "constant":
            lowest = min(wanted)
            return F.pad(x, [pad for axis in reversed(range(lowest, rank)) for pad in wanted.get(axis, (0, 0))], value=self.value)
        # torch pads the trailing one to three axes of batches of channels at once; any other axis is indexed.
        if min(wanted) >= 2 and rank in (3, 4, 5) and x.is_floating_point():
            amounts = [pad for axis in reversed(range(2, rank)) for pad in wanted.get(axis, (0, 0))]
            return F.pad(x, amounts, mode=_TORCH_MODES[self.mode])
        for axis, pair in wanted.items():
            x = x.index_select(axis, _picked(x.shape[axis], *pair, self.mode, x.device))
        return x

    def extra_repr(self) -> str:
        return f"pads={self.pads}, axes={self.axes}, mode={self.mode}, value={self.value}"


@lru_cache(maxsize=256)
def _picked(size: int, before: int, after: int, mode: str, device: torch.device) -> Tensor:
    """Return the places that a padded axis reads. Cached: a step that is captured in a CUDA graph may copy nothing to a GPU."""
    picked = np.pad(np.arange(size), (before, after), mode=mode)  # type: ignore[call-overload]
    return torch.from_numpy(picked).to(device)


def pad(node: NodeReader) -> Operation:
    mode = node.text("mode", "constant")
    if mode != "constant" and mode not in _TORCH_MODES:
        raise node.refuse(f"mode={mode}", "constant, reflect, edge, wrap")
    pads, value, axes = node.constant_integers(1), node.array(2), node.constant_integers(3)
    if (node.has(2) and value is None) or (node.has(3) and axes is None):
        raise node.refuse("the constant value or the axes are computed", "constants")
    if mode != "constant" and (pads is None or min(pads, default=0) < 0):
        raise node.refuse(f"mode={mode} with computed or negative pads", "constant pads of zero or more")
    module = Pad(pads, axes, mode, 0 if value is None else value.item())
    return Operation(module, sizes=() if pads is not None else (1,))
