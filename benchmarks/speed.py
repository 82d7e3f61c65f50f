"""How fast one iteration is against a plain transcription of the published loops, and how the walk over blocks scales.

    python benchmarks/speed.py [MODEL.onnx] [--threads N]

Prints, all measured in this one process: the reconstruction iteration of two ResNet-20 blocks, the distillation iteration of
MODEL (any with BatchNorm; default: the shipped example), and the seconds of carrying teacher and student through networks of
4 to 32 residual blocks, with the exponent of depth fitted to them.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper
from speed_distill import measure
from speed_reconstruct import BLOCKS
from speed_reconstruct import measure as measure_block

from genie_onnx import graph
from genie_onnx.blocks import partition
from genie_onnx.config import PlacementConfig, ReconstructConfig
from genie_onnx.graph import query
from genie_onnx.importer import import_graph
from genie_onnx.placement import place
from genie_onnx.reconstruct import reconstruct

EXAMPLE = Path(__file__).parent.parent / "examples" / "digits.onnx"
DEPTHS = (4, 8, 16, 32)
CHANNELS, SIZE, SAMPLES = 16, 16, 256


def residual(depth: int) -> ir.Model:
    """Return the deploy graph of `depth` residual blocks with random weights."""
    rng = np.random.default_rng(0)
    shape: list[str | int | None] = ["N", CHANNELS, SIZE, SIZE]
    nodes, weights = [], []

    def conv(x: str, y: str) -> str:
        weights.append(
            numpy_helper.from_array((rng.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 12).astype(np.float32), f"{y}.w")
        )
        nodes.append(helper.make_node("Conv", [x, f"{y}.w"], [y], y, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        return y

    def op(kind: str, *inputs: str, y: str) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [y], y))
        return y

    x = "x"
    for k in range(depth):
        inner = op("Relu", conv(x, f"a{k}"), y=f"r{k}")
        x = op("Relu", op("Add", conv(inner, f"b{k}"), x, y=f"s{k}"), y=f"y{k}")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", x)]
    model = helper.make_graph(nodes, "residual", values[:1], values[1:], weights)
    proto = helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return graph.fold_batchnorm(graph.normalise(graph.load(proto)))


def collection_seconds(depth: int) -> float:
    """Return the seconds of a reconstruction without iterations: calibration, and teacher and student carried forward."""
    deploy = residual(depth)
    network, blocks = import_graph(deploy), partition(deploy)
    placement = place(deploy, PlacementConfig())
    images = torch.randn(SAMPLES, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    start = time.process_time()
    reconstruct(
        network,
        placement,
        blocks,
        images,
        ReconstructConfig(iterations=0),
        input_range=(-4.0, 4.0),
        headroom=1.0,
        seed=0,
        device=torch.device("cpu"),
        progress=lambda event: None,
        finished=lambda result: None,
    )
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=EXAMPLE, help="for the distillation iteration")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, onnx {onnx.__version__}, {options.threads} thread(s)")
    for name, (channels, size) in BLOCKS.items():
        ratios = measure_block(channels, size, iterations=15, pairs=options.pairs)
        print(f"reconstruction, {name}: {statistics.median(ratios):.2f}x ({ratios[0]:.2f} .. {ratios[-1]:.2f}) of the plain loop")
    _, *shape = query.input_shape(graph.load(options.model))
    channels, height, width = (int(d or 0) for d in shape)
    speed = measure(options.model, (channels, height, width))
    print(f"distillation, {options.model.name}: {speed.ratio:.2f}x of the plain loop")
    seconds = [min(collection_seconds(depth) for _ in range(2)) for depth in DEPTHS]
    exponent = np.polyfit([math.log(d) for d in DEPTHS], [math.log(s) for s in seconds], 1)[0]
    table = ", ".join(f"{d}: {s:.2f}" for d, s in zip(DEPTHS, seconds, strict=True))
    print(f"carrying values through the blocks, CPU seconds by depth: {table}; exponent {exponent:.2f}")


if __name__ == "__main__":
    main()
