"""How much faster one distillation iteration is than the plain transcription in baseline_distill.py, in one process.

    python benchmarks/speed_distill.py MODEL.onnx

The two take turns, so that what else runs on the machine meets both; the figure is the ratio of their medians of CPU seconds
(all threads), which a busy machine stretches less than wall clock.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from baseline_distill import baseline
from speed_ours import Clock, distillation, read

from genie_onnx.config import Precision
from genie_onnx.preparation.prepare import Prepared


@dataclass(frozen=True)
class DistillSpeed:
    """Median seconds of an iteration."""

    ours: float
    plain: float

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.plain / self.ours


def plain_iteration(prepared: Prepared, batch_size: int, clock: Clock) -> Callable[[int], float]:
    """Return a function that makes n iterations of the plain loop and returns the seconds of one."""
    step = baseline(prepared.teacher, prepared.statistics, prepared.shape, batch_size, clock.device)

    def run(count: int) -> float:
        begin = clock.mark()
        for _ in range(count):
            step()
        return clock.seconds(begin, clock.mark()) / count

    return run


def measure(
    prepared: Prepared,
    device: torch.device,
    *,
    batch_size: int = 128,
    rounds: int = 5,
    iterations: int = 3,
    precision: Precision = "fp32",
) -> DistillSpeed:
    """Return the seconds of one iteration of either loop, each the median of `rounds` after one to warm up.

    A round is `iterations` + 1 of ours, of which the first is not counted, and `iterations` of the plain loop.
    """
    torch.manual_seed(0)
    plain = plain_iteration(prepared, batch_size, Clock(device))
    times = [
        (distillation(prepared, batch_size, iterations + 1, device, precision), plain(iterations)) for _ in range(rounds + 1)
    ][1:]
    return DistillSpeed(statistics.median(t for t, _ in times), statistics.median(t for _, t in times))


def main() -> None:
    """Print the seconds and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16"], help="of our loop")
    options = parser.parse_args()
    device = torch.device(options.device)
    iterations = 50 if device.type == "cuda" else 3
    speed = measure(
        read(options.model),
        device,
        batch_size=options.batch_size,
        rounds=options.rounds,
        iterations=iterations,
        precision=options.precision,
    )
    print(f"one distillation iteration: {speed.ours:.4f} s, plain {speed.plain:.4f} s: {speed.ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
