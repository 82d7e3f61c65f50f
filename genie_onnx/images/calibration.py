"""The calibration images themselves: the user's data, distillation (GENIE-D), procedural ones, refined or not, or a mixture.

    choice -> data_images | made_images: distilled, amplified, refined (images.distilled), or painted
           -> within what pixels can be, with images to judge on (images.input_space) -> kept in the run directory (images.kept)

What a run directory has already is taken from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from genie_onnx.config import QuantizeConfig
from genie_onnx.data import PathLike, load_images
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.images.choice import HELD_BACK, Choice, input_statistics, judged_on, made_kinds
from genie_onnx.images.distilled import amplified, distillation, distilled, refined
from genie_onnx.images.input_space import as_pixels, painted_like, pixel_range, span_of
from genie_onnx.images.kept import Calibration, save_images, saved_calibration
from genie_onnx.images.likely_input import as_painted, painted_input
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.run.directory import RunDirectory
from genie_onnx.seeds import stream
from genie_onnx.synthesis import procedural

MADE_HEADROOM = 2.0  # real images reach up to twice as far in the last block of a ResNet-20 as procedural ones (measured)


def data_images(prepared: Prepared, config: QuantizeConfig, data: Sequence[PathLike]) -> Calibration:
    """Load the user's data: `config.samples` images to calibrate on and, where there are more, up to HELD_BACK to judge on.

    Raises DataError with everything that cannot be used.
    """
    loaded = load_images(
        data,
        prepared.shape,
        config.preprocessing,
        layout=prepared.layout,
        limit=config.samples + HELD_BACK,
        generator=stream(config.seed, "data"),
    )
    images, held_back = loaded[: config.samples], loaded[config.samples :]
    if made_kinds(data):
        images = as_pixels(images, config)
        similar = painted_like(images, prepared.shape, config)
        span = pixel_range(config) or span_of(images, similar)
        if made_kinds(data) == {"procedural"}:  # as they may be pixels of some space, which have ends
            similar = similar.clamp(images.min(), images.max())
        return Calibration(images, similar, "procedural", span, MADE_HEADROOM)
    span = pixel_range(config) or span_of(images)
    if len(held_back):
        return Calibration(images, held_back, "data", span, 1.0, len(images))
    return Calibration(images, painted_like(images, prepared.shape, config), "procedural", span, 1.0, len(images))


def calibration_images(
    prepared: Prepared,
    config: QuantizeConfig,
    choice: Choice,
    given: Calibration | None,
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
) -> Calibration:
    """Return the images of the run: as an earlier one left them in `run`, else loaded or made now and saved there."""
    team = compute.team
    saved = team.once(lambda: saved_calibration(run, prepared.shape, progress))
    if saved is not None:
        return saved
    if given is not None and choice.kind == "data":
        calibration = given
    else:
        calibration = made_images(prepared, config, choice, given, run, compute, progress)
    calibration = replace(calibration, images=_as_read(calibration.images), held_back=_as_read(calibration.held_back))
    progress(Step(stage="save"))
    team.once(lambda: save_images(calibration, choice.images, run))
    return calibration


def _as_read(images: Tensor) -> Tensor:
    """Return `images` laid out as `images.kept` reads them: sums depend on the layout, and a run that goes on has these."""
    return images.contiguous().flatten().view(images.shape)


def made_images(
    prepared: Prepared,
    config: QuantizeConfig,
    choice: Choice,
    given: Calibration | None,
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
) -> Calibration:
    """Distil or paint images, all or what `given` lacks. Distilled batches are saved to `run` as they are made, and taken from
    there again."""
    if given is not None:
        return amplified(prepared, config, given, run, compute, progress)
    scaling = input_statistics(prepared.shape, config)
    if choice.kind == "distilled":
        settings = replace(config, distill=distillation(prepared, config.distill))
        images = distilled(prepared, settings, prepared.statistics, config.samples, scaling, run, compute, progress)
    elif choice.kind == "refined":
        images = refined(prepared, config, scaling, run, compute, progress)
    else:
        mean, std = scaling
        tell = Tally(progress, Step(stage="images", iterations=config.samples))
        generator = stream(config.seed, "procedural")
        images = procedural(config.samples, prepared.shape, mean=mean, std=std, generator=generator, tell=tell)
    images = as_pixels(images, config)
    held_back = painted_like(
        images, prepared.shape, config, Tally(progress, Step(stage="judges", iterations=judged_on(prepared.shape)))
    )
    if choice.kind == "procedural" and (likely := painted_input(prepared, config)) is not None:
        images, held_back = (as_painted(likely, part, prepared, config) for part in (images, held_back))
    # A generator's images are nearly two-valued: real ones reach further (measured on digits: -0.8..1.3 against -2.5..3.6).
    span = pixel_range(config) or span_of(images, held_back)
    return Calibration(images, held_back, "procedural", span, MADE_HEADROOM)
