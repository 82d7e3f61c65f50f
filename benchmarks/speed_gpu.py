"""The loops on a GPU against the plain ones, on whole networks of usual size, and what that is of the card's own limits.

    python benchmarks/speed_gpu.py [NETWORK ...] [--precision tf32] [--batch-size 128] [--size 224]

NETWORK is one of torchvision's (default: resnet18, mobilenet_v2, resnet50), with random weights, or an ONNX file with
BatchNorm kept (gpu_models.py). For each: one reconstruction iteration of every block, added up, at batch 32; one distillation
iteration; seconds by CUDA events, ours and plain by turns. `--device cpu` is there to try the script itself.

TFLOP/s: what convolutions and matrix products of the plain iteration count (torch.utils.flop_counter), by our time.
GB/s: the least that a layer by layer computation moves - each value inside a block and its gradient written once and read
once - by our time. The card's limits are those of a large matrix product and a large copy in this process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from baseline_distill import baseline
from baseline_reconstruct import PlainBlock, PlainLoop, plain_block
from gpu_models import write
from speed_ours import Clock, distillation, learned, random_images, read, reconstruction
from speed_reconstruct import weights
from torch import Tensor, fx
from torch.utils.flop_counter import FlopCounterMode

from genie_onnx.config import Precision
from genie_onnx.preparation.prepare import Prepared

NETWORKS = ("resnet18", "mobilenet_v2", "resnet50")
SAMPLES = 64  # that batches of reconstruction are drawn from
MATRIX, COPY = 8192, 2**30  # rows of the large matrices; bytes of the large copy
SMALL_MATRIX, SMALL_COPY = 512, 2**24  # on a CPU, where this only has to run


@dataclass(frozen=True)
class Work:
    """Of one iteration of the plain loop: its seconds, floating-point operations, and least bytes moved."""

    seconds: float
    flops: float
    moved: float


def limits(precision: Precision, device: torch.device) -> tuple[float, float]:
    """Return TFLOP/s of a large matrix product at `precision` and GB/s, read and written, of a large copy."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rows, size = (MATRIX, COPY) if device.type == "cuda" else (SMALL_MATRIX, SMALL_COPY)
    a, b = (torch.randn(rows, rows, device=device, dtype=dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    product = timed(lambda: a @ b, 20, device)
    torch.backends.cuda.matmul.fp32_precision = before
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), 20, device)
    return 2 * rows**3 / product / 1e12, 2 * size / copy / 1e9


def timed(step: Callable[[], object], count: int, device: torch.device) -> float:
    """Return the seconds of one `step`, a mean over `count` after some to warm up."""
    clock = Clock(device)
    for _ in range(5):
        step()
    begin = clock.mark()
    for _ in range(count):
        step()
    return clock.seconds(begin, clock.mark()) / count


def flops(step: Callable[[], object]) -> float:
    """Return the floating-point operations of the convolutions and matrix products in `step`."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


class Sizes(fx.Interpreter):
    """Adds up the bytes of all values that operators of a graph yield."""

    total = 0

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.op in ("call_module", "call_function", "call_method") and isinstance(result, Tensor):
            self.total += result.numel() * result.element_size()
        return result


@torch.no_grad()
def least_moved(module: fx.GraphModule, inputs: Sequence[Tensor]) -> float:
    """Return the bytes moved by an iteration on `inputs`, if every value and its gradient is written once and read once."""
    sizes = Sizes(module)
    sizes.run(*inputs)
    return 4.0 * sizes.total


def plain_blocks(prepared: Prepared, images: Tensor) -> list[tuple[PlainBlock, list[Tensor], list[Tensor]]]:
    """Return each block that learns for the plain loop, with its inputs and outputs for `images`."""
    network, found = prepared.network.to(images.device), []
    values = {network.inputs[0]: images}
    for block in prepared.blocks:
        plain = plain_block(network, block.inputs, block.outputs, weights(prepared))
        plain.student.to(images.device)
        x = [values[v] for v in block.inputs]
        with torch.no_grad():
            y = list(plain.teacher(*x))
        values.update(zip(block.outputs, y, strict=True))
        if block.name in learned(prepared):
            found.append((plain, x, y))
    return found


def plain_reconstruction(blocks: list[tuple[PlainBlock, list[Tensor], list[Tensor]]], count: int) -> Work:
    """Return the work of one iteration of every block together; seconds are means over `count` iterations."""
    works = []
    for block, x, y in blocks:
        loop = PlainLoop(block.student, x, [t + 0.01 for t in x], y, 10**6)
        batch = [t[: loop.batch_size] for t in x]
        works.append(Work(timed(loop.step, count, x[0].device), flops(loop.step), least_moved(block.teacher, batch)))
    return Work(sum(w.seconds for w in works), sum(w.flops for w in works), sum(w.moved for w in works))


def plain_distillation(prepared: Prepared, batch_size: int, count: int, device: torch.device) -> Work:
    """Return the work of one iteration."""
    step = baseline(prepared.teacher, prepared.statistics, prepared.shape, batch_size, device)
    images = random_images(prepared, batch_size).to(device)
    return Work(timed(step, count, device), flops(step), least_moved(prepared.teacher.module.to(device), [images]))


def line(what: str, ours: Sequence[float], plain: Sequence[Work], peak: tuple[float, float]) -> str:
    """Say how long an iteration takes, what that is of the plain loop, and what of the card."""
    seconds, work = statistics.median(ours), plain[0]
    ratio = statistics.median(w.seconds for w in plain) / seconds
    arithmetic, traffic = work.flops / seconds / 1e12, work.moved / seconds / 1e9
    return (
        f"{what}: {1e3 * seconds:.2f} ms an iteration, {ratio:.2f}x of the plain loop; {arithmetic:.1f} TFLOP/s "
        f"({100 * arithmetic / peak[0]:.0f} %), {traffic:.0f} GB/s ({100 * traffic / peak[1]:.0f} %)"
    )


def network(name: str, size: int) -> Prepared:
    """Return a network of torchvision, or that of an ONNX file."""
    if name.endswith(".onnx"):
        return read(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.onnx"
        write(name, size, file)
        return read(str(file))


def measure(
    name: str,
    size: int,
    batch_size: int,
    count: int,
    rounds: int,
    precision: Precision,
    device: torch.device,
    peak: tuple[float, float],
) -> Iterator[str]:
    """Yield a line for reconstruction of a network, then one for distillation."""
    prepared, name = network(name, size), Path(name).stem
    images = random_images(prepared, SAMPLES)
    blocks = plain_blocks(prepared, images.to(device))
    ours, plain = [], []
    for _ in range(rounds):
        ours.append(sum(reconstruction(prepared, images, count, device, precision).values()))
        plain.append(plain_reconstruction(blocks, count))
    yield line(f"{name}, reconstruction of {len(blocks)} blocks", ours, plain, peak)
    del blocks
    ours, plain = [], []
    for _ in range(rounds):
        ours.append(distillation(prepared, batch_size, count, device, precision))
        plain.append(plain_distillation(prepared, batch_size, count, device))
    yield line(f"{name}, distillation at batch {batch_size}", ours, plain, peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--precision", default="tf32", choices=["fp32", "tf32", "bf16"], help="of our loops; plain: torch's own")
    parser.add_argument("--batch-size", type=int, default=128, help="images distilled together")
    parser.add_argument("--size", type=int, default=224, help="height and width of an image (of torchvision's networks)")
    parser.add_argument("--iterations", type=int, default=300, help="that are timed together")
    parser.add_argument("--rounds", type=int, default=3, help="ours and plain by turns")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured")
        return
    if device.type == "cpu" and options.precision == "tf32":
        parser.error("--precision tf32 is a format of GPUs: give fp32 or bf16")
    peak = limits(options.precision, device)
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{card}, torch {torch.__version__}, {options.precision}")
    print(f"limits: {peak[0]:.2f} TFLOP/s in a large matrix product, {peak[1]:.0f} GB/s in a large copy", flush=True)
    for name in options.networks:
        for found in measure(
            name, options.size, options.batch_size, options.iterations, options.rounds, options.precision, device, peak
        ):
            print(found, flush=True)


if __name__ == "__main__":
    main()
