"""Learned rounding and step sizes of one block: the loop (paper, Algorithm 2), tensors in and tensors out.

    minimise over v, s_w, s_a    || f_q(x_mix) - y ||^2 (summed over channels, mean over the rest)
                                 + lambda sum(1 - |2 h(v) - 1|^beta)
    x_mix = m x + (1 - m) x_q elementwise, m random (QDrop: x from the teacher, x_q from the quantised prefix)

Which samples, rates and exponent each step has is settled before the first one; `learner` has the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genie_onnx.config import ReconstructConfig
from genie_onnx.errors import RunError
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.team import Share
from genie_onnx.machine.watchdog import Watchdog
from genie_onnx.reconstruct.learning_step import Fixed, Learned, Learner, Weight, reconstruction_error
from genie_onnx.reconstruct.store import Stored, drawn
from genie_onnx.reconstruct.student import Student

REPORT_SECONDS = 0.5

Report = Callable[[int, float], None]  # (iterations done, loss)


@dataclass(frozen=True)
class BlockData:
    """Teacher input x, student input x_q and teacher output y of all samples.

    `channels` has the axis of each y, as it was before it was stored, that counts channels.
    """

    teacher: tuple[Stored, ...]
    student: tuple[Stored, ...]
    target: tuple[Stored, ...]
    channels: tuple[int, ...]


def sample_batches(count: int, batch_size: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Return [iterations, min(batch_size, count)] sample numbers: shuffled epochs laid end to end, for any `count` >= 1."""
    size = min(batch_size, count)
    epochs = math.ceil(iterations * size / count)
    order = torch.rand(epochs, count, generator=generator, device=generator.device).argsort(1)
    return order.flatten()[: iterations * size].view(iterations, size)


def beta_at(iteration: int, config: ReconstructConfig) -> float:
    """Return the exponent of the rounding term: 0 (no term) during the warm-up, then linear from beta_start to beta_end."""
    start = config.warmup * config.iterations
    if iteration < start:
        return 0.0
    remaining = 1 - (iteration - start) / max(config.iterations - start, 1)
    return config.beta_end + (config.beta_start - config.beta_end) * remaining


def rates_at(iteration: int, config: ReconstructConfig) -> tuple[float, float, float, float, float]:
    """Return the learning rates of logits (constant), weight steps and activation steps (on a cosine), beta, and the rate of
    biases (on a cosine)."""
    cosine = 0.5 * (1 + math.cos(math.pi * iteration / config.iterations))
    steps = config.weight_scale_lr * cosine, config.activation_scale_lr * cosine
    return config.rounding_lr, *steps, beta_at(iteration, config), config.bias_lr * cosine


def batch_share(data: BlockData, config: ReconstructConfig, compute: Compute, samples: int | None = None) -> Share:
    """Return which samples of each step's batch are this process's, of the first `samples` (None: of all).

    Raises ConfigError where there are too few for all.
    """
    return compute.team.share(min(config.batch_size, len(data.student[0]) if samples is None else samples))


def optimise_block(
    student: Student,
    data: BlockData,
    weights: Sequence[Weight],
    fixed: Fixed,
    scales: dict[str, Tensor],
    config: ReconstructConfig,
    compute: Compute,
    generator: torch.Generator,
    report: Report,
    samples: int | None = None,
    moving: Sequence[bool] = (),
    what: str = "learning a block",
) -> Learned:
    """Learn the rounding and steps of `weights` and the steps `scales` (0-dim each, by ActivationSpec name).

    Only the first `samples` are learned on (None: all). `moving` says which of the student's biases are learned, too (none).
    `what` is done here, for the message where a step hangs (watchdog).
    Zero iterations give nearest rounding at the searched steps. Raises RunError when the loss is not finite.
    """
    team, share = compute.team, batch_share(data, config, compute, samples)
    learner = Learner(student, weights, fixed, scales, data.channels, config, compute, generator, share, moving)
    count = len(data.student[0]) if samples is None else samples
    batches = sample_batches(count, config.batch_size, config.iterations, generator)
    schedule = [rates_at(iteration, config) for iteration in range(config.iterations)]
    rates = torch.tensor(schedule, device=generator.device)
    penalised = next((k for k, (*_, beta, _) in enumerate(schedule) if beta), config.iterations)

    losses: list[float] = []
    last_report = time.monotonic()
    rows_of_steps = drawn([*data.teacher, *data.student, *data.target], batches[:, share.start : share.stop])
    with Watchdog(what) as dog:
        for iteration, rows in enumerate(rows_of_steps):
            learner.rates.copy_(rates[iteration])
            if iteration in (0, penalised):
                step = learner.steps(iteration >= penalised)
            slopes = step(*rows)
            dog.step()

            now = time.monotonic()
            end = iteration in (0, config.iterations - 1)
            if end or now - last_report > REPORT_SECONDS:
                error = reconstruction_error(slopes, data.channels, share)
                # the clock is this process's own, so in between no other can be asked: its part stands for the whole
                error = team.add_up(error) if end else error / share.part
                losses.append(float(error))  # the only read-back: twice a second
                if not math.isfinite(losses[-1]):
                    raise RunError(
                        f"the reconstruction loss became {losses[-1]} at iteration {iteration}: check the calibration images for "
                        "values far outside the model's input range (--mean, --std)"
                    )
                report(iteration + 1, losses[-1])
                last_report = now
    return learner.learned((losses[0], losses[-1]) if losses else (math.nan, math.nan))
