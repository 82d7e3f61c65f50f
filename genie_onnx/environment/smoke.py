"""A tiny model from beginning to end: images, reconstruction, file, verification in onnxruntime."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from genie_onnx.config import QuantizeConfig, ReconstructConfig
from genie_onnx.environment.finding import Finding, ok
from genie_onnx.pipeline.quantize import quantize

_NET = """<ir_version: 8, opset_import: ["" : 13]> tiny (float[N, 3, 8, 8] image) => (float[N, 5] scores) {
    a = Conv<pads = [1, 1, 1, 1]>(image, conv_weight)
    b = Relu(a)
    c = GlobalAveragePool(b)
    d = Flatten(c)
    scores = Gemm<transB = 1>(d, gemm_weight)
}"""
_SHAPES = {"conv_weight": (4, 3, 3, 3), "gemm_weight": (5, 4)}


def tiny_model() -> onnx.ModelProto:
    """Return a network of a convolution and a dense layer with random weights."""
    proto = onnx.parser.parse_model(_NET)
    rng = np.random.default_rng(0)
    for name, shape in _SHAPES.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    return proto


def probe() -> Iterator[Finding]:
    """Quantize the tiny model on the device of a run that says nothing."""
    began = time.monotonic()
    config = QuantizeConfig(samples=4, images="procedural", reconstruct=ReconstructConfig(iterations=2))
    with tempfile.TemporaryDirectory() as folder:
        result = quantize(tiny_model(), Path(folder) / "tiny.quant.onnx", config=config)
    seconds = time.monotonic() - began
    yield ok("smoke", f"a tiny model was quantized on {result.report.device} and verified in onnxruntime, in {seconds:.1f} s")
