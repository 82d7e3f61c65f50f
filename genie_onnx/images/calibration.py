"""The calibration images themselves: the user's data, distillation (GENIE-D), procedural ones, refined or not, or a mixture.

Which of them, is decided before (`choice`). What is finished is kept in the run directory, and taken from there again
(images.kept).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genie_onnx.config import DistillConfig, QuantizeConfig
from genie_onnx.data import PathLike, load_images
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.graph import class_scores
from genie_onnx.images.choice import HELD_BACK, Choice, input_statistics, judged_on, made_kinds
from genie_onnx.images.kept import Calibration, finished_batches, save_images, saved_calibration
from genie_onnx.images.likely_input import as_painted, likely_statistics, painted_input
from genie_onnx.machine.atomic import write_npz
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.run.directory import RunDirectory
from genie_onnx.seeds import stream
from genie_onnx.synthesis import (
    BatchNormStatistics,
    batch_sizes,
    decisive,
    distill,
    image_bytes,
    measure,
    plausible,
    procedural,
)

MADE_HEADROOM = 2.0  # real images reach up to twice as far in the last block of a ResNet-20 as procedural ones (measured)
JUDGED = 32  # procedural images that tell a classifier from other networks with an output [N, K]
BATCH_BYTES = 2**30  # of activations that a batch of made images may take: few at a time for detectors
TINY = 1e-6  # deviation of a channel in which all given images are flat


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
        framing=config.framing,
        layout=prepared.layout,
        limit=config.samples + HELD_BACK,
        generator=stream(config.seed, "data"),
    )
    images, held_back = loaded[: config.samples], loaded[config.samples :]
    if made_kinds(data):
        images = _as_pixels(images, config)
        like = _like(images, prepared.shape, config)
        span = _pixel_range(config) or _span(images, like)
        if made_kinds(data) == {"procedural"}:  # as they may be pixels of some space, which have ends
            like = like.clamp(images.min(), images.max())
        return Calibration(images, like, "procedural", span, MADE_HEADROOM)
    span = _pixel_range(config) or _span(images)
    if len(held_back):
        return Calibration(images, held_back, "data", span, 1.0, len(images))
    return Calibration(images, _like(images, prepared.shape, config), "procedural", span, 1.0, len(images))


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
        return _amplified(prepared, config, given, run, compute, progress)
    scaling = input_statistics(prepared.shape, config)
    if choice.kind == "distilled":
        settings = replace(config, distill=distillation(prepared, config.distill))
        images = _distilled(prepared, settings, prepared.statistics, config.samples, scaling, run, compute, progress)
    elif choice.kind == "refined":
        images = _refined(prepared, config, scaling, run, compute, progress)
    else:
        mean, std = scaling
        tell = Tally(progress, Step(stage="images", iterations=config.samples))
        generator = stream(config.seed, "procedural")
        images = procedural(config.samples, prepared.shape, mean=mean, std=std, generator=generator, tell=tell)
    images = _as_pixels(images, config)
    held_back = _like(images, prepared.shape, config, Tally(progress, Step(stage="judges", iterations=judged_on(prepared.shape))))
    if choice.kind == "procedural" and (likely := painted_input(prepared, config)) is not None:
        images, held_back = (as_painted(likely, part, prepared, config) for part in (images, held_back))
    # A generator's images are nearly two-valued: real ones reach further (measured on digits: -0.8..1.3 against -2.5..3.6).
    span = _pixel_range(config) or _span(images, held_back)
    return Calibration(images, held_back, "procedural", span, MADE_HEADROOM)


def _amplified(
    prepared: Prepared,
    config: QuantizeConfig,
    given: Calibration,
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
) -> Calibration:
    """Return the given images followed by as many distilled ones as they are short of `config.samples`.

    Distilled from what is known, and for the other convolutions from what the given images measure there. Real images are among
    those that ranges are searched on (the first ones), so these need no headroom.
    """
    real = given.images
    tell = Tally(progress, Step(stage="statistics", iterations=len(real)))
    measured = measure(prepared.teacher, tuple(prepared.coverage.missing.values()), real, compute.device, tell)
    std, mean = torch.std_mean(real, (0, 2, 3), correction=0)
    scaling = (tuple(mean.tolist()), tuple(std.clamp_min(TINY).tolist()))
    wanted = config.samples - len(real)
    statistics: tuple[BatchNormStatistics, ...] = (*prepared.statistics, *measured)
    settings = replace(config, distill=affordable(prepared, [s.value for s in statistics], config.distill))
    made = _distilled(prepared, settings, statistics, wanted, scaling, run, compute, progress)
    return replace(given, images=torch.cat([real, _as_pixels(made, config)]))


def _refined(
    prepared: Prepared,
    config: QuantizeConfig,
    scaling: tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None],
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
) -> Tensor:
    """Return procedural images, fitted to the statistics that are known, to plausible ones of every other convolution and, for a
    classifier, to its classes.

    Where the model's input space is not known, it is that of `likely_statistics`.
    """
    mean, std = scaling if scaling[0] is not None else likely_statistics(prepared, config)
    values = fitted(prepared)
    told: dict[str, BatchNormStatistics] = {m.value: m for m in plausible_statistics(prepared, config, compute, progress)}
    told |= {s.value: s for s in prepared.statistics}
    statistics = [told[value] for value in values if value in told]
    scores = _class_scores(prepared, mean, std, config)
    judged = values if scores is None else [*values, scores]
    settings = replace(config, distill=affordable(prepared, judged, refinement(config.distill)))
    return _distilled(prepared, settings, statistics, config.samples, (mean, std), run, compute, progress, scores)


def plausible_statistics(
    prepared: Prepared, config: QuantizeConfig, compute: Compute, progress: Callable[[Step], None]
) -> tuple[BatchNormStatistics, ...]:
    """Return statistics that all convolutions of `prepared.teacher` plausibly have on real images (synthesis.plausible).

    Where the model's input space is not known, it is that of `likely_statistics`.
    """
    scaling = input_statistics(prepared.shape, config)
    mean, std = scaling if scaling[0] is not None else likely_statistics(prepared, config)
    return plausible(
        prepared.teacher,
        convolved(prepared),
        prepared.shape,
        mean=mean,
        std=std,
        generator=stream(config.seed, "plausible"),
        device=compute.device,
        progress=progress,
    )


def convolved(prepared: Prepared) -> list[str]:
    """Return what the convolutions of `prepared.teacher` compute, in topological order."""
    coverage = prepared.coverage
    found = {value for node, value in (coverage.covered | coverage.missing).items() if node not in coverage.products}
    return [value for value in prepared.teacher.nodes if value in found]


def fitted(prepared: Prepared) -> list[str]:
    """Return the values that refined and amplified images are fitted at, in topological order: those with statistics, and what
    the other convolutions compute."""
    found = {*(s.value for s in prepared.statistics), *prepared.coverage.missing.values()}
    return [value for value in prepared.teacher.nodes if value in found]


def refinement(config: DistillConfig) -> DistillConfig:
    """Return the settings with which procedural images are refined, where `config` is for distilled ones."""
    return replace(config, start="leaves", iterations=config.refine_iterations)


def distillation(prepared: Prepared, config: DistillConfig) -> DistillConfig:
    """Return the settings with which images are distilled from the statistics of `prepared`."""
    return config if config.most_pixels is None else affordable(prepared, [s.value for s in prepared.statistics], config)


def affordable(prepared: Prepared, values: Sequence[str], config: DistillConfig) -> DistillConfig:
    """Return `config` with batches that fit into memory, for images that nobody asked to be distilled in so large ones."""
    fitting = BATCH_BYTES // image_bytes(prepared.teacher, values, prepared.shape)
    return replace(config, batch_size=max(2, min(config.batch_size, fitting)))


def batch_pieces(prepared: Prepared, values: Sequence[str], images: int, compute: Compute) -> int:
    """Return in how many pieces a batch of `images` goes through the network to stay within the budget."""
    if compute.budget is None or compute.budget.step is None:
        return 1
    needed = images * image_bytes(prepared.teacher, values, prepared.shape)
    return min(images, -(-needed // compute.budget.step))


def _class_scores(prepared: Prepared, mean: Sequence[float], std: Sequence[float], config: QuantizeConfig) -> str | None:
    """Return the value with the scores of a classifier; None where the model is none."""
    name = class_scores(prepared.normalised)
    if name is None:
        return None
    network = prepared.teacher.extract(prepared.teacher.inputs, (name,))
    images = procedural(JUDGED, prepared.shape, mean=mean, std=std, generator=stream(config.seed, "classes"))
    with torch.no_grad():
        return name if decisive(network({network.inputs[0]: images})[name]) else None


def _distilled(
    prepared: Prepared,
    config: QuantizeConfig,
    statistics: Sequence[BatchNormStatistics],
    samples: int,
    scaling: tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None],
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
    scores: str | None = None,
) -> Tensor:
    """Distil `samples` images, batch by batch; finished batches of an interrupted run are read from `run`.

    `scaling`: mean and std of the model's input, one a channel.
    """
    sizes = batch_sizes(samples, config.distill.batch_size)
    team = compute.team

    def save(index: int, images: Tensor) -> None:
        team.once(lambda: write_npz(run.image_batch(index), images=images.numpy()))

    return distill(
        prepared.teacher,
        statistics,
        prepared.shape,
        samples,
        config.distill,
        input_mean=scaling[0],
        input_std=scaling[1],
        seed=config.seed,
        compute=compute,
        progress=progress,
        finished=save,
        done=team.once(lambda: finished_batches(run, sizes, prepared.shape, progress)),
        scores=scores,
        pieces=batch_pieces(prepared, [*(s.value for s in statistics), *([scores] if scores else [])], max(sizes), compute),
    )


def _like(
    images: Tensor, shape: tuple[int, int, int], config: QuantizeConfig, tell: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Return procedural images to judge on, with the mean and std that `images` have in each channel."""
    std, mean = torch.std_mean(images, (0, 2, 3))
    generator = stream(config.seed, "held-back")
    std = std.nan_to_num(1.0)
    made = procedural(judged_on(shape), shape, mean=mean.tolist(), std=std.tolist(), generator=generator, tell=tell)
    return _as_pixels(made, config)


def _as_pixels(images: Tensor, config: QuantizeConfig) -> Tensor:
    """Return made `images` [N, C, H, W] within what pixels 0..255 are in the model's input space, where that is known.

    No other image ever comes, nor does the grid of the input hold another. MobileNetV1, painted images, W4A8: the outputs are at
    10.3 dB of the float ones in place of 9.3.
    """
    if config.input_mean is None or config.input_std is None:
        return images
    mean, std = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (config.input_mean, config.input_std))
    return images.clamp(-mean / std, (1 - mean) / std)


def _pixel_range(config: QuantizeConfig) -> tuple[float, float] | None:
    """Return what pixels 0..255 become in the model's input space, over all channels; None where that space is not known."""
    if config.input_mean is None or config.input_std is None:
        return None
    pairs = list(zip(config.input_mean, config.input_std, strict=True))
    return min(-mean / std for mean, std in pairs), max((1 - mean) / std for mean, std in pairs)


def _span(*images: Tensor) -> tuple[float, float]:
    return min(float(part.min()) for part in images), max(float(part.max()) for part in images)
