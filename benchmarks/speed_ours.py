"""This package's loops as the benchmarks run them: timed from outside, by what they tell of their progress.

The one place where speed*.py and cost.py touch the package.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import onnx
import torch
from torch import Tensor

from genie_onnx.config import DistillConfig, PlacementConfig, Precision, ReconstructConfig, Start
from genie_onnx.events import Notice, Step
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared, prepare
from genie_onnx.reconstruct import learned_blocks, reconstruct
from genie_onnx.synthesis import distill

SHORT = 16  # iterations of the run that is taken off on a GPU: in it kernels are chosen and the step is captured

Told = dict[str, list[tuple[int, Any]]]  # block (or batch) -> iteration and mark, as progress was told


class Clock:
    """Seconds between marks: of CPU time, all threads together, which a busy machine stretches less than time; or of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> Any:
        """Return this moment; on a GPU, the one when all that was asked of it by now is done."""
        if self.device.type != "cuda":
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Return the time between two marks."""
        if self.device.type != "cuda":
            return float(end - begin)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


def _iteration(clock: Clock, run: Callable[[int], Told], iterations: int) -> dict[str, float]:
    """Return the seconds of an iteration of each block: between the first and the last of a run.

    On a GPU the same of a short run is taken off, since the first iterations are other ones there.
    """
    told = run(iterations)
    spans = {name: clock.seconds(marks[0][1], marks[-1][1]) for name, marks in told.items()}
    if clock.device.type != "cuda":
        return {name: span / (iterations - 1) for name, span in spans.items()}
    short = run(SHORT)
    return {
        name: (span - clock.seconds(short[name][0][1], short[name][-1][1])) / (iterations - SHORT) for name, span in spans.items()
    }


def read(source: str | onnx.ModelProto) -> Prepared:
    """Return a model as the published loops quantise it: weights and inputs of layers, 4 bits."""
    return prepare(source, PlacementConfig(first_last_bits=4, points="layer-inputs"))


def random_images(prepared: Prepared, count: int) -> Tensor:
    """Return images, float32 [count, C, H, W], of mean 0 and deviation 1."""
    return torch.randn((count, *prepared.shape), generator=torch.Generator().manual_seed(0))


def reconstruction(
    prepared: Prepared, images: Tensor, iterations: int, device: torch.device, precision: Precision = "fp32"
) -> dict[str, float]:
    """Reconstruct all blocks; return the seconds of an iteration of each that learns."""
    clock = Clock(device)

    def run(count: int) -> Told:
        told: Told = defaultdict(list)

        def progress(event: Step | Notice) -> None:
            if isinstance(event, Step) and event.stage == "learn" and event.iteration:
                told[event.name].append((event.iteration, clock.mark()))

        whole_reconstruction(prepared, images, count, device, precision, progress)
        return told

    return _iteration(clock, run, iterations)


def whole_reconstruction(
    prepared: Prepared,
    images: Tensor,
    iterations: int,
    device: torch.device,
    precision: Precision = "fp32",
    progress: Callable[[Step | Notice], None] = lambda event: None,
) -> float:
    """Reconstruct all blocks with so many iterations each; return the seconds of all of it."""
    clock = Clock(device)
    begin = clock.mark()
    reconstruct(
        prepared.network,
        prepared.placement,
        prepared.blocks,
        images,
        ReconstructConfig(iterations=iterations),
        input_range=(-4.0, 4.0),
        headroom=1.0,
        seed=0,
        compute=Compute(device, precision),
        progress=progress,
        finished=lambda result: None,
    )
    return clock.seconds(begin, clock.mark())


def learned(prepared: Prepared) -> list[str]:
    """Return the names of the blocks that learn."""
    return learned_blocks(prepared.blocks, prepared.placement)


def distillation(
    prepared: Prepared,
    batch_size: int,
    iterations: int,
    device: torch.device,
    precision: Precision = "fp32",
    start: Start = "generator",
) -> float:
    """Distil one batch; return the seconds of an iteration."""
    channels = prepared.shape[0]

    def run(count: int) -> Told:
        told: Told = defaultdict(list)

        def progress(event: Step | Notice) -> None:
            if isinstance(event, Step) and event.stage == "images" and event.iteration:
                told["batch"].append((event.iteration, clock.mark()))

        distill(
            prepared.teacher,
            prepared.statistics,
            prepared.shape,
            batch_size,
            DistillConfig(iterations=count, batch_size=batch_size, start=start),
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            seed=0,
            compute=Compute(device, precision),
            progress=progress,
        )
        return told

    clock = Clock(device)
    return _iteration(clock, run, iterations)["batch"]
