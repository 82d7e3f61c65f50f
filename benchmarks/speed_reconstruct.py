"""Reconstruction iterations of single blocks, and a whole run: ours against the plain loop, by turns in one process (speed)."""

from __future__ import annotations

from collections.abc import Callable

import onnx.parser
import torch
from baseline_reconstruct import PlainBlock, PlainLoop, plain_block, plain_run
from speed_ours import Clock, learned, random_images, read, reconstruction, whole_reconstruction
from torch import Tensor

from genie_onnx.config import Precision
from genie_onnx.preparation.prepare import Prepared

SAMPLES = 64

# The first convolution, whose rounding makes teacher and student differ, is a block of its own before the basic block and a part
# of the separable one.
BASIC = """
    first = Conv <kernel_shape = [1, 1]> (x, w0)
    a = Relu (first)
    b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a, w1, b1)
    c = Relu (b)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c, w2, b2)
    e = Add (d, a)
    y = Relu (e)
"""
SEPARABLE = """
    first = Conv <kernel_shape = [1, 1]> (x, w0)
    a = Relu (first)
    b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = C> (a, w1, b1)
    c = Relu (b)
    d = Conv <kernel_shape = [1, 1]> (c, w2, b2)
    y = Relu (d)
"""
BLOCKS = {
    "wide, 16x32x32 (ResNet-20)": (BASIC, 16, 32, 16),
    "narrow, 64x8x8 (ResNet-20)": (BASIC, 64, 8, 64),
    "depthwise and pointwise, 64x56x56 -> 128 (MobileNetV1)": (SEPARABLE, 64, 56, 128),
}
"""Operators, channels, height and width, channels of the output."""


def model(operators: str, channels: int, size: int, outputs: int) -> onnx.ModelProto:
    """Return a block of BLOCKS with random weights; 4 channels go in."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    block (float[N, 4, {size}, {size}] x) => (float[N, {outputs}, {size}, {size}] y) {{ {operators} }}"""
    proto = onnx.parser.parse_model(text.replace("group = C", f"group = {channels}"))
    random = torch.Generator().manual_seed(0)
    depthwise = "group" in operators
    shapes = {"w0": (channels, 4, 1, 1), "w1": (channels, 1 if depthwise else channels, 3, 3), "b1": (channels,)}
    shapes |= {"w2": (outputs, channels, *((1, 1) if depthwise else (3, 3))), "b2": (outputs,)}
    for name, shape in shapes.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array((torch.randn(shape, generator=random) * 0.1).numpy(), name))
    return proto


def weights(prepared: Prepared) -> set[str]:
    """Return the weights that are quantised."""
    return {spec.value for spec in prepared.placement.weights}


def plain_iteration(block: PlainBlock, images: Tensor, clock: Clock) -> Callable[[int], float]:
    """Return a function that makes n iterations of the plain loop and returns the seconds of one; `images` [N, C, H, W] are x."""
    with torch.no_grad():
        y = block.teacher(images)

    def run(count: int) -> float:
        loop = PlainLoop(block.student, [images], [images + 0.01], y, count + 1)
        loop.step()
        begin = clock.mark()
        for _ in range(count):
            loop.step()
        return clock.seconds(begin, clock.mark()) / count

    return run


def measure(name: str, iterations: int, pairs: int, device: torch.device, precision: Precision) -> list[float]:
    """Return how many times as long the plain loop takes on a block of BLOCKS, pair by pair, ascending."""
    torch.manual_seed(0)
    prepared, clock = read(model(*BLOCKS[name])), Clock(device)
    images = random_images(prepared, SAMPLES)
    before, last = prepared.blocks[:-1], prepared.blocks[-1]
    network = prepared.network.to(device)
    x = images.to(device)
    for block in before:
        (x,) = network.extract(block.inputs, block.outputs).module(x)
    plain = plain_block(network, last.inputs, last.outputs, weights(prepared))
    plain.student.to(device)
    run = plain_iteration(plain, x, clock)

    def ratio() -> float:
        return run(iterations) / reconstruction(prepared, images, iterations, device, precision)[last.name]

    ratio()  # warm-up
    return sorted(ratio() for _ in range(pairs))


def measure_run(source: str, samples: int, iterations: int, device: torch.device, precision: Precision) -> tuple[float, float]:
    """Return the seconds of reconstructing a whole model by our loop and by the plain one, which searches no step sizes."""
    prepared, clock = read(source), Clock(device)
    images = random_images(prepared, samples)
    ours = whole_reconstruction(prepared, images, iterations, device, precision)
    names = learned(prepared)
    numbers = [number for number, block in enumerate(prepared.blocks) if block.name in names]
    network = prepared.network.to(device)
    blocks = [plain_block(network, b.inputs, b.outputs, weights(prepared)) for b in prepared.blocks]
    for block in blocks:
        block.student.to(device)
    begin = clock.mark()
    plain_run(blocks, numbers, images.to(device), prepared.network.inputs[0], iterations)
    return ours, clock.seconds(begin, clock.mark())
