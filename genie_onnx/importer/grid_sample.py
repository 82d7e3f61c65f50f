"""GridSample: x [N, C, *S] read at the positions of grid [N, *S', rank], with torch's function of the same definition."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.importer.operation import NodeReader, Operation

_MODES = {
    "bilinear": "bilinear",
    "linear": "bilinear",
    "nearest": "nearest",
    "bicubic": "bicubic",
    "cubic": "bicubic",
}  # opset 16 and 20 names


class GridSample(nn.Module):
    """forward(x, grid), grid values in -1..1 from edge to edge, or from pixel centre to pixel centre with `align_corners`."""

    def __init__(self, mode: str, padding: str, align_corners: bool) -> None:
        super().__init__()
        self.mode = mode
        self.padding = padding
        self.align_corners = align_corners

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, self.mode, self.padding, self.align_corners)


def grid_sample(node: NodeReader) -> Operation:
    mode = node.text("mode", "bilinear")
    if mode not in _MODES:
        raise node.refuse(f"mode={mode}", ", ".join(_MODES))
    if _MODES[mode] == "bicubic" and node.rank(0) != 4:
        raise node.refuse(f"mode={mode} of an input of rank {node.rank(0)}", "rank 4")
    module = GridSample(_MODES[mode], node.text("padding_mode", "zeros"), bool(node.integer("align_corners", 0)))
    return Operation(module, tensors=(0, 1))
