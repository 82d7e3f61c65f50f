"""Small networks around one awkward piece of graph, and quantizing them in about a second.

image [N, 3, 16, 16] -> Conv, Relu -> a [N, 8, 16, 16] -> PIECE -> y [N, 8, ...] -> Conv, Relu -> mean -> Gemm -> scores [N, 5]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from simulation import model

import genie_onnx
from genie_onnx import TARGETS, PlacementConfig, QuantizeConfig, ReconstructConfig, Report

ALL_TARGETS = ("portable", "openvino", "tensorrt", "qnn", "rknn", "tidl", "vitis")


def he(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    """Weights [O, I, ...] that keep the size of values."""
    return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def net(piece: str, opset: int = 17, batch: str = "N", outputs: str = "", **tensors: npt.ArrayLike) -> onnx.ModelProto:
    """The network with `piece` (ONNX text that makes y of a); `outputs` are declared beside the scores.

    w, b, k, v [8, 8, 3, 3], [8], [8, 8, 1, 1] and [8, 8, 3, 3] are there for it, and what else it needs is in `tensors`.
    """
    rng = np.random.default_rng(0)
    ready = {
        "first": he(rng, 8, 3, 3, 3),
        "zeros": np.zeros(8, np.float32),
        "w": he(rng, 8, 8, 3, 3),
        "b": rng.normal(0, 0.1, 8).astype(np.float32),
        "k": he(rng, 8, 8, 1, 1),
        "v": he(rng, 8, 8, 3, 3),
        "second": he(rng, 8, 8, 3, 3),
        "head": he(rng, 5, 8),
    }
    text = f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        net (float[{batch}, 3, 16, 16] image) => (float[{batch}, 5] scores{outputs}) {{
            conv1 = Conv<pads=[1,1,1,1]>(image, first, zeros)
            a = Relu(conv1)
            {piece}
            [conv2] conv2 = Conv<pads=[1,1,1,1]>(y, second)
            late = Relu(conv2)
            mean = GlobalAveragePool(late)
            flat = Flatten(mean)
            scores = Gemm<transB=1>(flat, head)
        }}"""
    used = {name: np.asarray(array) for name, array in (ready | tensors).items() if f"{name}" in text}
    return model(text, **used)


def quantized(
    proto: onnx.ModelProto, folder: Path, target: str = "portable", bits: int = 8, iterations: int = 0, **config: Any
) -> tuple[Path, Report]:
    """Quantize `proto` on eight painted images in `folder`; return the file and the report, whose parity has been checked."""
    source = folder / "float.onnx"
    onnx.save(proto, source)
    wanted = TARGETS[target]
    settings = QuantizeConfig(
        placement=PlacementConfig(wbits=bits, abits=max(bits, wanted.constraints.value_bits[0])),
        reconstruct=ReconstructConfig(iterations=iterations, batch_size=4),
        images="procedural",
        samples=8,
        target=wanted,
        **config,
    )
    done = genie_onnx.quantize(source, folder / "quantized.onnx", config=settings)
    return done.output, done.report


def decibels(report: Report, output: str = "scores") -> float:
    """How near `output` of the file is to that of the float model."""
    return float(next(o["sqnr_db"] for o in report.comparison["outputs"] if o["name"] == output))
