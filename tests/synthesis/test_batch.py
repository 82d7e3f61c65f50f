"""One batch: which learning rate drives what, and the ablations."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from small_bn_net import SHAPE, imported, small_bn_net

from genie_onnx.config import DistillConfig
from genie_onnx.machine.compute import Compute
from genie_onnx.synthesis.batch import Batch
from genie_onnx.synthesis.bn_loss import targets
from genie_onnx.synthesis.scaling import Scaling
from genie_onnx.synthesis.starts import Leaves, Noise, Source, source
from genie_onnx.synthesis.teacher import teacher

CPU = torch.device("cpu")


def batch(images_of: Source, config: DistillConfig, *, learn: bool = False) -> Batch:
    network, batchnorms = imported(small_bn_net())
    scaling = Scaling(torch.zeros(3), torch.ones(3), learn=learn)
    teach = teacher(network, batchnorms, shifts=None, device=CPU)
    return Batch(teach, targets(batchnorms, CPU), images_of, scaling, config, Compute(CPU))


def moved(images_of: torch.nn.Module, run: Batch) -> dict[str, float]:
    """How far the parameters go in one step, the median of each: with Adam, the first step is the learning rate."""
    before = {name: p.detach().clone() for name, p in images_of.named_parameters()}
    run.step()
    return {name: (p.detach() - before[name]).abs().median().item() for name, p in images_of.named_parameters()}


def test_z_learns_at_a_tenth_and_the_generator_at_a_hundredth() -> None:
    config = DistillConfig()
    images_of = source(8, SHAPE, config, torch.Generator().manual_seed(0))
    steps = moved(images_of, batch(images_of, config))
    assert steps.pop("z") == pytest.approx(0.1, rel=1e-3)
    del steps["generator.linear_bias"], steps["generator.conv1_bias"]  # a BN follows: their gradient is rounding error
    assert steps == pytest.approx(dict.fromkeys(steps, 0.01), rel=1e-2)


def test_generator_rate_decays_by_a_twentieth_every_100_steps() -> None:
    config = DistillConfig(latent_size=4)
    images_of = source(2, SHAPE, config, torch.Generator().manual_seed(0))
    run = batch(images_of, config)
    rates = []
    for _ in range(200):
        run.step()
        rates.append(run.weight_rate)
    assert rates[98] == pytest.approx(0.01)
    assert rates[99] == rates[198] == pytest.approx(0.0095)
    assert rates[199] == pytest.approx(0.01 * 0.95**2)


def test_a_batch_is_gone_with_its_last_use() -> None:
    """Without the garbage collector, which does not know how much memory of a GPU a captured step holds."""
    config = DistillConfig(start="noise")
    run = batch(source(2, SHAPE, config, torch.Generator().manual_seed(0)), config)
    run.step()
    alive = weakref.ref(run)
    gc.disable()
    try:
        del run
        assert alive() is None
    finally:
        gc.enable()


def test_pixels_learn_at_the_rate_of_z() -> None:
    config = DistillConfig(start="noise")
    images_of = source(8, SHAPE, config, torch.Generator().manual_seed(0))
    assert isinstance(images_of, Noise)
    assert moved(images_of, batch(images_of, config)) == {"u": pytest.approx(0.1, rel=1e-2)}


def test_dead_leaves_learn_at_a_rate_of_their_own() -> None:
    config = DistillConfig(start="leaves")
    images_of = source(8, SHAPE, config, torch.Generator().manual_seed(0))
    assert isinstance(images_of, Leaves)
    assert moved(images_of, batch(images_of, config)) == {"u": pytest.approx(0.02, rel=1e-2)}


def test_the_network_sees_dead_leaves_shifted_unless_nothing_swings() -> None:
    generator = torch.Generator().manual_seed(0)
    swinging, still = (source(2, SHAPE, DistillConfig(start="leaves", swing=swing), generator) for swing in (True, False))
    assert swinging.swings
    assert not still.swings
    assert not source(2, SHAPE, DistillConfig(), generator).swings  # what a generator makes has no pixels of its own


def test_fixed_z_stays_and_the_generator_learns() -> None:
    config = DistillConfig(train_latent=False)
    images_of = source(8, SHAPE, config, torch.Generator().manual_seed(0))
    steps = moved(images_of, batch(images_of, config))
    assert steps["z"] == 0
    assert steps["generator.linear_weight"] == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("learn", [False, True])
def test_scaling_learns_only_if_asked(learn: bool) -> None:
    config = DistillConfig()
    scaling = Scaling(torch.zeros(3), torch.ones(3), learn=learn)
    network, batchnorms = imported(small_bn_net())
    images_of = source(8, SHAPE, config, torch.Generator().manual_seed(0))
    teach = teacher(network, batchnorms, shifts=None, device=CPU)
    run = Batch(teach, targets(batchnorms, CPU), images_of, scaling, config, Compute(CPU))
    run.step()
    assert bool(scaling.offset.any()) == bool(scaling.log_gain.any()) == learn
