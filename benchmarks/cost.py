"""What a run costs against depth, number of images and resolution: CPU seconds and memory, with the exponents fitted to them.

    python benchmarks/cost.py [--bench FOLDER] [--only images]

seconds ~ size^e: e = 1 is linear, 0 constant; where the smallest sizes cost little more than what every run costs, the last two
say more. Each row is measured in a process of its own, which counts from the moment when the model and the images are there:
CPU seconds of all threads, and by how much the peak of the memory lies above what the process held then. Few iterations: their
number is the user's choice, and in reconstruction their cost is the same whatever the number of images.
FOLDER has cifar/resnet20_bn.onnx and resnet32_bn.onnx; without them depth is that of chains of residual blocks alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnx
import psutil
import torch
from onnx import TensorProto, helper, numpy_helper
from speed_ours import distillation, random_images, read, whole_reconstruction

CPU = torch.device("cpu")
CHANNELS = 16
ITERATIONS = 4  # for each block, and for each batch of images


@dataclass(frozen=True)
class Row:
    """One measurement: of `network` (a file, or so many residual blocks), on `images` of height and width `size`."""

    what: str  # reconstruction or distillation
    network: str | int
    images: int
    size: int
    along: int  # what the curve is drawn against


def residual(depth: int, size: int) -> onnx.ModelProto:
    """Return `depth` residual blocks of convolutions with BatchNorm, random in weights and statistics."""
    rng = np.random.default_rng(0)
    shape: list[str | int | None] = ["N", CHANNELS, size, size]
    nodes, tensors = [], []

    def tensor(name: str, values: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(x: str, y: str) -> str:
        weight = tensor(f"{y}.w", rng.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 12)
        nodes.append(helper.make_node("Conv", [x, weight], [f"{y}.c"], f"{y}.c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        statistics = [tensor(f"{y}.{k}", 1 + 0.1 * rng.standard_normal(CHANNELS)) for k in ("scale", "shift", "mean", "var")]
        nodes.append(helper.make_node("BatchNormalization", [f"{y}.c", *statistics], [y], y))
        return y

    def op(kind: str, *inputs: str, y: str) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [y], y))
        return y

    x = "x"
    for k in range(depth):
        inner = op("Relu", conv(x, f"a{k}"), y=f"r{k}")
        x = op("Relu", op("Add", conv(inner, f"b{k}"), x, y=f"s{k}"), y=f"y{k}")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", x)]
    graph = helper.make_graph(nodes, "residual", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def cost(row: Row) -> tuple[float, float]:
    """Return CPU seconds and MB of one row, measured in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cost"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(row, sender))
    process.start()
    sender.close()
    seconds, memory = receiver.recv()
    process.join()
    return float(seconds), float(memory)


def _measure(row: Row, sender: Connection) -> None:
    torch.set_num_threads(1)
    _work(dataclasses.replace(row, network=1, images=4, size=8))()  # kernels are compiled, libraries make their workspaces
    work = _work(row)
    held, begin = psutil.Process().memory_info().rss, time.process_time()
    work()
    seconds = time.process_time() - begin
    sender.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - held / 1e6))


def _work(row: Row) -> Callable[[], object]:
    """Return what is to be measured, everything before it done."""
    prepared = read(row.network if isinstance(row.network, str) else residual(row.network, row.size))
    if row.what == "reconstruction":
        images, _ = random_images(prepared, row.images), prepared.network
        return lambda: whole_reconstruction(prepared, images, ITERATIONS, CPU)
    assert prepared.teacher
    return lambda: distillation(prepared, row.images, ITERATIONS, CPU, start="noise")  # nothing is painted


def curve(title: str, rows: Sequence[Row]) -> None:
    """Measure `rows` and print them with the exponents of seconds and memory."""
    found = [cost(row) for row in rows]
    sizes = [row.along for row in rows]
    print(f"\n{title}\n  {'':8}" + "".join(f"{size:>9}" for size in sizes) + "   exponent, of the last two")
    for name, figures, digits in (("CPU s", [s for s, _ in found], 2), ("peak MB", [m for _, m in found], 0)):
        exponents = f"{_exponent(sizes, figures):11.2f}{_exponent(sizes[-2:], figures[-2:]):17.2f}"
        print(f"  {name:8}" + "".join(f"{figure:9.{digits}f}" for figure in figures) + exponents, flush=True)


def _exponent(sizes: Sequence[int], figures: Sequence[float]) -> float:
    """Return the slope of a line through the logarithms."""
    return float(np.polyfit([math.log(size) for size in sizes], [math.log(max(figure, 1e-3)) for figure in figures], 1)[0])


def curves(bench: Path | None) -> dict[str, list[tuple[str, list[Row]]]]:
    """Return what is measured: title and rows of each curve, under depth, images and resolution."""

    def at(what: str, network: str | int, images: int, size: int, along: int) -> Row:
        return Row(what, network, images, size, along)

    files = {} if bench is None else {n: str(bench / "cifar" / f"resnet{n}_bn.onnx") for n in (20, 32)}
    network: str | int = files.get(20, 9)
    name = "ResNet-20" if files else "9 residual blocks of 16x32x32"
    depth = [
        (
            "reconstruction, residual blocks of 16x16x16, 128 images",
            [at("reconstruction", d, 128, 16, d) for d in (4, 8, 16, 32)],
        ),
        ("distillation of 32 images, the same blocks", [at("distillation", d, 32, 16, d) for d in (4, 8, 16, 32)]),
    ]
    for what, images in (("reconstruction", 128), ("distillation", 64)) if files else ():
        rows = [at(what, file, images, 32, n - 2) for n, file in files.items()]
        depth.append((f"{what}, convolutions of ResNet-20 and ResNet-32, {images} images", rows))
    return {
        "depth": depth,
        "images": [
            (
                f"reconstruction of {name} by images",
                [at("reconstruction", network, n, 32, n) for n in (128, 256, 512, 1024, 2048)],
            ),
            (f"distillation of {name} by images in a batch", [at("distillation", network, n, 32, n) for n in (32, 64, 128)]),
        ],
        "resolution": [
            (
                "reconstruction, 2 residual blocks, 16 images, by pixels",
                [at("reconstruction", 2, 16, s, s * s) for s in (32, 64, 128, 224)],
            ),
            (
                "distillation of 8 images, the same blocks, by pixels",
                [at("distillation", 2, 8, s, s * s) for s in (32, 64, 128, 224)],
            ),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, help="folder with cifar/resnet20_bn.onnx and cifar/resnet32_bn.onnx")
    parser.add_argument("--only", choices=["depth", "images", "resolution"], help="one kind of curves")
    options = parser.parse_args()
    for kind, wanted in curves(options.bench).items():
        if options.only in (None, kind):
            for title, rows in wanted:
                curve(title, rows)


if __name__ == "__main__":
    main()
