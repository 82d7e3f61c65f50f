"""Kinds of graphs that made runs fail, or outputs worthless, each by its smallest network: quantized, and as good as others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from awkward_nets import ALL_TARGETS, decibels, he, net, quantized
from onnx import numpy_helper

GOOD = 30.0  # dB at 8 bits; what these tests are about costs it all, or ends the run


@pytest.mark.parametrize(
    ("piece", "tensors"),
    [
        ("y = Pad(a, four, , spatial)", {"four": [1, 2, 1, 2], "spatial": [2, 3]}),
        ('y = Resize<mode="linear", axes=[2,3]>(a, , two)', {"two": np.array([2, 2], np.float32)}),
        ('y = Resize<mode="linear", axes=[-1]>(a, , , ten)', {"ten": [10]}),
    ],
    ids=["pad", "scales", "sizes"],
)
def test_named_axes(tmp_path: Path, piece: str, tensors: dict[str, list[int]]) -> None:
    _, report = quantized(net(piece, opset=18, **tensors), tmp_path)
    assert decibels(report) > GOOD


@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape=[3,3], dilations=[2,2]",
        "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], ceil_mode=1, count_include_pad=1",
    ],
    ids=["dilated", "counted beyond"],
)
def test_average_pools_without_integer_kernel(tmp_path: Path, attributes: str) -> None:
    _, report = quantized(net(f"y = AveragePool<{attributes}>(a)", opset=19), tmp_path)
    assert decibels(report) > GOOD


@pytest.mark.parametrize(
    ("way", "batch"),
    [
        *((way, "N") for way in ("initializer", "node", "computed")),
        ("node", "1"),
        *(pytest.param(way, "1", marks=pytest.mark.slow) for way in ("initializer", "computed")),
    ],
)
def test_outputs_that_no_image_reaches(tmp_path: Path, way: str, batch: str) -> None:
    table = np.arange(32, dtype=np.float32).reshape(8, 4)
    piece = {"initializer": "", "node": "priors = Constant<value_float=7.0>()", "computed": "priors = Mul(table, table)"}[way]
    shape = "" if way == "node" else "[8, 4]"
    proto = net(f"y = Relu(a) {piece}", batch=batch, outputs=f", float{shape} priors", table=table)
    if way == "initializer":
        proto.graph.initializer.append(numpy_helper.from_array(table, "priors"))
    file, report = quantized(proto, tmp_path)
    images = {"image": np.ones((1, 3, 16, 16), np.float32)}
    ours, theirs = (ort.InferenceSession(str(path)).run(["priors"], images)[0] for path in (file, tmp_path / "float.onnx"))
    np.testing.assert_array_equal(ours, theirs)
    assert decibels(report) > GOOD
    assert [o["agreement"] is None for o in report.comparison["outputs"]] == [False, True]
    assert [o.name for o in onnx.load(file).graph.output] == ["scores", "priors"]


@pytest.mark.parametrize(
    "piece",
    [
        "cube = Pow(a, three) pool = GlobalAveragePool(cube) wide = Expand(pool, square) y = Pow(wide, third)",
        "c = Conv<pads=[1,1,1,1]>(a, w, low) r = Relu(c) y = Sqrt(r)",
        "c = Conv<pads=[1,1,1,1]>(a, w, low) r = Relu(c) y = LpNormalization<axis=2>(r)",
        "c = Conv<pads=[1,1,1,1]>(a, w) r = Clip(c, tiny) y = Log(r)",
        "c = Conv<pads=[1,1,1,1]>(a, w) r = Clip(c, minus, one) y = Acos(r)",
    ],
    ids=["generalised mean", "root", "norm", "logarithm", "arc cosine"],
)
def test_slopes_and_poles(tmp_path: Path, piece: str) -> None:
    """While learning: slopes that are infinite at 0, where half of the channels are, and poles that rounding would reach."""
    floats = {"three": 3.0, "third": 1 / 3, "tiny": 1e-6, "minus": -1.0, "one": 1.0}
    tensors = {name: np.float32(number) for name, number in floats.items()}
    low = np.where(np.arange(8) < 4, -40, 0.1).astype(np.float32)
    _, report = quantized(net(piece, low=low, square=np.array([1, 8, 4, 4]), **tensors), tmp_path, iterations=12)
    assert decibels(report) > GOOD


PADDED = {
    "pad": "p = Pad(x, one, low) y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(p)",
    "pad, rounded up": "p = Pad(x, one, low) y = MaxPool<kernel_shape=[3,3], strides=[3,3], ceil_mode=1>(p)",
    "wide pad": "p = Pad(x, wide, low) y = MaxPool<kernel_shape=[2,2], strides=[3,3]>(p)",
    "pad for two": "p = Pad(x, one, low) m = MaxPool<kernel_shape=[3,3]>(p) n = MaxPool<kernel_shape=[3,3], strides=[1,1]>(p) "
    "y = Add(m, n)",
    "global": "p = Pad(x, one, low) g = GlobalMaxPool(p) y = Expand(g, square)",
    "concat": "p = Concat<axis=2>(x, rows) y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(p)",
    "mask": "p = Where(mask, x, low) y = MaxPool<kernel_shape=[4,4], strides=[4,4]>(p)",
    "mask, turned": "p = Where(mask, x, low) t = Transpose<perm=[0,1,3,2]>(p) y = MaxPool<kernel_shape=[4,4]>(t)",
    "before a Relu": "p = Pad(x, one, low) y = Relu(p)",
    "before a Clip": "p = Pad(x, one, low) y = Clip(p, nought)",
    "before a Relu, then a maximum": "p = Pad(x, one, low) r = Relu(p) y = MaxPool<kernel_shape=[3,3]>(r)",
}

UNPADDED = 15.0  # dB: of paddings, the same networks without the padding have 17 to 25, and with the number on a grid 0 to 6


FINITE = ("pad", "mask", "before a Relu")  # of which numbers that are not infinite are tried in the default suite as well


@pytest.mark.parametrize(
    ("way", "low"),
    [
        *((way, -np.inf) for way in PADDED),
        *(pytest.param(way, -1e4, marks=[] if way in FINITE else pytest.mark.slow) for way in PADDED),
    ],
)
def test_padding_that_no_result_has(tmp_path: Path, way: str, low: float) -> None:
    """x has both signs, so it is not zeros that could pad it."""
    mask = np.ones((1, 1, 16, 16), bool)
    mask[..., 14:] = False
    tensors = {
        "low": np.float32(low),
        "rows": np.full((1, 8, 1, 16), low, np.float32),
        "nought": np.float32(0),
        "mask": mask,
        "one": np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        "wide": np.array([0, 0, 1, 1, 0, 0, 2, 2]),
        "square": np.array([1, 8, 4, 4]),
    }
    proto = net(f"x = Conv<pads=[1,1,1,1]>(a, w, b) {PADDED[way]}", batch="1" if way == "concat" else "N", **tensors)
    _, report = quantized(proto, tmp_path)
    assert decibels(report) > UNPADDED


def joined(gain: float, piece: str = "p = Mul(r, gain) y = Concat<axis=1>(p, q)") -> onnx.ModelProto:
    """Four channels that span `gain` times as much as four others, read by a convolution with weights that make up for it."""
    rng = np.random.default_rng(5)
    proto = net(
        f"c = Conv(a, half) r = Relu(c) d = Conv(a, other) q = Sigmoid(d) {piece}",
        half=he(rng, 4, 8, 1, 1),
        other=he(rng, 4, 8, 1, 1),
        gain=np.float32(gain),
    )
    weights = next(t for t in proto.graph.initializer if t.name == "second")
    fitting = numpy_helper.to_array(weights).copy()
    fitting[:, :4] /= gain
    weights.CopyFrom(numpy_helper.from_array(fitting, "second"))
    return proto


DIFFERENT = ("portable", "qnn", "vitis")  # the ends of what targets ask for: nothing; gates in floats; one power of two a tensor


@pytest.mark.parametrize(
    "target", [pytest.param(target, marks=[] if target in DIFFERENT else pytest.mark.slow) for target in ALL_TARGETS]
)
def test_operands_that_one_grid_cannot_hold(tmp_path: Path, target: str) -> None:
    _, report = quantized(joined(500), tmp_path, target)
    assert decibels(report) > UNPADDED
    assert "'y'" in report.kept_float["conv2"]
    assert any("'q' at 8 bits" in text and "dB" in text for text in report.notices)


@pytest.mark.parametrize("bits", [4, 8])
def test_operands_behind_a_pool_and_a_second_join(tmp_path: Path, bits: int) -> None:
    piece = "p = Mul(r, gain) j = Concat<axis=1>(p, q) y = MaxPool<kernel_shape=[2,2]>(j)"
    _, report = quantized(joined(500, piece), tmp_path, bits=bits)
    assert "conv2" in report.kept_float


def test_operands_of_like_range_stay_in_integers(tmp_path: Path) -> None:
    _, report = quantized(joined(3), tmp_path)
    assert not report.kept_float
    assert not any("Concat" in text for text in report.notices)
