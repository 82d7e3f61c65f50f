"""GENIE-D (paper, section 3.1, Algorithm 1): a network with BatchNorm statistics in, images that have them out.

    for each batch:  fresh z and G;  repeat `iterations` times: one step of batch.Batch;  its images join the others

Batches know nothing of one another: everything random in batch i comes from the streams "distill/batch<i>" and
"distill/shifts<i>" (the search for an unknown scaling of the input from "distill/scaling"), so a batch can be made again, or
elsewhere, and is the same. In a team each process makes every so manieth batch.

Memory: the gradient needs the activations of the whole batch at once, or of a piece of it (pieces). At 224x224 that is 67 MB an
image for a MobileNetV1-0.75 (measured on a CPU), 8.6 GB for 128 images; G's linear layer with its gradient and Adam's state
takes 1.6 GB whatever the batch (32 KiB a pixel).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genie_onnx import seeds
from genie_onnx.config import DistillConfig
from genie_onnx.errors import ModelError, RunError
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.memory import is_out_of_memory
from genie_onnx.machine.watchdog import Watchdog
from genie_onnx.synthesis.batch import Batch
from genie_onnx.synthesis.bn_loss import BatchNormStatistics, targets, with_measurements
from genie_onnx.synthesis.classes import balanced_labels
from genie_onnx.synthesis.scaling import TRIALS, Scaling, search
from genie_onnx.synthesis.starts import source
from genie_onnx.synthesis.swing_conv import Shifts
from genie_onnx.synthesis.teacher import teacher

REPORT_SECONDS = 1.0  # between two readings of the loss: each makes a GPU wait for the host


def batch_sizes(samples: int, batch_size: int) -> tuple[int, ...]:
    """Return the sizes of the fewest batches of at most `batch_size` that give `samples` images, as even as can be.

    Even, because the images of a batch share the statistics: 130 images are 65 + 65, not 128 + 2 that would mean nothing.
    """
    batches = -(-samples // batch_size)
    return tuple(samples // batches + (index < samples % batches) for index in range(batches))


def distill(
    network: Network,
    batchnorms: Sequence[BatchNormStatistics],
    shape: tuple[int, int, int],
    samples: int,
    config: DistillConfig,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    seed: int,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
    finished: Callable[[int, Tensor], None] | None = None,
    done: Mapping[int, Tensor] | None = None,
    scores: str | None = None,
    pieces: int = 1,
) -> Tensor:
    """Return `samples` images, float32 [samples, C, H, W] on the CPU, in the units that the model reads.

    network: with its BatchNormalization nodes, one input; left alone. batchnorms: their statistics. shape: C, H, W of an image.
    mean, std: of the model's input, one number a channel; both None: learned from the statistics.
    progress: told of the beginning, the first and the last step of each batch, and of about one a second in between.
    finished: told of each finished batch (index, images float32 [n, C, H, W] on the CPU), to save it.
    done: batches that an earlier run of the same call finished; they are taken over, not made again.
    scores: value [N, K] with the scores of a classifier, to make images of every class as well (classes).
    pieces: in how many a batch goes through the network, to take less memory for the same images (pieces).

    Raises ModelError where there is nothing to distil from, RunError where the loss is not finite.
    """
    device = compute.device
    sizes = batch_sizes(samples, config.batch_size)
    batchnorms = _usable(network, batchnorms)
    stored = targets(batchnorms, device)
    start = _input_statistics(network, batchnorms, shape, mean, std, seed, device, progress)

    def one_batch(index: int, pieces: int) -> Tensor:
        begun = Step(stage="images", index=index, count=len(sizes), iterations=config.iterations)
        progress(begun)
        generator = seeds.stream(seed, f"distill/batch{index}")
        # One image alone has no statistics: two are made then, and one is kept.
        images_of = source(max(sizes[index], 2), shape, config, generator)
        shifts = Shifts(seeds.stream(seed, f"distill/shifts{index}", device)) if config.swing else None
        teach = teacher(network, batchnorms, scores=scores, shifts=shifts, device=device)
        scaling = Scaling(*start, learn=mean is None)
        labels = None
        if scores is not None:
            with torch.no_grad():
                shown = scaling(images_of()).to(device).chunk(pieces)
                labels = balanced_labels(torch.cat([teach(piece)[-1].cpu() for piece in shown]))
        batch = Batch(teach, stored, images_of, scaling, config, compute, shifts=shifts, labels=labels, pieces=pieces)
        with Watchdog(f"distilling batch {index + 1} of {len(sizes)}") as dog:
            for iteration, bn in _run(batch, config.iterations, dog):
                progress(replace(begun, iteration=iteration, loss=bn))
        images = batch.images()[: sizes[index]].cpu()
        _require_finite(images, config.iterations)
        return images

    enough = [pieces]  # in how many pieces a batch has been found to fit

    def fitted(index: int) -> Tensor:
        """Make a batch; the first time that memory runs out, in pieces half as large, which the later ones keep."""
        try:
            return one_batch(index, enough[-1])
        except Exception as error:  # that of a device has no class in common with that of the machine
            if len(enough) > 1 or not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        enough.append(2 * pieces)  # outside of the handler, which keeps the tensors of the failed batch alive
        if device.type == "cuda":
            torch.cuda.empty_cache()
        progress(
            Notice(
                "memory ran out once while images were distilled: a batch goes through the network in "
                f"{enough[-1]} pieces from there on ({reason}). A smaller --memory-budget avoids it"
            )
        )
        return one_batch(index, enough[-1])

    images = dict(done or {})
    missing = [index for index in range(len(sizes)) if index not in images]
    made = compute.team.divided(len(missing), lambda number: [fitted(missing[number])])
    for index, (images[index],) in zip(missing, made, strict=True):
        if finished is not None:
            finished(index, images[index])
    return torch.cat([images[index] for index in range(len(sizes))])


def _usable(network: Network, batchnorms: Sequence[BatchNormStatistics]) -> tuple[BatchNormStatistics, ...]:
    """Return the statistics to distil from. Raises ModelError where there are none, or images are not all that goes in."""
    if len(network.inputs) != 1:
        raise ModelError(
            f"Images cannot be distilled for a model with {len(network.inputs)} inputs ({', '.join(network.inputs)}); one image "
            "input is supported. Give calibration data instead."
        )
    measured = with_measurements(batchnorms)
    if not measured:
        raise ModelError(
            "The model has no BatchNormalization statistics to distil images from: most exporters fold them away, and layers "
            "that still have mean 0 and variance 1 never measured any. Export it with BatchNormalization kept, give "
            "calibration data, or use procedural images."
        )
    return measured


def _run(batch: Batch, iterations: int, dog: Watchdog) -> Iterator[tuple[int, float]]:
    """Make all steps; yield (iteration, Eq. 5) for the first, the last, and about one a second in between."""
    read = time.monotonic()
    for iteration in range(1, iterations + 1):
        bn, loss = batch.step()
        dog.step()
        if iteration in (1, iterations) or time.monotonic() - read >= REPORT_SECONDS:
            _require_finite(loss, iteration)
            read = time.monotonic()
            yield iteration, float(bn)


def _require_finite(numbers: Tensor, iteration: int) -> None:
    if not bool(torch.isfinite(numbers).all()):
        raise RunError(
            f"The distillation loss is not finite any more after {iteration} iterations. Give the mean and standard deviation of "
            "the model's input (--mean, --std); if they are right, the stored statistics do not belong to the "
            "weights: use calibration data or procedural images instead."
        )


def _input_statistics(
    network: Network,
    batchnorms: Sequence[BatchNormStatistics],
    shape: tuple[int, int, int],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    seed: int,
    device: torch.device,
    progress: Callable[[Step], None],
) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the model's input, float32 [C] each: as given, or found from the statistics."""
    if mean is not None and std is not None:
        return torch.tensor(mean), torch.tensor(std)
    tell = Tally(progress, Step(stage="statistics", iterations=TRIALS))
    first = teacher(network, batchnorms[:1], shifts=None, device=device)
    stored = targets(batchnorms[:1], device)
    generator = seeds.stream(seed, "distill/scaling")
    return search(lambda x: first(x)[0], stored.mean, stored.std, shape, generator, tell)
