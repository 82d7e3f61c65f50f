"""The loop over batches: what the images are for, how many there are, that they can be made again, what is refused."""

from __future__ import annotations

import pytest
import torch
from small_bn_net import SHAPE, imported, small_bn_net
from torch import Tensor

from genie_onnx.config import DistillConfig, Start
from genie_onnx.errors import ModelError, RunError
from genie_onnx.events import Step
from genie_onnx.graph import BatchNorm
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.synthesis import batch_sizes, distill
from genie_onnx.synthesis.bn_loss import bn_loss, targets
from genie_onnx.synthesis.teacher import teacher

CPU = torch.device("cpu")
UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def run(
    samples: int,
    config: DistillConfig,
    *,
    net: tuple[Network, tuple[BatchNorm, ...]] | None = None,
    statistics: dict[str, tuple[float, ...] | None] = UNIT,
    seed: int = 0,
    done: dict[int, Tensor] | None = None,
) -> tuple[Tensor, list[Step], dict[int, Tensor]]:
    """Distil from the small network; return the images, what was reported, and the batches as they were finished."""
    network, batchnorms = net or imported(small_bn_net())
    reports: list[Step] = []
    batches: dict[int, Tensor] = {}
    images = distill(
        network,
        batchnorms,
        SHAPE,
        samples,
        config,
        seed=seed,
        compute=Compute(CPU),
        progress=reports.append,
        finished=batches.__setitem__,
        done=done,
        **statistics,
    )
    return images, [report for report in reports if report.iteration], batches


def loss_of(images: Tensor) -> float:
    """Eq. 5 of `images` with the small network as it is, no swing."""
    network, batchnorms = imported(small_bn_net())
    with torch.no_grad():
        return bn_loss(teacher(network, batchnorms, shifts=None, device=CPU)(images), targets(batchnorms, CPU)).item()


def test_images_have_the_statistics_that_noise_has_not() -> None:
    images, reports, _ = run(32, DistillConfig(iterations=120, batch_size=32))
    assert reports[-1].loss < 0.1 * reports[0].loss, (reports[0], reports[-1])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    assert loss_of(images) < 0.1 * loss_of(noise)
    std, mean = torch.std_mean(images, (0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), rtol=0, atol=0.05)
    torch.testing.assert_close(std, torch.ones(3), rtol=0, atol=0.05)


def test_dead_leaves_begin_nearer_and_get_there_sooner() -> None:
    leaves, of_leaves, _ = run(32, DistillConfig(iterations=40, batch_size=32, start="leaves"))
    _, of_generator, _ = run(32, DistillConfig(iterations=40, batch_size=32))
    assert of_leaves[0].loss < 0.3 * of_generator[0].loss
    assert of_leaves[-1].loss < min(0.3 * of_generator[-1].loss, 0.7 * of_leaves[0].loss)
    std, mean = torch.std_mean(leaves, (0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), rtol=0, atol=0.1)
    torch.testing.assert_close(std, torch.ones(3), rtol=0, atol=0.1)
    brightness = leaves.mean((1, 2, 3))
    assert brightness.std() > 0.1, "images differ in brightness, as photographs do; those of the generator do not"


@pytest.mark.parametrize(
    "config",
    [
        DistillConfig(iterations=80, batch_size=16, swing=False),
        DistillConfig(iterations=80, batch_size=16, start="noise"),
        DistillConfig(iterations=80, batch_size=16, train_latent=False),
    ],
    ids=["no swing", "pixels", "fixed z"],
)
def test_ablations_learn_too(config: DistillConfig) -> None:
    _, reports, _ = run(16, config)
    assert reports[-1].loss < 0.3 * reports[0].loss


def test_the_latent_is_worth_learning() -> None:
    """With fixed z the loss ends higher (the paper's Table 2, M4 against M5)."""
    learned, fixed = (
        run(16, DistillConfig(iterations=80, batch_size=16, swing=False, train_latent=learn))[1][-1].loss
        for learn in (True, False)
    )
    assert learned < fixed


@pytest.mark.parametrize(
    ("samples", "batch_size", "sizes"),
    [(128, 128, (128,)), (130, 128, (65, 65)), (1000, 128, (125,) * 8), (5, 2, (2, 2, 1)), (1, 128, (1,)), (3, 4, (3,))],
    ids=str,
)
def test_batches_are_even_and_few(samples: int, batch_size: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(samples, batch_size) == sizes


@pytest.mark.parametrize("samples", [1, 5, 6, 9])
def test_exactly_as_many_images_as_asked(samples: int) -> None:
    images, _, batches = run(samples, DistillConfig(iterations=1, batch_size=4))
    assert images.shape == (samples, *SHAPE)
    assert images.dtype == torch.float32
    assert torch.equal(torch.cat([batches[index] for index in range(len(batches))]), images)


def test_same_seed_same_images_and_batches_are_independent() -> None:
    config = DistillConfig(iterations=3, batch_size=4)
    images, _, _ = run(8, config)
    assert torch.equal(run(8, config)[0], images)
    assert not torch.equal(run(8, config, seed=1)[0], images)
    assert not torch.equal(images[:4], images[4:])
    placeholder = torch.zeros(4, *SHAPE)
    resumed, reports, batches = run(8, config, done={0: placeholder})
    assert torch.equal(resumed, torch.cat([placeholder, images[4:]]))
    assert {report.index for report in reports} == set(batches) == {1}


def test_global_random_state_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    run(4, DistillConfig(iterations=2, batch_size=4))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_progress() -> None:
    _, reports, _ = run(6, DistillConfig(iterations=5, batch_size=3))
    ends = [(r.index, r.count, r.iteration, r.iterations) for r in reports if r.iteration in (1, 5)]
    assert ends == [(0, 2, 1, 5), (0, 2, 5, 5), (1, 2, 1, 5), (1, 2, 5, 5)]
    assert all(r.stage == "images" and r.loss is not None and r.loss > 0 for r in reports)


@pytest.mark.parametrize("start", ["leaves", "generator"])
def test_unknown_raw_input_range_is_found(start: Start) -> None:
    mean, std = (120.0, 110.0, 100.0), (60.0, 65.0, 70.0)
    net = imported(small_bn_net(mean, std))
    config = DistillConfig(iterations=100, batch_size=16, start=start)
    images, reports, _ = run(16, config, net=net, statistics={"mean": None, "std": None})
    losses = [report.loss for report in reports if report.stage == "images"]
    assert losses[-1] < 0.4 * losses[0]
    for channel in range(3):
        assert images[:, channel].mean().item() == pytest.approx(mean[channel], abs=0.25 * std[channel])
        assert images[:, channel].std().item() == pytest.approx(std[channel], rel=0.4)


def test_known_input_statistics_are_kept() -> None:
    mean, std = (120.0, 110.0, 100.0), (60.0, 65.0, 70.0)
    images, _, _ = run(
        16,
        DistillConfig(iterations=10, batch_size=16),
        net=imported(small_bn_net(mean, std)),
        statistics={"mean": mean, "std": std},
    )
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.tensor(mean), rtol=1e-2, atol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.tensor(std), rtol=1e-2, atol=0)


def test_network_and_its_weights_are_left_alone() -> None:
    network, batchnorms = imported(small_bn_net())
    before = {name: p.clone() for name, p in network.module.named_parameters()}
    run(4, DistillConfig(iterations=2, batch_size=4), net=(network, batchnorms))
    for name, parameter in network.module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None
        assert not parameter.requires_grad


def test_no_statistics_is_refused() -> None:
    network, batchnorms = imported(small_bn_net())
    fresh = tuple(BatchNorm(b.node, b.value, 0 * b.mean, 0 * b.std + 1, measured=False) for b in batchnorms)
    for useless in ((), fresh):
        with pytest.raises(ModelError, match="no BatchNormalization statistics"):
            run(4, DistillConfig(iterations=1), net=(network, useless))


def test_loss_that_is_not_finite_stops_the_run() -> None:
    network, batchnorms = imported(small_bn_net())
    impossible = tuple(BatchNorm(b.node, b.value, b.mean * float("inf"), b.std) for b in batchnorms)
    with pytest.raises(RunError, match="not finite"):
        run(4, DistillConfig(iterations=3, batch_size=4), net=(network, impossible))


def test_nothing_behind_the_last_statistics_runs() -> None:
    network, batchnorms = imported(small_bn_net())
    teach = teacher(network, batchnorms, shifts=None, device=CPU)
    operators = [node.target.rpartition("_")[2] for node in teach.module.graph.nodes if node.op == "call_module"]
    assert operators == ["Conv", "BatchNormalization", "Relu", "Conv"]


def test_denormal_weights_are_zero_in_the_teacher() -> None:
    network, batchnorms = imported(small_bn_net())
    with torch.no_grad():
        next(p for p in network.module.parameters() if p.dim() == 4)[0] = 1e-41
    teach = teacher(network, batchnorms, shifts=None, device=CPU)
    assert not any(((p != 0) & (p.abs() < 1e-37)).any() for p in teach.module.parameters())
