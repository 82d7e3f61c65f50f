"""How long a step of distillation takes on this machine: a few steps of the real loop, on a few images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from genie_onnx.config import DistillConfig
from genie_onnx.events import Notice, Step
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.stopwatch import measured, seconds_a_step, seconds_once
from genie_onnx.synthesis.bn_loss import BatchNormStatistics
from genie_onnx.synthesis.distill import distill
from genie_onnx.synthesis.starts import source

GENERATED = 64 * 64  # pixels of the images that the generator is timed with: its work is in proportion to them


def step_seconds(
    network: Network,
    statistics: Sequence[BatchNormStatistics],
    shape: tuple[int, int, int],
    config: DistillConfig,
    compute: Compute,
    budget: float,
    pieces: int = 1,
) -> float:
    """Return the seconds of an optimiser step on a batch of `config.batch_size`, measured within about `budget` seconds.

    network, statistics, shape: as for `distill`. pieces: in how many the whole batch goes through the network; a smaller one in
    as many fewer. The weights of the network may be moved and changed as they are there.
    """

    def measure(batch: int) -> float:
        def run(steps: int) -> float:
            told: list[float] = []

            def tell(event: Step | Notice) -> None:
                if isinstance(event, Step) and event.iteration:
                    told.append(time.perf_counter())

            distill(
                network,
                statistics,
                shape,
                batch,
                replace(config, start="noise", iterations=steps),
                mean=(0.0,) * shape[0],
                std=(1.0,) * shape[0],
                seed=0,
                compute=compute,
                progress=tell,
                pieces=-(-pieces * batch // config.batch_size),
            )
            return told[-1] - told[0]

        return seconds_a_step(run, compute)

    seconds = measured(measure, 2, config.batch_size, budget).at(config.batch_size)
    return seconds + _generator_seconds(shape, config, compute.device, budget) if config.start == "generator" else seconds


def _generator_seconds(shape: tuple[int, int, int], config: DistillConfig, device: torch.device, budget: float) -> float:
    """Return the seconds that the generator, its gradient and its optimiser add to a step."""
    channels, height, width = shape
    smaller = min(1.0, (GENERATED / (height * width)) ** 0.5)
    small = (channels, max(4, round(height * smaller)), max(4, round(width * smaller)))

    def measure(batch: int) -> float:
        images = source(batch, small, config, torch.Generator().manual_seed(0)).to(device)
        optimiser = torch.optim.Adam(images.parameters(), fused=True)

        def step() -> None:
            images().square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()

        step()
        return seconds_once(step, device)

    seconds = measured(measure, 2, config.batch_size, budget).at(config.batch_size)
    return seconds * height * width / (small[1] * small[2])
