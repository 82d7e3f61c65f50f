"""What one block learns, and one step of learning it: a fixed sequence of operations on tensors that stay where they are.

    x_mix = m x + (1 - m) x_q;   y' = f_q(x_mix) at w_q(v, s_w), s_a;   slopes = d ||y' - y||^2 / d y';   backward;   Adam

All rounding logits of the block are one flat parameter, all step sizes of its weights another, of its activations a third. Rates
and the exponent of the rounding term are tensors, set from outside, and nothing waits for the device: so a step can be captured.

A process that has a share of each batch computes its part of the gradient of the whole batch; the parts are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from genie_onnx.config import ReconstructConfig
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.team import ALL, Share
from genie_onnx.quant import Grid, MaskSource, Penalty, SoftRounding, harden, mix, scaled_difference, soft_weights
from genie_onnx.reconstruct.layout import from_rows, from_stored, to_rows
from genie_onnx.reconstruct.student import Student

# A step moves a scale by at most this share of its start: the published rates are absolute, and would wreck a scale of 1e-4.
LARGEST_RELATIVE_RATE = 0.01
# ... and no scale shrinks below this share of its start, so that none can reach zero.
SMALLEST_RELATIVE_SCALE = 0.05


@dataclass(frozen=True)
class Weight:
    """A weight to learn: its float values in the shape of the file, its channel axis, bits and searched grid."""

    name: str
    value: Tensor
    axis: int
    bits: int
    grid: Grid


@dataclass(frozen=True)
class Fixed:
    """What a block reads and does not learn: weights by initializer, biases in their order, scales (0-dim) by ActivationSpec."""

    weights: dict[str, Tensor]
    biases: Sequence[Tensor]
    scales: dict[str, Tensor]


@dataclass(frozen=True)
class Learned:
    """Final codes - zero point (int8, in the weight's own shape), scales [C] and zero points [C] of each weight; the scale
    (0-dim) of each learned activation; the reconstruction error (without the rounding term) of the first and last report; the
    learned biases by initializer."""

    codes: dict[str, Tensor]
    scales: dict[str, Tensor]
    zero_points: dict[str, Tensor]
    activations: dict[str, Tensor]
    loss: tuple[float, float]
    biases: dict[str, Tensor] = field(default_factory=dict)


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


class Bias:
    """A bias b = b0 + u theta: theta is what Adam moves, in units u of the bias's own size."""

    def __init__(self, initial: Tensor) -> None:
        self.initial = initial
        self.theta = torch.zeros_like(initial, requires_grad=True)
        size = initial.abs().mean()
        self._unit = torch.where(size > 0, size, torch.ones_like(size))

    def __call__(self) -> Tensor:
        """Return the bias, differentiable in theta."""
        return torch.addcmul(self.initial, self._unit, self.theta)


class Learner:
    """The learned tensors of one block and their optimiser.

    `rates` [5] on the device says how the next step is made: the learning rates of logits, weight steps and activation steps, the
    exponent beta of the rounding term, and the learning rate of biases.
    """

    def __init__(
        self,
        student: Student,
        weights: Sequence[Weight],
        fixed: Fixed,
        scales: dict[str, Tensor],
        channels: Sequence[int],
        config: ReconstructConfig,
        compute: Compute,
        generator: torch.Generator,
        share: Share = ALL,
        moving: Sequence[bool] = (),
    ) -> None:
        """`scales`: those to learn (0-dim each, by ActivationSpec). `channels`: the axis of each output that counts channels.
        `share`: what is this process's of each batch. `moving`: which of the fixed biases are learned after all.
        """
        self._student, self._weights, self._fixed, self._names = student, weights, fixed, list(scales)
        self._channels, self._compute, self._share = channels, compute, share
        self._mixing, self._generator = MaskSource(0.5, generator, share), generator
        self._rounding, self._v = SoftRounding.build(
            [to_rows(w.value, w.axis) for w in weights], [w.grid for w in weights], [w.bits for w in weights]
        )
        self._v.requires_grad_()
        self._weight_steps = StepSizes(self._rounding.initial_scale, config.weight_scale_lr)
        initial = torch.stack(list(scales.values())) if scales else self._v.new_zeros(0)
        self._activation_steps = StepSizes(initial, config.activation_scale_lr)
        self._rounding_weight = self._v.new_tensor(config.rounding_weight / compute.team.size)  # its gradients are added up, too

        self.rates = torch.zeros(5, device=self._v.device)
        groups = [{"params": [self._v], "lr": self.rates[0]}]
        if config.learn_weight_scale:
            groups.append({"params": [self._weight_steps.theta], "lr": self.rates[1]})
        else:
            self._weight_steps.theta.requires_grad_(False)
        if scales:
            groups.append({"params": [self._activation_steps.theta], "lr": self.rates[2]})
        self._biases = {k: Bias(fixed.biases[k]) for k, moves in enumerate(moving) if moves}
        if self._biases:
            groups.append({"params": [bias.theta for bias in self._biases.values()], "lr": self.rates[4]})
        self._optimiser = torch.optim.Adam(groups, fused=True, capturable=self._v.is_cuda)

    def steps(self, penalised: bool) -> Callable[..., tuple[Tensor, ...]]:
        """Return a function that makes a step each time it is called, with the rounding term or without.

        It takes samples: the teacher's inputs x, the student's x_q, the targets y, all as they are stored; and returns the slopes
        of the reconstruction error before the step, one tensor an output.
        """
        penalty = Penalty(self.rates[3], self._rounding_weight) if penalised else None

        gradients: Callable[..., tuple[Tensor, ...]] = partial(self._gradients, penalty)
        alone = self._compute.team.size == 1
        if not alone:  # what other processes take part in is not captured
            gradients = self._compute.repeated(gradients, [self._generator])

        def step(*rows: Tensor) -> tuple[Tensor, ...]:
            slopes = gradients(*rows)
            self._update()
            return slopes

        return self._compute.repeated(step, [self._generator]) if alone else step

    def _gradients(self, penalty: Penalty | None, *rows: Tensor) -> tuple[Tensor, ...]:
        self._optimiser.zero_grad(set_to_none=True)
        count = (len(rows) - len(self._channels)) // 2
        inputs = [self._mixed(x, x_q) for x, x_q in zip(rows[:count], rows[count : 2 * count], strict=True)]
        targets = [from_stored(y) for y in rows[2 * count :]]
        outputs = self._forward(inputs, penalty)
        slopes = error_slopes(outputs, targets, self._channels, self._share)
        # an output that nothing learned feeds has no gradient to take
        ends = [(y, slope) for y, slope in zip(outputs, slopes, strict=True) if y.requires_grad]
        torch.autograd.backward([y for y, _ in ends], [slope for _, slope in ends])
        return tuple(slopes)

    def _update(self) -> None:
        for parameter in (p for group in self._optimiser.param_groups for p in group["params"] if p.grad is not None):
            self._compute.team.add_up(parameter.grad)
        self._optimiser.step()

    def _forward(self, inputs: Sequence[Tensor], penalty: Penalty | None) -> tuple[Tensor, ...]:
        weights, names = self._weights, self._names
        rows = soft_weights(self._v, self._weight_steps(), self._rounding, penalty)
        soft = {w.name: from_rows(r, w.value.shape, w.axis) for w, r in zip(weights, rows, strict=True)}
        scales = dict(zip(names, self._activation_steps().unbind(), strict=True)) if names else {}
        fixed = self._fixed
        with self._compute.products():
            biases = [self._biases[k]() if k in self._biases else bias for k, bias in enumerate(fixed.biases)]
            return self._student(inputs, {**fixed.weights, **soft}, biases, {**fixed.scales, **scales})

    def _mixed(self, x: Tensor, x_q: Tensor) -> Tensor:
        """Return two stored tensors as one: x where a random mask is 1 and x_q where it is 0."""
        if x is x_q or not x.is_floating_point():
            return from_stored(x_q)
        low = self._compute.precision == "bf16" and x.dtype == torch.float32
        return from_stored(mix(x, x_q, self._mixing, torch.bfloat16 if low else x.dtype))

    @torch.no_grad()
    def learned(self, loss: tuple[float, float]) -> Learned:
        """Return the tensors as they are now, the soft bits made hard."""
        weights = self._weights
        hard = harden(self._v, self._rounding)
        scales = self._weight_steps().split([rows for rows, _ in self._rounding.shapes])
        final = self._activation_steps()
        return Learned(
            codes={w.name: from_rows(c, w.value.shape, w.axis).clone() for w, c in zip(weights, hard, strict=True)},
            scales={w.name: s.clone() for w, s in zip(weights, scales, strict=True)},
            zero_points={w.name: w.grid.zero_point for w in weights},
            activations={n: final[k].clone() for k, n in enumerate(self._names)},
            loss=loss,
            biases={self._student.biases[k].bias: bias().clone() for k, bias in self._biases.items()},
        )


def error_slopes(
    outputs: Sequence[Tensor], targets: Sequence[Tensor], channels: Sequence[int], share: Share = ALL
) -> list[Tensor]:
    """Return the gradient of `reconstruction_error` with respect to each output: 2 channels / size (output - target).

    The size is that of the whole batch, of which the outputs may be a `share`.
    Given to `backward` directly, so that the error itself is only computed when someone reads it.
    """
    return [
        scaled_difference(output, target, 2 * _channels(target, axis) / share.whole_of(target.numel()))
        for output, target, axis in zip(outputs, targets, channels, strict=True)
    ]


def reconstruction_error(slopes: Sequence[Tensor], channels: Sequence[int], share: Share = ALL) -> Tensor:
    """Return the squared error, summed over channels, averaged over the rest, added up over outputs, from its slopes.

    Of a `share` of the batch it is the part, that of all shares being the error of the batch.
    """
    parts = [
        slope.float().square().sum() * (share.whole_of(slope.numel()) / (4 * _channels(slope, axis)))
        for slope, axis in zip(slopes, channels, strict=True)
    ]
    return torch.stack(parts).sum()


def _channels(x: Tensor, axis: int) -> int:
    return x.shape[axis] if x.dim() > 1 else 1
