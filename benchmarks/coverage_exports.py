"""The ways in which a torch network becomes an ONNX file, each the plain call that people make.

legacy       torch.onnx.export(model, x, file, dynamo=False)                   BatchNorm folded, batch fixed
legacy-bn    ... training=TrainingMode.PRESERVE, do_constant_folding=False     BatchNorm kept
legacy-9     ... opset_version=9 (any number)
legacy-open  ... batch, height and width left open
dynamo       torch.onnx.export(model, x, file, dynamo=True)                    torch's default; weights in a file beside it
dynamo-18    ... opset_version=18 (any number)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def settle(model: nn.Module, shape: tuple[int, int, int], batch: int = 8, steps: int = 3) -> nn.Module:
    """Return `model` in eval mode as if it had been trained: statistics measured (on noise), no parameter without effect.

    `shape` is (C, H, W). Matrices that start as zeros and layer scales of 1e-6 are drawn anew, since a network that adds
    nothing hides every error. Random numbers come from torch's global generator.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and bool((parameter == parameter.reshape(-1)[0]).all()):
                parameter.normal_(0, 0.3)
        for module in model.modules():
            if isinstance(module, BATCHNORMS):
                module.momentum = None  # a plain mean over all steps
        model.train()
        for _ in range(steps):
            model(torch.randn(batch, *shape))
    return model.eval()


def export(model: nn.Module, shape: tuple[int, int, int], way: str, file: Path) -> None:
    """Write `model` (eval mode) to `file`, `shape` being (C, H, W). Raises what torch's exporter raises."""
    x = torch.randn(1, *shape)
    kind, _, detail = way.partition("-")
    settings: dict[str, Any] = {"dynamo": kind == "dynamo", "verbose": False}
    if detail == "bn":
        settings |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    elif detail == "open":
        settings |= {"input_names": ["image"], "dynamic_axes": {"image": {0: "batch", 2: "height", 3: "width"}}}
    elif detail:
        settings["opset_version"] = int(detail)
    if kind not in ("legacy", "dynamo"):
        raise ValueError(f"no way {way!r}")
    torch.onnx.export(model, (x,), str(file), **settings)
