"""Whole small networks through placement, export and onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from simulation import Case, model, quantised

from genie_onnx.config import PlacementConfig
from genie_onnx.placement import place
from genie_onnx.validate import check_parity, integer_kernels, run

RNG = np.random.default_rng(4)


def _array(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def _quantised(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], target: str = "portable", **config: int) -> Case:
    settings = PlacementConfig(**config)  # type: ignore[arg-type]
    return quantised(proto, lambda deploy: place(deploy, settings), feeds, target)


def _block(name: str, source: str) -> str:
    return f"""{name}a = Conv<pads=[1,1,1,1]>({source}, {name}v, {name}p) {name}b = Relu({name}a)
        {name}c = Conv<pads=[1,1,1,1]>({name}b, {name}w, {name}q) {name}d = Add({name}c, {source}) {name} = Relu({name}d)"""


def _resnet(blocks: int) -> onnx.ModelProto:
    """Stem, residual blocks, pool, classifier: 2 blocks + 1 convolutions."""
    body = " ".join(_block(f"r{k}", "s" if k == 0 else f"r{k - 1}") for k in range(blocks))
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,8,8] x) => (float[N,10] y) {{
            s0 = Conv<pads=[1,1,1,1]>(x, sw, sb) s = Relu(s0) {body}
            m = GlobalAveragePool(r{blocks - 1}) f = Flatten(m) y = Gemm<transB=1>(f, fw, fb) }}"""
    arrays = {"sw": _array(8, 3, 3, 3), "sb": _array(8), "fw": _array(10, 8), "fb": _array(10)}
    for k in range(blocks):
        arrays |= {f"r{k}v": _array(8, 8, 3, 3), f"r{k}w": _array(8, 8, 3, 3), f"r{k}p": _array(8), f"r{k}q": _array(8)}
    return model(text, **arrays)


IMAGES = {"x": RNG.standard_normal((4, 3, 8, 8)).astype(np.float32)}


def _parity(case: Case, feeds: dict[str, np.ndarray]) -> None:
    expected = case.simulate(feeds)
    parity = check_parity(case.proto, feeds, case.codes.weights, expected.activations, expected.outputs, case.reference(expected))
    assert parity.problems == ()


@pytest.mark.parametrize("abits", [2, 4, 8])
@pytest.mark.parametrize("wbits", [2, 4, 8])
def test_resnet_runs_in_integer_kernels(wbits: int, abits: int) -> None:
    case = _quantised(_resnet(3), IMAGES, wbits=wbits, abits=abits)
    _parity(case, IMAGES)
    kernels = integer_kernels(case.proto)
    assert kernels.floating == {}
    assert kernels.integer == {"QGemm": 1, "QLinearAdd": 3, "QLinearConv": 7, "QLinearGlobalAveragePool": 1}


@pytest.mark.parametrize("abits", [4, 8])
def test_int4_container_loads_at_default_settings(abits: int) -> None:
    case = _quantised(_resnet(2), IMAGES, "int4", wbits=4, abits=abits)
    _parity(case, IMAGES)
    portable = _quantised(_resnet(2), IMAGES, wbits=4, abits=abits).proto
    assert case.proto.ByteSize() < portable.ByteSize()


NETS = {
    "mobilenet": """ c = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1, b1) r = Clip(c, zero, six)
        d = Conv<pads=[1,1,1,1], group=8>(r, w2, b2) e = Clip(d, zero, six) y = Conv(e, w3, b3) """,
    "concat": """ a = Conv(x, w1, b1) r = Relu(a) p = MaxPool<kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1]>(r)
        q = Conv(r, w3, b3) c = Concat<axis=1>(p, q) s = Slice(c, starts, ends, axes) y = Conv(s, w4, b4) """,
    "upsampling": """ a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1, b1) r = LeakyRelu<alpha=0.1>(a)
        u = ConvTranspose<strides=[2,2]>(r, w5, b5) v = Resize<mode="nearest">(r,, scales) t = Add(u, v)
        y = Conv(t, w3, b3) """,
    "gated": """ a = Conv(x, w1, b1) s = Sigmoid(a) m = Mul(a, s) y = Conv(m, w3, b3) """,
}
CONSTANTS = {
    "zero": np.float32(0),
    "six": np.float32(0.6),
    "starts": np.int64([2]),
    "ends": np.int64([10]),
    "axes": np.int64([1]),
    "scales": np.float32([1, 1, 2, 2]),
}
SHAPES = {
    **{"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "b2": (8,), "w3": (6, 8, 1, 1), "b3": (6,)},
    **{"w4": (5, 8, 3, 3), "b4": (5,), "w5": (8, 8, 2, 2), "b5": (8,)},
}


@pytest.mark.parametrize("target", ["portable", "int4"])
@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize("kind", NETS)
def test_operators(kind: str, bits: int, target: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 13]> g (float[N,3,8,8] x) => (float y) {{ {NETS[kind]} }}"""
    used = text.replace(",", " ").replace(")", " ").replace("(", " ").split()
    arrays = {name: _array(*shape) for name, shape in SHAPES.items()} | CONSTANTS
    proto = model(text, **{name: array for name, array in arrays.items() if name in used})
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    case = _quantised(proto, IMAGES, target, wbits=min(bits, 4), abits=bits)
    _parity(case, IMAGES)


def test_cifar_resnet20(bench: Path) -> None:
    data = np.load(bench / "cifar" / "calib1024.npz")["images"][:24].astype(np.float32) / 255
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    feeds = {"input": np.ascontiguousarray(((data - mean) / std).transpose(0, 3, 1, 2))}
    case = _quantised(onnx.load(bench / "cifar" / "resnet20_folded.onnx"), feeds, wbits=4, abits=4)
    _parity(case, {"input": feeds["input"][:8]})
    assert integer_kernels(case.proto).integer == {"QGemm": 1, "QLinearAdd": 9, "QLinearAveragePool": 1, "QLinearConv": 19}
    optimised, plain = (run(case.proto, feeds, optimise=flag)["logits"] for flag in (True, False))
    assert (optimised.argmax(1) == plain.argmax(1)).mean() > 0.9, "a flip may turn an answer, rarely"
