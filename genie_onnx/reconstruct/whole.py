"""The quantised network as one differentiable function of what the last pass moves: its codes stay, all around them is free.

    w_q = s_w (codes - zero point)         s_w = s_0 (1 + theta)
    x_q on the grid of s_a                 s_a = s_0 (1 + theta)
    b   = b_0 + u theta                    u the mean size of the bias

Numbers of a network differ by orders of magnitude, so each moves in units of its own size: one learning rate is right for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.importer import Network
from genie_onnx.machine.footprint import kept_for_backward
from genie_onnx.placement import Placement
from genie_onnx.qparams import QTensor
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import float32
from genie_onnx.reconstruct.learning_step import SMALLEST_RELATIVE_SCALE, Bias
from genie_onnx.reconstruct.student import build, initializer
from genie_onnx.targets import Constraints


class Scale:
    """Positive numbers s = s0 (1 + theta), never below a share of s0, so that none reaches zero; s0 where nothing `moves`."""

    def __init__(self, initial: Tensor, moves: bool) -> None:
        self.initial = initial
        self.theta = torch.zeros_like(initial, requires_grad=moves)

    def __call__(self) -> Tensor:
        """Return the numbers, differentiable in theta."""
        return self.initial * (1 + self.theta).clamp_min(SMALLEST_RELATIVE_SCALE)


class Whole:
    """All blocks in a row, at `codes` to begin with.

    The scales of weights, one a row or one a tensor as the codes have them, and the steps of values move where the target takes
    any; the step of the network's input does not, and zero points never do. Of biases those move that `codes` has.
    """

    def __init__(
        self,
        network: Network,
        placement: Placement,
        blocks: Sequence[Block],
        codes: Codes,
        constraints: Constraints,
        device: torch.device,
    ) -> None:
        self.inputs = network.inputs
        self._codes, self._device = codes, device
        zero_points = {name: int(grid.zero_point) for name, grid in codes.activations.items()}
        self._students = [build(network, block, placement, zero_points, None) for block in blocks]
        self._integers = {name: self._tensor(weight.centred()) for name, weight in codes.weights.items()}
        self._model = {b.bias: initializer(network, b.bias) for student in self._students for b in student.biases}
        image = placement.activation_of(network.inputs[0])
        still = None if image is None else image.name
        free = constraints.scales == "any"
        self._scales = {name: Scale(self._tensor(w.qparams.scale), free) for name, w in codes.weights.items()}
        self._steps = {name: Scale(self._tensor(grid.scale), free and name != still) for name, grid in codes.activations.items()}
        self._biases = {name: Bias(self._tensor(codes.biases[name])) for name in self._model if name in codes.biases}

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return what the blocks hand on for `images` [N, C, H, W], by value, differentiable in the parameters."""
        weights = {
            name: self._integers[name] * _along(scale(), self._codes.weights[name]) for name, scale in self._scales.items()
        }
        steps = {name: step() for name, step in self._steps.items()}
        biases = {**self._model, **{name: bias() for name, bias in self._biases.items()}}
        values = {self.inputs[0]: images}
        for student in self._students:
            made = student([values[v] for v in student.inputs], weights, [biases[b.bias] for b in student.biases], steps)
            values.update(zip(student.outputs, made, strict=True))
        return values

    @property
    def parameters(self) -> list[Tensor]:
        """What can be learned, the same order in every process."""
        groups = (self._scales, self._steps, self._biases)
        thetas: list[Tensor] = [moving.theta for group in groups for moving in group.values()]
        return [theta for theta in thetas if theta.requires_grad]

    @torch.no_grad()
    def codes(self) -> Codes | None:
        """Return the codes with everything where it is now; None where something is not finite."""
        if not all(bool(theta.isfinite().all()) for theta in self.parameters):
            return None
        moved = Codes(biases={name: float32(bias()) for name, bias in self._biases.items()})
        for name, scale in self._scales.items():
            weight = self._codes.weights[name]
            moved.weights[name] = replace(weight, qparams=replace(weight.qparams, scale=float32(scale())))
        for name, step in self._steps.items():
            moved.activations[name] = replace(self._codes.activations[name], scale=float32(step()))
        return self._codes.merged(moved)

    def _tensor(self, array: object) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self._device)


def image_bytes(whole: Whole, image: Tensor) -> int:
    """Return the bytes that an `image` [1, C, H, W] adds to a backward pass, >= 1; what weights take is in it once."""
    return max(1, sum(kept_for_backward(lambda: whole(image)).values()))


def _along(scale: Tensor, weight: QTensor) -> Tensor:
    """Return `scale` ([] or [C]) shaped to broadcast against `weight`."""
    axis = weight.qparams.axis
    return scale if axis is None else scale.view([-1 if k == axis else 1 for k in range(weight.codes.ndim)])
