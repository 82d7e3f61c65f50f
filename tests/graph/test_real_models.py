"""Published models go through load, check, normalise and fold_batchnorm and compute what the file computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import FLOAT_ROUNDING, difference, image, one_by_one, run

from genie_onnx.graph import batchnorms, check, fold_batchnorm, load, normalise, query

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

# file: (BatchNormalizations, of which left after folding, weighted nodes)
FILES = {
    "cifar/resnet20_bn.onnx": (19, 0, 20),
    "zoo/lprnet_24x94_bn.onnx": (6, 0, 16),
    "zoo/mlperf_resnet8_bn.onnx": (7, 0, 10),
    "zoo/version-RFB-320.onnx": (35, 0, 52),
    "zoo/yunet_n_320_320.onnx": (0, 0, 59),
}
LARGER = {
    "cifar/resnet20_folded.onnx": (0, 0, 20),
    "zoo/fastestdet_352_folded.onnx": (0, 0, 70),
    "zoo/pfld.onnx": (42, 0, 45),
    "zoo/version-slim-320.onnx": (25, 0, 42),
    "cifar/resnet32_bn.onnx": (31, 0, 32),
    "imagenet/mobilenet_v1_075_224_bn.onnx": (27, 0, 28),
    "zoo/dncnn_sigma25_bn.onnx": (15, 0, 17),
    "zoo/fastestdet_352_bn.onnx": (70, 0, 70),
    "zoo/mlperf_vww_mobilenetv1_025_96_bn.onnx": (27, 0, 28),
    "zoo/portrait_extremec3_224_bn.onnx": (63, 13, 115),
    "zoo/yolox_nano.onnx": (0, 0, 113),
}


@pytest.mark.parametrize("file", [*FILES, *(pytest.param(f, marks=pytest.mark.slow) for f in LARGER)])
def test_real_model(bench: Path, file: str) -> None:
    """Normalised: bit for bit the same, batch 2 included. Folded: the same to float rounding over the net's depth."""
    found, left, weighted = (FILES | LARGER)[file]
    path = bench / file
    user = load(path)
    check(user)
    graph = normalise(user)
    folded = fold_batchnorm(graph)
    assert len(batchnorms(graph)) == found
    assert len(batchnorms(folded)) == left
    assert len(query.weighted_nodes(folded)) == weighted
    assert all(v.shape is not None for node in graph.graph for v in node.outputs)
    x = image(2, *(48 if d is None else d for d in query.input_shape(graph)[1:]))
    expected = one_by_one(onnx.load(path), x)
    assert difference(expected, run(graph, x)) <= 1e-6  # 0 where onnxruntime's kernels do not depend on the batch
    assert difference(expected, run(folded, x)) < FLOAT_ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("file", ["densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet"])
def test_old_architectures(file: str) -> None:
    """The graphs of the onnx package, opset 9 and IR 3, their constant weights replaced by random ones of sane size."""
    proto = onnx.load(LIGHT / f"light_{file}.onnx")
    generator = np.random.default_rng(0)
    user = load(proto)
    graph = normalise(user)
    for value in graph.graph.initializers.values():
        array = query.constant(value)
        if array is not None and array.dtype == np.float32 and array.ndim > 0:
            fan_in = max(int(np.prod(array.shape[1:])), 1)
            noise = (
                generator.normal(size=array.shape) * np.sqrt(2 / fan_in)
                if array.ndim > 1
                else generator.uniform(0.5, 1.5, array.shape)
            )
            value.const_value = ir.tensor(noise.astype(np.float32), name=value.name)
    folded = fold_batchnorm(graph)
    x = image(2, 3, 224, 224)
    assert difference(one_by_one(graph, x), run(graph, x)) <= 1e-5
    assert difference(run(graph, x), run(folded, x)) < 1e-4  # softmax of large logits after up to 121 convolutions
