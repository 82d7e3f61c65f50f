"""timm's networks through torch's default exporter; NAME-unoptimized keeps BatchNormalization (optimize=False)."""

from __future__ import annotations

from pathlib import Path

import exporting
import timm
import torch
import torch_nets

SIZES = {"levit_128": 224}  # its position biases are of one size
SIZE = 96


def export(name: str, file: Path) -> None:
    net, _, way = name.partition("-")
    size = SIZES.get(net, SIZE)
    torch.manual_seed(0)
    model = torch_nets.settle(timm.create_model(net), size)
    torch_nets.export(model, size, file, optimize=way != "unoptimized")


if __name__ == "__main__":
    exporting.main(export)
