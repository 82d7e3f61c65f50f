"""From a preset and the options that override it to numbers of images and iterations."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from genie_onnx.config import PRESETS, Effort, Preset


def choose_effort(
    preset: str | None, device: str, samples: int | None, distill_iters: int | None, recon_iters: int | None
) -> tuple[str, Effort]:
    """Return the preset's name and its effort with the given numbers put in; without a preset the device decides."""
    if preset is None:
        preset = "balanced" if _has_gpu(device) else "fast"
    effort = PRESETS[cast(Preset, preset)]
    return preset, replace(
        effort,
        samples=effort.samples if samples is None else samples,
        distill_iterations=effort.distill_iterations if distill_iters is None else distill_iters,
        reconstruct_iterations=effort.reconstruct_iterations if recon_iters is None else recon_iters,
    )


def _has_gpu(device: str) -> bool:
    import torch

    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
