"""How much faster one distillation iteration is than the plain transcription in baseline_distill.py, in one process.

    python benchmarks/speed_distill.py MODEL.onnx --shape 3,32,32

The two take turns, an iteration each, so that what else runs on the machine meets both; the figure is the ratio of their
medians of CPU seconds (all threads), which a busy machine stretches less than wall clock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from baseline_distill import baseline

from genie_onnx import graph, seeds
from genie_onnx.config import DistillConfig
from genie_onnx.distill.batch import Batch
from genie_onnx.distill.bn_loss import targets
from genie_onnx.distill.scaling import Scaling
from genie_onnx.distill.sources import source
from genie_onnx.distill.teacher import teacher
from genie_onnx.importer import import_graph


@dataclass(frozen=True)
class DistillSpeed:
    """Median seconds of an iteration."""

    ours: float
    plain: float

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.plain / self.ours


def _seconds(step: Callable[[], object]) -> float:
    began = time.process_time()
    step()
    return time.process_time() - began


def measure(path: Path, shape: tuple[int, int, int], batch_size: int = 128, rounds: int = 7) -> DistillSpeed:
    """Return the seconds of one iteration of either loop on the model at `path`, the median of `rounds` after two to warm up."""
    model = graph.normalise(graph.load(path))
    network, batchnorms = import_graph(model), graph.batchnorms(model)
    config, device = DistillConfig(batch_size=batch_size), torch.device("cpu")
    generator = seeds.stream(0, "distill/batch0")
    ours = Batch(
        teacher(network, batchnorms, swing=generator, device=device),
        targets(batchnorms, device),
        source(batch_size, shape, config, generator),
        Scaling(torch.zeros(shape[0]), torch.ones(shape[0]), learn=False),
        config,
    )
    plain = baseline(network, batchnorms, shape, batch_size)
    times = [(_seconds(ours.step), _seconds(plain)) for _ in range(rounds + 2)][2:]
    return DistillSpeed(statistics.median(t for t, _ in times), statistics.median(t for _, t in times))


def main() -> None:
    """Print the seconds and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shape", default="3,32,32", help="C,H,W of an image")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    channels, height, width = (int(size) for size in options.shape.split(","))
    speed = measure(options.model, (channels, height, width), options.batch_size, options.rounds)
    print(f"one distillation iteration: {speed.ours:.3f} s, plain {speed.plain:.3f} s: {speed.ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
