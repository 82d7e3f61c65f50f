"""Random torch networks as if trained: BatchNorm statistics of noise, and torch's default exporter."""

from __future__ import annotations

from pathlib import Path

import torch


def settle(model: torch.nn.Module, size: int) -> torch.nn.Module:
    """Measure the BatchNorm statistics of `model` on noise [8, 3, size, size] and return it ready to be exported."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the mean of all batches
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(8, 3, size, size))
    return model.eval()


def export(model: torch.nn.Module, size: int, file: Path, optimize: bool = True) -> None:
    """Write `model` with a fixed input [1, 3, size, size], as torch.onnx.export does by default."""
    torch.onnx.export(model, (torch.randn(1, 3, size, size),), str(file), optimize=optimize)
