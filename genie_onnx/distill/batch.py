"""One batch of images while it is optimised (paper, Algorithm 1, lines 3-8): a step of Adam on z and G at a time.

    x = scale(u),  u = G(z);      L = bn_loss(teacher(x)) + input_loss(u)  (+ WEIGHT class_loss(teacher(x)), where wanted)

z learns at `latent_lr`, reduced when the loss stops falling; G at `generator_lr`, times 0.95 every 100 steps. Pixels that
are optimised themselves learn as z does, those that began as dead leaves at `pixel_lr`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genie_onnx.config import DistillConfig
from genie_onnx.distill import classes
from genie_onnx.distill.bn_loss import Targets, bn_loss
from genie_onnx.distill.plateau import PlateauRate
from genie_onnx.distill.scaling import Scaling
from genie_onnx.distill.sources import Source
from genie_onnx.distill.teacher import Teacher, place

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
        labels: Tensor | None = None,
    ) -> None:
        """`labels` int64 [N]: the class that each image is to have, for a teacher that gives class scores."""
        device = stored.mean.device
        self._labels = None if labels is None else labels.to(device)
        self._teacher, self._stored = teacher, stored
        self._source, self._scaling = source, scaling
        for module in (source, scaling):
            place(module, device)
        self._latent_rate = PlateauRate(source.rate, device=device)
        latents = {"params": source.latents(), "lr": self._latent_rate.rate}
        weights = {"params": source.weights() + scaling.weights(), "lr": config.generator_lr}
        self._optimiser = torch.optim.Adam([latents, weights], fused=True)
        self._steps = 0

    @property
    def weight_rate(self) -> float:
        """The learning rate at which the next step moves the weights of G."""
        return float(self._optimiser.param_groups[1]["lr"])

    def step(self) -> tuple[Tensor, Tensor]:
        """Make one step; return Eq. 5 and the whole loss before it, two scalar tensors that are still on the device."""
        self._optimiser.zero_grad()
        u = self._source()
        values = self._teacher(self._scaling(self._source.shown(u)))
        loss = self._source.loss(u)
        if self._labels is not None:
            *values, scores = values
            loss = loss + classes.WEIGHT * classes.class_loss(scores, self._labels)
        bn = bn_loss(values, self._stored)
        loss = bn + loss
        loss.backward()
        self._optimiser.step()
        bn, loss = bn.detach(), loss.detach()
        self._latent_rate.step(loss)
        self._steps += 1
        if self._steps % DECAY_EVERY == 0:
            self._optimiser.param_groups[1]["lr"] *= DECAY
        return bn, loss

    @torch.no_grad()
    def images(self) -> Tensor:
        """Return the images as they are now, float32 [N, C, H, W], in the units that the model reads."""
        images: Tensor = self._scaling(self._source())
        return images.contiguous()
