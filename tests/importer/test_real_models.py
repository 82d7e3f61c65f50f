"""Every value of published models, against onnxruntime without optimisations, at batch 1 and 4 on random input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from importer.against_onnxruntime import relative_error, session

from genie_onnx.graph import fold_batchnorm, load, normalise
from genie_onnx.importer import Network, import_graph

# Relative to the largest entry of a value. Sums in another order give up to 2e-5 in the deepest of these networks.
_TOLERANCE = 5e-5
# They take pixels of 0..255. On smaller input their scores are sigmoids near 1e-5, where onnxruntime's sigmoid is off by 1e-7.
_RAW_PIXELS = ("zoo/mlperf_resnet8_bn.onnx", "zoo/yolox_nano.onnx", "zoo/yunet_n_320_320.onnx")

_FAST = ("cifar/resnet20_bn.onnx", "cifar/resnet20_folded.onnx", "zoo/mlperf_resnet8_bn.onnx")
_SLOW = (
    "cifar/resnet32_bn.onnx",
    "imagenet/mobilenet_v1_075_224_bn.onnx",
    "zoo/dncnn_sigma25_bn.onnx",
    "zoo/fastestdet_352_bn.onnx",
    "zoo/fastestdet_352_folded.onnx",
    "zoo/lprnet_24x94_bn.onnx",
    "zoo/mlperf_vww_mobilenetv1_025_96_bn.onnx",
    "zoo/pfld.onnx",
    "zoo/portrait_extremec3_224_bn.onnx",
    "zoo/version-RFB-320.onnx",
    "zoo/version-slim-320.onnx",
    "zoo/yolox_nano.onnx",
    "zoo/yunet_n_320_320.onnx",
)


def _errors(model: ir.Model, imported: Network, raw_pixels: bool) -> dict[str, float]:
    """The relative error of every computed value, the larger one of both batch sizes."""
    spread, centre = (64, 128) if raw_pixels else (1, 0)
    proto = ir.serde.serialize_model(model)
    known = {value.name for value in (*proto.graph.initializer, *proto.graph.input)}
    values = [name for name in imported.nodes if name not in known]
    outputs = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values if name not in outputs)
    runtime, everything = session(proto), imported.extract(imported.inputs, values)
    worst = dict.fromkeys(values, 0.0)
    for batch in (1, 4):
        random = np.random.default_rng(batch)
        feeds = {}
        for value in model.graph.inputs:
            assert value.shape is not None
            sizes = [dim if isinstance(dim, int) else 40 for dim in value.shape]
            feeds[str(value.name)] = random.normal(centre, spread, [batch, *sizes[1:]]).astype(np.float32)
        with torch.no_grad():
            found = everything({name: torch.from_numpy(feed) for name, feed in feeds.items()})
        for name, wanted in zip(values, runtime.run(values, feeds), strict=True):
            assert tuple(found[name].shape) == wanted.shape, f"{name} at batch {batch}"
            worst[name] = max(worst[name], relative_error(found[name].numpy(), wanted))
    return worst


def _check(bench: Path, name: str) -> None:
    user = normalise(load(bench / name))
    for model in (user, fold_batchnorm(user)):
        imported = import_graph(model)
        computed = {value.name for node in model.graph for value in node.outputs if value.name}
        assert computed <= imported.nodes.keys()
        errors = _errors(model, imported, name in _RAW_PIXELS)
        wrong = {value: f"{error:.1e}" for value, error in errors.items() if error > _TOLERANCE}
        assert not wrong, next(iter(wrong.items()))  # the first one in topological order


@pytest.mark.parametrize("name", _FAST)
def test_every_value(bench: Path, name: str) -> None:
    _check(bench, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", _SLOW)
def test_every_value_of_larger_models(bench: Path, name: str) -> None:
    _check(bench, name)
