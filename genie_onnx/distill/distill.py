"""GENIE-D (paper, section 3.1, Algorithm 1): a network with BatchNorm statistics in, images that have them out.

    for each batch:  z ~ N(0, I), G fresh;  repeat:  x = scale(G(z)),  L = bn_loss(teacher(x)) + input_loss(G(z)),  Adam on z and G

z learns at 0.1, reduced on plateaus; G at 0.01, times 0.95 every 100 steps. Batches know nothing of one another: everything random
in batch i comes from the stream "distill/batch<i>", so a batch can be made again, or elsewhere, and is the same.

Memory: the gradient needs the whole batch at once. Per image about 15 float32 values for each value that a convolution of the teacher
gives, and 1 KiB a pixel for G; once, 16 bytes for each of the 2048 H W weights of G's linear layer (1.6 GB at 224x224).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genie_onnx import seeds
from genie_onnx.config import DistillConfig
from genie_onnx.distill import scaling
from genie_onnx.distill.bn_loss import BatchNormStatistics, Targets, bn_loss, input_loss, targets
from genie_onnx.distill.plateau import PlateauRate
from genie_onnx.distill.scaling import Scaling
from genie_onnx.distill.sources import Generated, Pixels, source
from genie_onnx.distill.teacher import Teacher, memory_format, teacher
from genie_onnx.errors import RunError
from genie_onnx.importer import Network

DECAY, DECAY_EVERY = 0.95, 100  # of the generator's learning rate; the published setting
REPORT_SECONDS = 1.0  # between two readings of the loss: each makes a GPU wait for the host


@dataclass(frozen=True)
class DistillProgress:
    """How far a batch is. Losses are those of the step just made."""

    batch: int  # 0 .. batches - 1
    batches: int
    iteration: int  # steps made, 1 .. iterations
    iterations: int
    bn_loss: float  # Eq. 5
    loss: float  # with the input term
    seconds: float  # since the batch began


def batch_sizes(samples: int, batch_size: int) -> tuple[int, ...]:
    """Return the sizes of the fewest batches of at most `batch_size` that give `samples` images, as even as can be.

    Even, because the images of a batch share the statistics: 130 images are 65 + 65, not 128 + 2 that mean nothing.
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
    input_mean: Sequence[float] | None,
    input_std: Sequence[float] | None,
    seed: int,
    device: torch.device,
    progress: Callable[[DistillProgress], None],
    finished: Callable[[int, Tensor], None] | None = None,
    done: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """Return `samples` images, float32 [samples, C, H, W] on the CPU, in the units that the model reads.

    network: with its BatchNormalization nodes, one input; left alone. batchnorms: their statistics. shape: C, H, W of an image.
    input_mean, input_std: of the model's input, one number a channel; both None: learned from the statistics.
    progress: told about the first and last step of each batch, and about one a second in between.
    finished: told each finished batch (index, images float32 [n, C, H, W] on the CPU), to save it.
    done: batches finished by an earlier run of the same call; they are taken over, not made again.

    Raises ModelError where there is nothing to distil from, RunError where the loss is not finite.
    """
    sizes = batch_sizes(samples, config.batch_size)
    done = {} if done is None else done
    stored = targets(batchnorms, device)
    start = _start(network, batchnorms, shape, input_mean, input_std, seed=seed, device=device)
    batches = []
    for index, size in enumerate(sizes):
        if index not in done:
            generator = seeds.stream(seed, f"distill/batch{index}")
            images_of = source(max(size, 2), shape, config, generator).to(device).to(memory_format=memory_format(device))
            swing = generator if config.swing else None

            def report(iteration: int, bn: float, loss: float, seconds: float, *, batch: int = index) -> None:
                progress(DistillProgress(batch, len(sizes), iteration, config.iterations, bn, loss, seconds))

            images = _optimise(
                teacher(network, batchnorms, swing=swing, device=device), stored, images_of, start(), config, report
            )[:size]
            if finished is not None:
                finished(index, images)
            batches.append(images)
        else:
            batches.append(done[index])
    return torch.cat(batches)


def _start(
    network: Network,
    batchnorms: Sequence[BatchNormStatistics],
    shape: tuple[int, int, int],
    input_mean: Sequence[float] | None,
    input_std: Sequence[float] | None,
    *,
    seed: int,
    device: torch.device,
) -> Callable[[], Scaling]:
    """Return a function that makes the scaling with which every batch begins."""
    if input_mean is not None and input_std is not None:
        mean, std, learn = torch.tensor(input_mean), torch.tensor(input_std), False
    else:
        first = teacher(network, batchnorms[:1], swing=None, device=device)
        stored = targets(batchnorms[:1], device)
        generator = seeds.stream(seed, "distill/scaling")
        mean, std = scaling.search(lambda x: first(x)[0], stored.mean, stored.std, shape, generator)
        learn = True
    return lambda: Scaling(mean.to(device), std.to(device), learn=learn)


def _optimise(
    teach: Teacher,
    stored: Targets,
    images_of: Generated | Pixels,
    scale: Scaling,
    config: DistillConfig,
    report: Callable[[int, float, float, float], None],
) -> Tensor:
    """Run Algorithm 1 on one batch; return its images, float32 [N, C, H, W] on the CPU."""
    began = read = time.monotonic()
    latent_rate = PlateauRate(config.latent_lr, device=stored.mean.device)
    optimiser = torch.optim.Adam(parameter_groups(images_of, scale, latent_rate.rate, config.generator_lr), fused=True)
    for iteration in range(1, config.iterations + 1):
        optimiser.zero_grad()
        u = images_of()
        bn = bn_loss(teach(scale(u)), stored)
        loss = bn + input_loss(u)
        loss.backward()
        optimiser.step()
        latent_rate.step(loss.detach())
        if iteration % DECAY_EVERY == 0:
            optimiser.param_groups[WEIGHTS]["lr"] *= DECAY
        if iteration in (1, config.iterations) or time.monotonic() - read >= REPORT_SECONDS:
            numbers = float(bn.detach()), float(loss.detach())
            _require_finite(loss, iteration)
            read = time.monotonic()
            report(iteration, *numbers, read - began)
    with torch.no_grad():
        images = scale(images_of()).contiguous().cpu()
    _require_finite(images, config.iterations)
    return images


LATENTS, WEIGHTS = 0, 1  # places of the two groups


def parameter_groups(
    images_of: Generated | Pixels, scale: Scaling, latent_rate: Tensor | float, generator_lr: float
) -> list[dict[str, object]]:
    """Return what Adam trains: group LATENTS at `latent_rate`, group WEIGHTS (of G and of a learned scaling) at `generator_lr`."""
    return [
        {"params": images_of.latents(), "lr": latent_rate},
        {"params": images_of.weights() + scale.weights(), "lr": generator_lr},
    ]


def _require_finite(numbers: Tensor, iteration: int) -> None:
    if not bool(torch.isfinite(numbers).all()):
        raise RunError(
            f"The distillation loss is not finite any more after {iteration} iterations. Give the mean and standard deviation of the "
            "model's input (--input-mean, --input-std); if they are right, the stored statistics do not belong to the weights: "
            "calibrate with data or procedural images instead."
        )
