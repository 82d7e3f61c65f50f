"""Images that are optimised (GENIE-D): from nothing but statistics, to go with a few given ones, or from painted ones.

distilled   the statistics of the model's BatchNormalization, or of --bn-from
amplified   ... and, for the other convolutions, what the given images measure there
refined     ... and, for the other convolutions, what is plausible there; for a classifier, its classes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genie_onnx.config import DistillConfig, QuantizeConfig
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.graph import class_scores
from genie_onnx.images.expected import plausible_statistics
from genie_onnx.images.input_space import as_pixels
from genie_onnx.images.kept import Calibration, finished_batches
from genie_onnx.images.likely_input import likely_statistics
from genie_onnx.machine.atomic import write_npz
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.run.directory import RunDirectory
from genie_onnx.seeds import stream
from genie_onnx.synthesis import BatchNormStatistics, batch_sizes, decisive, distill, image_bytes, measure, procedural

JUDGED = 32  # procedural images that tell a classifier from other networks with an output [N, K]
BATCH_BYTES = 2**30  # of activations that a batch of made images may take: few at a time for detectors
TINY = 1e-6  # deviation of a channel in which all given images are flat


def amplified(
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
    made = distilled(prepared, settings, statistics, wanted, scaling, run, compute, progress)
    return replace(given, images=torch.cat([real, as_pixels(made, config)]))


def refined(
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
    return distilled(prepared, settings, statistics, config.samples, (mean, std), run, compute, progress, scores)


def distilled(
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
        mean=scaling[0],
        std=scaling[1],
        seed=config.seed,
        compute=compute,
        progress=progress,
        finished=save,
        done=team.once(lambda: finished_batches(run, sizes, prepared.shape, progress)),
        scores=scores,
        pieces=batch_pieces(prepared, [*(s.value for s in statistics), *([scores] if scores else [])], max(sizes), compute),
    )


def distillation(prepared: Prepared, config: DistillConfig) -> DistillConfig:
    """Return the settings with which images are distilled from the statistics of `prepared`."""
    return config if config.most_pixels is None else affordable(prepared, [s.value for s in prepared.statistics], config)


def refinement(config: DistillConfig) -> DistillConfig:
    """Return the settings with which procedural images are refined, where `config` is for distilled ones."""
    return replace(config, start="leaves", iterations=config.refine_iterations)


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


def fitted(prepared: Prepared) -> list[str]:
    """Return the values that refined and amplified images are fitted at, in topological order: those with statistics, and what
    the other convolutions compute."""
    found = {*(s.value for s in prepared.statistics), *prepared.coverage.missing.values()}
    return [value for value in prepared.teacher.nodes if value in found]


def _class_scores(prepared: Prepared, mean: Sequence[float], std: Sequence[float], config: QuantizeConfig) -> str | None:
    """Return the value with the scores of a classifier; None where the model is none."""
    name = class_scores(prepared.normalised)
    if name is None:
        return None
    network = prepared.teacher.extract(prepared.teacher.inputs, (name,))
    images = procedural(JUDGED, prepared.shape, mean=mean, std=std, generator=stream(config.seed, "classes"))
    with torch.no_grad():
        return name if decisive(network({network.inputs[0]: images})[name]) else None
