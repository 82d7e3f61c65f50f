"""From a preset and the options that override it to numbers of images and iterations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from genie_onnx import PRESETS, DistillConfig, Effort, default_preset
from genie_onnx.config import NARROWEST, ClosedFormConfig
from genie_onnx.effort import Preset


def choose_effort(
    preset: str | None,
    device: str,
    samples: int | None,
    distill_iters: int | None,
    recon_iters: int | None = None,
    wbits: int | None = None,
) -> tuple[str, Effort]:
    """Return the preset in words and its effort with the given numbers put in; without a preset the device decides.

    `wbits`: bits of weights; the narrowest are learned where others are not.
    """
    name = default_preset(device) if preset is None else cast(Preset, preset)
    place = "a GPU" if name == "balanced" else "a CPU"
    effort = PRESETS[name]
    iterations = effort.narrow_iterations if wbits == NARROWEST else effort.reconstruct_iterations
    return name if preset else f"{name} (because this is {place}, and no --preset is given)", replace(
        effort,
        samples=effort.samples if samples is None else samples,
        distill_iterations=effort.distill_iterations if distill_iters is None else distill_iters,
        reconstruct_iterations=iterations if recon_iters is None else recon_iters,
    )


def closed_form_config(given: Mapping[str, Any]) -> ClosedFormConfig | None:
    """Return the settings of closed-form rounding from the values of `options.closing`; None: there is none."""
    if not given["closed_form"]:
        return None
    settings = ClosedFormConfig(
        sweeps=given["sweeps"],
        ridge=given["ridge"],
        mismatch=given["mismatch"],
        biases=given["biases"],
        match=given["match"],
        equalise=given["equalise"],
    )
    return settings if given["moments"] else replace(settings, wide_bits=NARROWEST)


def distill_config(effort: Effort, given: Mapping[str, Any], most_pixels: int | None = None) -> DistillConfig:
    """Return the settings of distillation from an effort and the values of `options.distillation`.

    Images of no more than `most_pixels` together are distilled, unless so many are asked for.
    """
    return DistillConfig(
        iterations=effort.distill_iterations,
        batch_size=given["distill_batch"],
        swing=given["swing"],
        start=given["start"] or effort.start,
        most_pixels=most_pixels if given["samples"] is None else None,
        refine_iterations=given["distill_iters"] or DistillConfig.refine_iterations,
        train_latent=given["train_latent"],
    )
