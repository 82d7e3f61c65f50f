"""The steps that a GPU replays as a graph: a replay does what a call does, state, rates and random numbers included."""

from __future__ import annotations

import pytest
import torch
from recording import Recorded
from small_bn_net import SHAPE, imported, small_bn_net
from torch import Tensor, nn

from genie_onnx.config import DistillConfig, ReconstructConfig, Start
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.team import Team
from genie_onnx.quant import MaskSource, fake_quant, fake_quantize, mix, scaled_difference, weight_grid
from genie_onnx.reconstruct.learning_step import Fixed, Learner, Weight
from genie_onnx.reconstruct.student import Student
from genie_onnx.synthesis.batch import Batch
from genie_onnx.synthesis.bn_loss import targets
from genie_onnx.synthesis.plateau import PlateauRate
from genie_onnx.synthesis.scaling import Scaling
from genie_onnx.synthesis.starts import source
from genie_onnx.synthesis.swing_conv import Shifts
from genie_onnx.synthesis.teacher import teacher

CPU = torch.device("cpu")


class Replaying(Compute):
    """A device whose steps are recorded and replayed."""

    def repeated(self, step, generators=()):  # type: ignore[no-untyped-def]
        return Recorded(step)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("start", ["generator", "leaves", "noise"])
def test_distillation(start: Start, pieces: int) -> None:
    def images(compute: Compute) -> Tensor:
        network, batchnorms = imported(small_bn_net())
        config, shifts = DistillConfig(start=start, latent_size=8), Shifts(torch.Generator().manual_seed(1), on_device=True)
        run = Batch(
            teacher(network, batchnorms, shifts=shifts, device=CPU),
            targets(batchnorms, CPU),
            source(8, SHAPE, config, torch.Generator().manual_seed(0)),
            Scaling(torch.zeros(3), torch.ones(3), learn=True),
            config,
            compute,
            shifts=shifts,
            pieces=pieces,
        )
        for _ in range(8):
            run.step()
        return run.images()

    replayed, called = images(Replaying(CPU)), images(Compute(CPU))
    assert torch.allclose(replayed, called, atol=1e-4)


def test_the_plateau_is_seen_in_replays() -> None:
    rates = [PlateauRate(0.1, device=CPU, patience=3) for _ in range(2)]
    called, replayed = rates[0].step, Recorded(rates[1].step)
    for loss in (3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 1.0):
        called(torch.tensor(loss))
        replayed(torch.tensor(loss))
    assert rates[0].rate.item() == rates[1].rate.item() == pytest.approx(0.01)


class Asked(Team):
    """Two processes, of which the other one has nothing to add."""

    size = 2

    def __init__(self) -> None:
        self.times = 0

    def add_up(self, tensor: Tensor) -> Tensor:
        """See Team."""
        self.times += 1
        return tensor


@pytest.mark.parametrize("kind", [Team, Asked])
@pytest.mark.parametrize("penalised", [False, True])
def test_reconstruction(penalised: bool, kind: type[Team], monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the operators that a GPU runs, with rates and beta changing from step to step. What a team adds up is no replay."""
    monkeypatch.setattr(fake_quant, "_compiled", lambda x: False)
    samples = torch.randn(3, 6, 16, 10, generator=torch.Generator().manual_seed(0))  # x, x_q, and what y is made of: 6 batches

    class Block(nn.Module):
        def __init__(self, masks: MaskSource) -> None:
            super().__init__()
            self.masks = masks

        def forward(self, x: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor]:
            return (fake_quantize(x, scale, 8, 15, self.masks.draw(x.numel())) @ weight.t(),)

    def codes(compute: Compute) -> list[Tensor]:
        random = torch.Generator().manual_seed(3)
        student = Student(Block(MaskSource(0.5, random)), ("x",), ("y",), ("w",), (), ("s",))  # type: ignore[arg-type]
        value = torch.randn(7, 10, generator=torch.Generator().manual_seed(2))
        weights = [Weight("w", value, 0, 3, weight_grid(value, 3))]
        config = ReconstructConfig()
        learner = Learner(student, weights, Fixed({}, [], {}), {"s": torch.tensor(0.3)}, (1,), config, compute, random)
        step = learner.steps(penalised)
        for k, (x, x_q, y) in enumerate(samples.unbind(1), start=1):
            learner.rates.copy_(torch.tensor([0.1 / k, 0.01 * k, 0.02, 20.0 / k, 0.0]))
            step(x, x_q, y @ value.t())
        learned = learner.learned((0.0, 0.0))
        return [*learned.codes.values(), *learned.scales.values(), *learned.activations.values()]

    team = kind()
    replayed, called = codes(Replaying(CPU, team=team)), codes(Compute(CPU, team=team))
    assert not isinstance(team, Asked) or team.times == 2 * 6 * 3  # three parameters
    assert all(torch.allclose(a.float(), b.float(), rtol=1e-5) for a, b in zip(replayed, called, strict=True))


def test_what_a_gpu_runs_computes_what_the_compiled_loops_do(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3, 5, 9, 9, generator=random).to(memory_format=torch.channels_last) for _ in range(2))
    bits = MaskSource(0.5, random).draw(x.numel())
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(fake_quant, "_compiled", lambda x, compiled=compiled: compiled)
        own, scale = x.clone().requires_grad_(), torch.tensor(0.2, requires_grad=True)
        rounded = fake_quantize(own, scale, 3, 15, bits)
        slopes = torch.autograd.grad(rounded, (own, scale), y)
        mixed = mix(x, y, MaskSource(0.5, torch.Generator().manual_seed(1)), x.dtype)
        found.append([rounded.detach(), *slopes, mixed, scaled_difference(x, y, 0.5)])
    assert all(torch.allclose(a, b, rtol=1e-4) for a, b in zip(*found, strict=True))
    assert torch.equal(found[0][0], found[1][0])
