"""Distillation from a published network."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from small_bn_net import imported

from genie_onnx.config import DistillConfig
from genie_onnx.events import Step
from genie_onnx.synthesis import distill
from genie_onnx.synthesis.bn_loss import bn_loss, targets
from genie_onnx.synthesis.teacher import teacher


@pytest.mark.slow
def test_resnet20_ends_below_a_tenth_and_far_below_noise(bench: Path) -> None:
    """Batches of 128 go from 20.8 to 0.36 in 180 steps; 32 images in 60 steps do most of it."""
    network, batchnorms = imported(onnx.load(bench / "cifar" / "resnet20_bn.onnx"))
    cpu, reports = torch.device("cpu"), list[Step]()
    images = distill(
        network,
        batchnorms,
        (3, 32, 32),
        32,
        DistillConfig(iterations=60, batch_size=32),
        mean=(0, 0, 0),
        std=(1, 1, 1),
        seed=0,
        device=cpu,
        progress=reports.append,
    )
    assert reports[-1].loss < 0.1 * reports[1].loss  # the first one only says that the batch begins
    plain, stored = teacher(network, batchnorms, shifts=None, device=cpu), targets(batchnorms, cpu)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert bn_loss(plain(images), stored) < 0.05 * bn_loss(plain(noise), stored)
