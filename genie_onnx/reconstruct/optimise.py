"""One block's optimisation (paper, Algorithm 2; METHOD 2), tensors in and tensors out.

    minimise over v, s_w, s_a    || f_q(x_mix) - y ||^2 (summed over channels, mean over the rest)
                                 + lambda sum(1 - |2 h(v) - 1|^beta)
    x_mix = m x + (1 - m) x_q elementwise, m random (QDrop: x from the teacher, x_q from the quantised prefix)

All rounding logits of the block are one flat parameter, all step sizes of its weights another, of its activations a third.
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
from genie_onnx.quant import Grid, MaskSource, Penalty, SoftRounding, harden, soft_weights
from genie_onnx.reconstruct.layout import from_rows, from_stored, to_rows
from genie_onnx.reconstruct.store import Stored, drawn
from genie_onnx.reconstruct.student import Student

# A step moves a scale by at most this share of its start: the published rates are absolute, and would wreck a scale of 1e-4.
LARGEST_RELATIVE_RATE = 0.01
# ... and no scale shrinks below this share of its start, so that none can reach zero.
SMALLEST_RELATIVE_SCALE = 0.05
REPORT_SECONDS = 0.5

Report = Callable[[int, float], None]  # (iterations done, loss)


@dataclass(frozen=True)
class Weight:
    """A weight to learn: its float values in the shape of the file, its channel axis, bits and searched grid."""

    name: str
    value: Tensor
    axis: int
    bits: int
    grid: Grid


@dataclass(frozen=True)
class BlockData:
    """Teacher input x, student input x_q and teacher output y of all samples.

    `channels` has the axis of each y, as it was before it was stored, that counts channels.
    """

    teacher: tuple[Stored, ...]
    student: tuple[Stored, ...]
    target: tuple[Stored, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class Learned:
    """Final codes - zero point (int8, in the weight's own shape), scales [C] and zero points [C] of each weight; the scale
    (0-dim) of each learned activation; the reconstruction error (without the rounding term) of the first and last report."""

    codes: dict[str, Tensor]
    scales: dict[str, Tensor]
    zero_points: dict[str, Tensor]
    activations: dict[str, Tensor]
    loss: tuple[float, float]


class StepSizes:
    """Positive step sizes s = max(s0 + c theta, floor): theta is what Adam moves, c caps its relative speed."""

    def __init__(self, initial: Tensor, learning_rate: float) -> None:
        self.initial = initial
        self.theta = torch.zeros_like(initial, requires_grad=True)
        self._speed = (initial * (LARGEST_RELATIVE_RATE / learning_rate)).clamp(max=1)
        self._floor = initial * SMALLEST_RELATIVE_SCALE

    def __call__(self) -> Tensor:
        """Return the current step sizes, differentiable in theta."""
        return torch.maximum(torch.addcmul(self.initial, self._speed, self.theta), self._floor)


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


def error_slopes(outputs: Sequence[Tensor], targets: Sequence[Tensor], channels: Sequence[int]) -> list[Tensor]:
    """Return the gradient of `reconstruction_error` with respect to each output: 2 channels / size (output - target).

    Given to `backward` directly, so that the error itself is only computed when someone reads it.
    """
    return [
        torch.sub(output.detach(), target).mul_(2 * _channels(target, axis) / target.numel())
        for output, target, axis in zip(outputs, targets, channels, strict=True)
    ]


def reconstruction_error(slopes: Sequence[Tensor], channels: Sequence[int]) -> Tensor:
    """Return the squared error, summed over channels, averaged over the rest, added up over outputs, from its slopes."""
    parts = [
        slope.square().sum() * (slope.numel() / (4 * _channels(slope, axis)))
        for slope, axis in zip(slopes, channels, strict=True)
    ]
    return torch.stack(parts).sum()


def _channels(x: Tensor, axis: int) -> int:
    return x.shape[axis] if x.dim() > 1 else 1


def optimise_block(
    student: Student,
    data: BlockData,
    weights: Sequence[Weight],
    biases: Sequence[Tensor],
    fixed_weights: dict[str, Tensor],
    learned_scales: dict[str, Tensor],
    fixed_scales: dict[str, Tensor],
    config: ReconstructConfig,
    generator: torch.Generator,
    report: Report,
) -> Learned:
    """Learn the rounding and steps of `weights` and the steps `learned_scales` (0-dim each, by ActivationSpec name).

    `fixed_*` belong to blocks that were finished before. Zero iterations give nearest rounding at the searched steps.
    Raises RunError when the loss is not finite.
    """
    rounding, v = SoftRounding.build(
        [to_rows(w.value, w.axis) for w in weights], [w.grid for w in weights], [w.bits for w in weights]
    )
    v.requires_grad_()
    weight_steps = StepSizes(rounding.initial_scale, config.weight_scale_lr)
    names = list(learned_scales)
    initial = torch.stack([learned_scales[n] for n in names]) if names else v.new_zeros(0)
    activation_steps = StepSizes(initial, config.activation_scale_lr)

    step_groups = [{"params": [activation_steps.theta], "lr": config.activation_scale_lr}] if names else []
    if config.learn_weight_scale:
        step_groups.append({"params": [weight_steps.theta], "lr": config.weight_scale_lr})
    optimiser = torch.optim.Adam([{"params": [v], "lr": config.rounding_lr}, *step_groups], fused=True)
    schedules = [(optimiser.param_groups[1 + k], float(group["lr"])) for k, group in enumerate(step_groups)]  # type: ignore[arg-type]

    batches = sample_batches(len(data.student[0]), config.batch_size, config.iterations, generator)
    mixing = MaskSource(0.5, generator)
    rounding_weight = v.new_tensor(config.rounding_weight)

    def forward(inputs: Sequence[Tensor], penalty: Penalty | None) -> tuple[Tensor, ...]:
        rows = soft_weights(v, weight_steps(), rounding, penalty)
        soft = {w.name: from_rows(r, w.value.shape, w.axis) for w, r in zip(weights, rows, strict=True)}
        scales = dict(zip(names, activation_steps().unbind(), strict=True)) if names else {}
        return student(inputs, {**fixed_weights, **soft}, biases, {**fixed_scales, **scales})

    losses: list[float] = []
    last_report = time.monotonic()
    count = len(data.student)
    for iteration, rows in enumerate(drawn([*data.teacher, *data.student, *data.target], batches)):
        inputs = [_mix(x, x_q, mixing) for x, x_q in zip(rows[:count], rows[count : 2 * count], strict=True)]
        targets = [from_stored(y) for y in rows[2 * count :]]
        for group, rate in schedules:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * iteration / config.iterations))

        beta = beta_at(iteration, config)
        outputs = forward(inputs, Penalty(beta, rounding_weight) if beta else None)
        slopes = error_slopes(outputs, targets, data.channels)
        # an output that nothing learned feeds has no gradient to take
        ends = [(y, slope) for y, slope in zip(outputs, slopes, strict=True) if y.requires_grad]
        torch.autograd.backward([y for y, _ in ends], [slope for _, slope in ends])
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

        now = time.monotonic()
        if iteration == 0 or iteration == config.iterations - 1 or now - last_report > REPORT_SECONDS:
            losses.append(float(reconstruction_error(slopes, data.channels)))  # the only read-back: twice a second
            if not math.isfinite(losses[-1]):
                raise RunError(
                    f"the reconstruction loss became {losses[-1]} at iteration {iteration}: check the calibration images for "
                    "values far outside the model's input range (--input-mean, --input-std)"
                )
            report(iteration + 1, losses[-1])
            last_report = now

    with torch.no_grad():
        hard = harden(v, rounding)
        weight_scales = weight_steps().split([rows for rows, _ in rounding.shapes])
        final = activation_steps()
    return Learned(
        codes={w.name: from_rows(c, w.value.shape, w.axis).clone() for w, c in zip(weights, hard, strict=True)},
        scales={w.name: s.clone() for w, s in zip(weights, weight_scales, strict=True)},
        zero_points={w.name: w.grid.zero_point for w in weights},
        activations={n: final[k].clone() for k, n in enumerate(names)},
        loss=(losses[0], losses[-1]) if losses else (math.nan, math.nan),
    )


def _mix(x: Tensor, x_q: Tensor, masks: MaskSource) -> Tensor:
    """Return two stored tensors as one: x where a random mask is 1 and x_q where it is 0."""
    if x is x_q or not x.is_floating_point():
        return from_stored(x_q)
    drawn_q = from_stored(x_q)
    mask = masks.like(drawn_q)
    return from_stored(x) if mask is None else torch.lerp(drawn_q, from_stored(x), mask)
