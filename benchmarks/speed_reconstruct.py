"""One reconstruction iteration of a ResNet-20 block: ours against the plain loop, interleaved in one process (see speed.py)."""

from __future__ import annotations

import time
from collections.abc import Callable

import onnx.parser
import torch
from baseline_reconstruct import PlainBlock, PlainLoop

from genie_onnx import graph
from genie_onnx.blocks import partition
from genie_onnx.config import PlacementConfig, ReconstructConfig
from genie_onnx.importer import import_graph
from genie_onnx.placement import place
from genie_onnx.quant import MaskSource, weight_grid
from genie_onnx.reconstruct.layout import to_rows, to_stored
from genie_onnx.reconstruct.optimise import BlockData, Weight, optimise_block
from genie_onnx.reconstruct.store import Stored
from genie_onnx.reconstruct.student import build, initializer

SAMPLES = 128
STEP = 0.1  # of both activation quantizers
BLOCKS = {"wide 16x32x32": (16, 32), "narrow 64x8x8": (64, 8)}  # of ResNet-20's first and last stage

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
block (float[N, C, S, S] x) => (float[N, C, S, S] y) {{
    first = Conv <kernel_shape = [1, 1]> (x, w0)
    a = Relu (first)
    b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a, w1, b1)
    c = Relu (b)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c, w2, b2)
    e = Add (d, a)
    f = Relu (e)
    y = Conv <kernel_shape = [1, 1]> (f, w3)
}}
"""


def ours(channels: int, size: int, iterations: int) -> Callable[[int], float]:
    """Return a function that runs n iterations of this package's loop and returns the seconds of one."""
    model = onnx.parser.parse_model(TEXT.format().replace("C, S, S", f"{channels}, {size}, {size}"))
    random = torch.Generator().manual_seed(0)
    shapes = {"w0": (channels, channels, 1, 1), "w1": (channels, channels, 3, 3), "b1": (channels,)}
    shapes |= {"w2": shapes["w1"], "b2": (channels,), "w3": shapes["w0"]}
    for name, shape in shapes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array((torch.randn(shape, generator=random) * 0.1).numpy(), name))
    deploy = graph.fold_batchnorm(graph.normalise(graph.load(model)))
    placement = place(deploy, PlacementConfig(first_last_bits=4, points="layer-inputs"))
    network = import_graph(deploy)
    block = next(b for b in partition(deploy) if set(b.weights) == {"w1", "w2"})
    masks = MaskSource(0.5, random)
    student = build(network, block, placement, {spec.name: 0 for spec in placement.activations}, masks)
    weights = []
    for name in ("w1", "w2"):
        value = initializer(network, name)
        weights.append(Weight(name, value, 0, 4, weight_grid(to_rows(value, 0), 4)))
    x, x_q, y = (Stored(to_stored(torch.rand(SAMPLES, channels, size, size, generator=random))) for _ in range(3))
    data = BlockData((x,), (x_q,), (y,), (1,))
    biases = [initializer(network, b.bias) for b in student.biases]
    config = ReconstructConfig(iterations=iterations)
    scales = {name: torch.tensor(STEP) for name in student.scales}

    def run(count: int) -> float:
        start = time.perf_counter()
        optimise_block(
            student, data, weights, biases, {}, scales, {}, ReconstructConfig(iterations=count), random, lambda *_: None
        )
        return (time.perf_counter() - start) / count

    run(config.iterations)  # warm-up
    return run


def plain(channels: int, size: int) -> Callable[[int], float]:
    """Return the same of the plain loop."""
    torch.manual_seed(0)
    shape = (channels, channels, 3, 3)
    block = PlainBlock(
        (torch.randn(shape) * 0.1, torch.randn(shape) * 0.1), (torch.zeros(channels), torch.zeros(channels)), (STEP, STEP), 4
    )
    x, x_q, y = (torch.rand(SAMPLES, channels, size, size) for _ in range(3))

    def run(count: int) -> float:
        loop = PlainLoop(block, x, x_q, y, count)
        start = time.perf_counter()
        for _ in range(count):
            loop.step()
        return (time.perf_counter() - start) / count

    run(3)  # warm-up
    return run


def measure(channels: int, size: int, iterations: int, pairs: int) -> list[float]:
    """Return how many times as long the plain loop takes, pair by pair, ascending."""
    fast, slow = ours(channels, size, 3), plain(channels, size)
    return sorted(slow(iterations) / fast(iterations) for _ in range(pairs))
