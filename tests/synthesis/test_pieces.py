"""A batch in pieces: the loss and the gradient of the whole, whatever the pieces."""

from __future__ import annotations

import pytest
import torch
from small_bn_net import SHAPE, imported, small_bn_net
from torch import Tensor

from genie_onnx.config import DistillConfig
from genie_onnx.events import Notice, Step
from genie_onnx.machine.compute import Compute
from genie_onnx.synthesis.batch import Batch
from genie_onnx.synthesis.bn_loss import bn_loss, targets
from genie_onnx.synthesis.classes import WEIGHT, class_loss
from genie_onnx.synthesis.distill import distill
from genie_onnx.synthesis.pieces import loss_in_pieces
from genie_onnx.synthesis.scaling import Scaling
from genie_onnx.synthesis.starts import source
from genie_onnx.synthesis.swing_conv import Shifts
from genie_onnx.synthesis.teacher import teacher

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


@pytest.mark.parametrize("times", [1, 2])
def test_a_batch_that_does_not_fit_is_made_in_pieces(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: the images are those of a machine with more memory, and the user is told. The second error passes."""
    network, batchnorms = imported(small_bn_net())
    config = DistillConfig(iterations=3, batch_size=6, start="leaves")

    def images(told: list[Step | Notice]) -> Tensor:
        unit = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
        return distill(network, batchnorms, SHAPE, 12, config, **unit, seed=0, compute=Compute(CPU), progress=told.append)

    expected = images([])
    failures = iter([True] * times)
    step = Batch.step

    def failing(run: Batch) -> tuple[Tensor, Tensor]:
        if next(failures, False):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return step(run)

    monkeypatch.setattr(Batch, "step", failing)
    told: list[Step | Notice] = []
    if times > 1:
        with pytest.raises(RuntimeError, match="can't allocate"):
            images(told)
        return
    assert (images(told) - expected).abs().median() < 1e-4
    assert ["2 pieces" in event.text for event in told if isinstance(event, Notice)] == [True]
