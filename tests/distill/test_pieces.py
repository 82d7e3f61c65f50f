"""A batch in pieces: the loss and the gradient of the whole, whatever the pieces."""

from __future__ import annotations

import pytest
import torch
from small_bn_net import SHAPE, imported, small_bn_net
from torch import Tensor

from genie_onnx.compute import Compute
from genie_onnx.config import DistillConfig
from genie_onnx.distill.batch import Batch
from genie_onnx.distill.bn_loss import bn_loss, targets
from genie_onnx.distill.classes import WEIGHT, class_loss
from genie_onnx.distill.pieces import loss_in_pieces
from genie_onnx.distill.scaling import Scaling
from genie_onnx.distill.sources import source
from genie_onnx.distill.swing_conv import Shifts
from genie_onnx.distill.teacher import teacher

CPU = torch.device("cpu")


@pytest.mark.parametrize("pieces", [2, 3, 7, 9])
@pytest.mark.parametrize("classes", [False, True])
def test_loss_and_gradient_are_those_of_the_whole_batch(pieces: int, classes: bool) -> None:
    network, batchnorms = imported(small_bn_net())
    plain = teacher(network, batchnorms, shifts=None, device=CPU)
    stored = targets(batchnorms, CPU)
    images = torch.randn(7, *SHAPE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(7) % 2 if classes else None

    def scored(x: Tensor) -> list[Tensor]:
        values = plain(x)
        return [*values, values[-1].mean((2, 3))[:, :2]] if classes else values

    *values, scores = scored(images) if classes else [*plain(images), torch.empty(0)]
    expected = bn_loss(values, stored)
    sure = WEIGHT * class_loss(scores, labels) if labels is not None else torch.zeros(())
    (slope,) = torch.autograd.grad(expected + sure, images)

    bn, found_sure, gradient = loss_in_pieces(scored, images, stored, labels, pieces)
    assert bn.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found_sure.item() == pytest.approx(sure.item(), rel=1e-5)
    assert torch.allclose(gradient, slope, rtol=1e-3, atol=1e-6 * slope.abs().max().item())


def test_a_few_steps_in_pieces_make_the_same_images() -> None:
    """Swing convolutions included: all pieces of a step are shifted alike."""

    def images(pieces: int) -> Tensor:
        network, batchnorms = imported(small_bn_net())
        shifts = Shifts(torch.Generator().manual_seed(1))
        config = DistillConfig(start="leaves")
        run = Batch(
            teacher(network, batchnorms, shifts=shifts, device=CPU),
            targets(batchnorms, CPU),
            source(8, SHAPE, config, torch.Generator().manual_seed(0)),
            Scaling(torch.zeros(3), torch.ones(3), learn=True),
            config,
            Compute(CPU),
            shifts=shifts,
            pieces=pieces,
        )
        for _ in range(5):
            run.step()
        return run.images()

    whole, cut = images(1), images(3)
    assert (whole - cut).abs().median() < 1e-4
    assert (whole - images(1)).abs().max() == 0
