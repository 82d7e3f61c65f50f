"""Where the calibration images come from: the user's data, distillation (GENIE-D), or procedural images.

The choice is made before anything runs (`choose_images`), with what a user should know about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from genie_onnx.config import QuantizeConfig
from genie_onnx.data import PathLike, Preprocess, load_images
from genie_onnx.distill import DistillProgress, batch_sizes, distill, procedural, save_contact_sheet, with_measurements
from genie_onnx.errors import ConfigError
from genie_onnx.prepare import Prepared
from genie_onnx.rundir import RunDirectory, write_npz
from genie_onnx.seeds import stream

Kind = Literal["data", "distilled", "procedural"]

HELD_BACK = 64  # samples kept for judging the result, when there are more than calibration takes
MADE_HEADROOM = 2.0  # real images reach up to twice as far in the last block of a ResNet-20 as procedural ones (measured)
EXPORT_CALL = (
    "torch.onnx.export(model.eval(), x, file, dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)"
)


@dataclass(frozen=True)
class Choice:
    """Which images a run will use, and what to tell the user about it."""

    kind: Kind
    reason: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """`images` to calibrate on and others, `held_back`, to judge on: float32 [N, C, H, W] each, in the model's input space."""

    images: Tensor
    held_back: Tensor
    held_back_kind: Kind
    input_range: tuple[float, float]  # what the model's input spans when real images are shown to it
    headroom: float  # how much further than these images real ones reach inside the network (reconstruct.calibrate)


def choose_images(prepared: Prepared, config: QuantizeConfig, data: Sequence[PathLike]) -> Choice:
    """Decide where images come from. Raises ConfigError where distillation is asked of a model without BatchNorm statistics."""
    input_statistics(prepared.shape, config)  # refuses numbers that do not fit the model, before anything is made
    if data:
        unknown = config.input_mean is None and any(_needs_preprocessing(Path(path)) for path in data)
        notice = (
            "Pictures are fed to the model as pixel / 255, in 0..1. If it expects another range, give --input-mean and "
            "--input-std (e.g. 0.485,0.456,0.406 and 0.229,0.224,0.225)."
        )
        return Choice("data", "calibration data was given", (notice,) if unknown else ())
    if config.images == "procedural":
        return Choice("procedural", "asked for with --images procedural", _procedural_notices(config))
    measured = with_measurements(prepared.batchnorms)
    if measured:
        return Choice("distilled", f"the model has {len(measured)} BatchNormalization nodes with statistics")
    lack = "its exporter folded them into the convolutions" if not prepared.batchnorms else "theirs are 0 and 1, never measured"
    ways_out = (
        f"export again with BatchNorm kept: {EXPORT_CALL}; or give a handful of images with --data; or use --images procedural"
    )
    if config.images == "distill":
        raise ConfigError(
            "--images distill needs BatchNormalization nodes with statistics, and this model has none: "
            f"{lack}. Ways out: {ways_out}"
        )
    reason = f"the model has no BatchNormalization with statistics: {lack}"
    cost = (
        "The model has no BatchNormalization statistics to distil images from, so it is calibrated on procedural images. At "
        "4-bit weights that usually costs nothing against distilled images, at 2 bits about 1 to 2 points (measured on a CIFAR "
        f"ResNet-20). Better: calibration images with --data; or an export with BatchNorm kept: {EXPORT_CALL}"
    )
    return Choice("procedural", reason, (cost, *_procedural_notices(config)))


def data_images(prepared: Prepared, config: QuantizeConfig, data: Sequence[PathLike]) -> Calibration:
    """Load the user's data: `config.samples` images to calibrate on and, where there are more, up to HELD_BACK to judge on.

    Raises DataError with everything that cannot be used.
    """
    loaded = load_images(
        data,
        prepared.shape,
        mean=config.input_mean,
        std=config.input_std,
        order=config.channel_order,
        limit=config.samples + HELD_BACK,
        generator=stream(config.seed, "data"),
    )
    images, held_back = loaded[: config.samples], loaded[config.samples :]
    if any(_is_made(Path(path)) for path in data):
        like = _like(images, prepared.shape, config)
        span = _pixel_range(config) or _span(torch.cat([images, like]))
        return Calibration(images, like, "procedural", span, MADE_HEADROOM)
    span = _pixel_range(config) or _span(images)
    if len(held_back):
        return Calibration(images, held_back, "data", span, 1.0)
    return Calibration(images, _like(images, prepared.shape, config), "procedural", span, 1.0)


def made_images(
    prepared: Prepared,
    config: QuantizeConfig,
    choice: Choice,
    run: RunDirectory,
    device: torch.device,
    progress: Callable[[DistillProgress], None],
) -> Calibration:
    """Distil or paint images. Distilled batches are saved to `run` as they are made, and taken from there again."""
    if choice.kind == "distilled":
        images = distilled_images(prepared, config, run, device, progress)
    else:
        mean, std = input_statistics(prepared.shape, config)
        images = procedural(config.samples, prepared.shape, mean=mean, std=std, generator=stream(config.seed, "procedural"))
    held_back = _like(images, prepared.shape, config)
    # Distilled images are nearly two-valued: real ones reach further (measured on digits: -0.8..1.3 against -2.5..3.6).
    span = _pixel_range(config) or _span(torch.cat([images, held_back]))
    return Calibration(images, held_back, "procedural", span, MADE_HEADROOM)


def save_images(images: Tensor, kind: Kind, run: RunDirectory) -> None:
    """Write the images to `run` as npz (in the model's input space: `--data` takes it) and as a contact sheet."""
    write_npz(run.images, images=images.numpy(), kind=kind)
    save_contact_sheet(images.numpy(), run.contact_sheet)


def distilled_images(
    prepared: Prepared,
    config: QuantizeConfig,
    run: RunDirectory,
    device: torch.device,
    progress: Callable[[DistillProgress], None],
) -> Tensor:
    """Distil `config.samples` images, batch by batch; finished batches of an interrupted run are read from `run`."""
    mean, std = input_statistics(prepared.shape, config)
    done = {}
    for index in range(len(batch_sizes(config.samples, config.distill.batch_size))):
        if run.image_batch(index).exists():
            done[index] = load_images([run.image_batch(index)], prepared.shape)
    return distill(
        prepared.teacher,
        prepared.batchnorms,
        prepared.shape,
        config.samples,
        config.distill,
        input_mean=mean,
        input_std=std,
        seed=config.seed,
        device=device,
        progress=progress,
        finished=lambda index, images: write_npz(run.image_batch(index), images=images.numpy()),
        done=done,
    )


def input_statistics(
    shape: tuple[int, int, int], config: QuantizeConfig
) -> tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
    """Return the mean and std that photographs have in the model's input space, or None twice where that space is not known."""
    if config.input_mean is None or config.input_std is None:
        return None, None
    return Preprocess(shape=shape, mean=config.input_mean, std=config.input_std, order=config.channel_order).statistics()


def _like(images: Tensor, shape: tuple[int, int, int], config: QuantizeConfig) -> Tensor:
    """Return HELD_BACK procedural images with the mean and std that `images` have in each channel."""
    std, mean = torch.std_mean(images, (0, 2, 3))
    generator = stream(config.seed, "held-back")
    return procedural(HELD_BACK, shape, mean=mean.tolist(), std=std.nan_to_num(1.0).tolist(), generator=generator)


def _pixel_range(config: QuantizeConfig) -> tuple[float, float] | None:
    """Return what pixels 0..255 become in the model's input space, over all channels; None where that space is not known."""
    if config.input_mean is None or config.input_std is None:
        return None
    pairs = list(zip(config.input_mean, config.input_std, strict=True))
    return min(-mean / std for mean, std in pairs), max((1 - mean) / std for mean, std in pairs)


def _span(images: Tensor) -> tuple[float, float]:
    return float(images.min()), float(images.max())


def _procedural_notices(config: QuantizeConfig) -> tuple[str, ...]:
    if config.input_mean is not None:
        return ()
    return (
        "Procedural images are given mean 0 and deviation 1 in each channel, which fits a model whose input is normalised. If it "
        "takes 0..1, -1..1 or 0..255, say so with --input-mean and --input-std (0..255: --input-mean 0 --input-std 0.003922).",
    )


def _is_made(path: Path) -> bool:
    """Whether `path` is an npz that `save_images` wrote of images that are not real ones."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    with np.load(path, allow_pickle=False) as arrays:
        return "kind" in arrays.files and str(arrays["kind"]) in ("distilled", "procedural")


def _needs_preprocessing(path: Path) -> bool:
    return path.suffix.lower() not in (".npy", ".npz")
