"""One batch of images while it is optimised (paper, Algorithm 1, lines 3-8): a step of Adam on z and G at a time.

    x = scale(u),  u = G(z);      L = bn_loss(teacher(x)) + input_loss(u)  (+ WEIGHT class_loss(teacher(x)), where wanted)

z learns at `latent_lr`, reduced when the loss stops falling; G at `generator_lr`, times 0.95 every 100 steps. Pixels that
are optimised themselves learn as z does, those that began as dead leaves at `pixel_lr`.

A step never waits for the device, rates included, so that a GPU replays it as a graph.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from genie_onnx.config import DistillConfig
from genie_onnx.machine.compute import Compute
from genie_onnx.synthesis.bn_loss import Targets, bn_loss
from genie_onnx.synthesis.classes import WEIGHT, class_loss
from genie_onnx.synthesis.pieces import loss_in_pieces
from genie_onnx.synthesis.plateau import PlateauRate
from genie_onnx.synthesis.scaling import Scaling
from genie_onnx.synthesis.starts import Source
from genie_onnx.synthesis.swing_conv import Shifts
from genie_onnx.synthesis.teacher import Teacher, place

DECAY, DECAY_EVERY = 0.95, 100  # of the generator's learning rate; the published setting


class Batch:
    """What is optimised, with its optimiser; source and scaling are moved to the device of `stored`."""

    def __init__(
        self,
        teacher: Teacher,
        stored: Targets,
        source: Source,
        scaling: Scaling,
        config: DistillConfig,
        compute: Compute,
        *,
        shifts: Shifts | None = None,
        labels: Tensor | None = None,
        pieces: int = 1,
    ) -> None:
        """shifts: those of `teacher`. labels int64 [N]: the class that each image is to have, for a teacher that gives class
        scores. pieces: in how many the batch goes through the teacher; it takes that much less memory, and is the same batch.
        """
        device = stored.mean.device
        self._labels = None if labels is None else labels.to(device)
        self._teacher, self._stored, self._compute, self._pieces = teacher, stored, compute, pieces
        self._source, self._scaling, self._shifts = source, scaling, shifts
        self._place = shifts.place() if shifts is not None and source.swings else None
        for module in (source, scaling):
            place(module, device)
        self._latent_rate = PlateauRate(source.rate, device=device)
        self._weight_rate = torch.tensor(config.generator_lr, device=device)
        groups = [
            {"params": source.latents(), "lr": self._latent_rate.rate},
            {"params": source.weights() + scaling.weights(), "lr": self._weight_rate},
        ]
        self._optimiser = torch.optim.Adam(groups, fused=True, capturable=device.type == "cuda")
        self._steps = 0
        # Weakly: in a cycle the batch, with its captured step and all the memory of that, would outlive its use.
        weak = weakref.proxy(self)
        self._repeated = compute.repeated(lambda: weak._step(), [shifts.generator] if shifts is not None else [])

    @property
    def weight_rate(self) -> float:
        """The learning rate at which the next step moves the weights of G."""
        return self._weight_rate.item()

    def step(self) -> tuple[Tensor, Tensor]:
        """Make one step; return Eq. 5 and the whole loss before it, two scalar tensors that are still on the device.

        They are overwritten by the next step.
        """
        losses = self._repeated()
        self._steps += 1
        if self._steps % DECAY_EVERY == 0:
            self._weight_rate.mul_(DECAY)
        return losses

    def _step(self) -> tuple[Tensor, Tensor]:
        self._optimiser.zero_grad()
        if self._shifts is not None:
            self._shifts.draw()
        u = self._source()
        shown = u if self._place is None or self._shifts is None else self._shifts.shifted(u, self._place)
        bn, rest = self._backward(self._scaling(shown), self._source.loss(u))
        self._optimiser.step()
        loss = bn + rest
        self._latent_rate.step(loss)
        return bn, loss

    def _backward(self, images: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradients of everything; return Eq. 5 and the rest of the loss."""
        if self._pieces > 1:
            with self._compute.products():
                bn, sure, gradient = loss_in_pieces(self._teacher, images, self._stored, self._labels, self._pieces)
            torch.autograd.backward([images, loss], [gradient, torch.ones_like(loss)])
            return bn, (loss + sure).detach()
        with self._compute.products():
            values = self._teacher(images)
        if self._labels is not None:
            *values, scores = values
            loss = loss + WEIGHT * class_loss(scores.float(), self._labels)
        bn = bn_loss(values, self._stored)
        (bn + loss).backward()
        return bn.detach(), loss.detach()

    @torch.no_grad()
    def images(self) -> Tensor:
        """Return the images as they are now, float32 [N, C, H, W], in the units that the model reads."""
        images: Tensor = self._scaling(self._source())
        # One channel is contiguous with channels last as well. Sums depend on that, and a run that goes on reads the other order.
        return images.contiguous().flatten().view(images.shape)
