"""Scales of channels that are as good as dead: half precision holds them, and nobody sees a difference; live ones stay."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from awkward_nets import decibels, he, net, quantized
from onnx import numpy_helper
from simulation import minmax_codes

from genie_onnx import graph
from genie_onnx.config import PlacementConfig
from genie_onnx.delivery import deliver as delivery
from genie_onnx.delivery.scale_floor import SEEN, with_floored_scales
from genie_onnx.graph import query
from genie_onnx.placement import Placement, place
from genie_onnx.qparams import QParams, QTensor, quantize
from genie_onnx.reconstruct import Codes
from genie_onnx.targets import TARGETS, Constraints
from genie_onnx.validate import run

RNG = np.random.default_rng(7)
X = {"image": np.random.default_rng(1).standard_normal((4, 3, 16, 16)).astype(np.float32)}
NORMAL = 2.0**-14  # float16's smallest normal number
PIECES = {  # what makes y of a by `small` [8 channels along axis], with the bias `big`
    "convolution": ("c = Conv<pads=[1,1,1,1]>(a, small, big) y = Relu(c)", he(RNG, 8, 8, 3, 3), 0),
    "depthwise": ("c = Conv<pads=[1,1,1,1], group=8>(a, small, big) y = Clip(c, zero, six)", he(RNG, 8, 1, 3, 3), 0),
    "transposed": ("c = ConvTranspose(a, small, big) y = Relu(c)", he(RNG, 8, 8, 3, 3), 1),
    "tied": ("c = Conv<pads=[1,1,1,1]>(a, small, big) d = Conv<pads=[1,1,1,1]>(c, small, b) y = Relu(d)", he(RNG, 8, 8, 3, 3), 0),
    "residual": ("c = Conv<pads=[1,1,1,1]>(a, small, big) d = Add(c, a) y = Relu(d)", he(RNG, 8, 8, 3, 3), 0),
    "dense": (
        "g = GlobalAveragePool(a) f = Flatten(g) c = Gemm(f, small, big) r = Reshape(c, square) y = Relu(r)",
        he(RNG, 8, 8),
        1,
    ),
}


def network(layer: str, size: float, channel: int = 3) -> onnx.ModelProto:
    """PIECES[layer] with one channel that small, and a bias in it that is not."""
    piece, weight, axis = PIECES[layer]
    weight, bias = weight.copy(), RNG.normal(0, 0.3, 8).astype(np.float32)
    np.moveaxis(weight, axis, 0)[channel] *= np.float32(size)
    bias[channel] = 0.7
    numbers = {"square": np.array([-1, 8, 1, 1]), "zero": np.float32(0), "six": np.float32(6)}
    return net(piece, small=weight, big=bias, **numbers)


def placed(
    proto: onnx.ModelProto, bits: int = 8, constraints: Constraints | None = None
) -> tuple[ir.Model, Placement, Codes, Constraints]:
    """Its deploy graph, placement and min-max codes."""
    wanted = constraints or Constraints()
    deploy = graph.fold_batchnorm(graph.normalise(graph.load(proto)))
    placement = place(deploy, PlacementConfig(wbits=bits, abits=bits, setting="qdrop"), wanted)
    found = minmax_codes(deploy, placement, X)
    return deploy, placement, Codes(weights=found.weights, activations=found.activations), wanted


def fit(deploy: ir.Model, codes: Codes, name: str) -> Codes:
    """With the finest grid for each channel of a weight, as a search finds it."""
    weight = np.asarray(query.constant(deploy.graph.initializers[name]), np.float32)
    old = codes.weights[name].qparams
    top = np.abs(np.moveaxis(weight, old.axis or 0, 0).reshape(len(old.scale), -1)).max(1)
    grid = dataclasses.replace(
        old, scale=(top / (2 ** (old.bits - 1) - 1)).astype(np.float32), zero_point=np.full(len(top), 2 ** (old.bits - 1))
    )
    return dataclasses.replace(codes, weights={**codes.weights, name: quantize(weight, grid)})


def rows(weight: QTensor, axis: int) -> np.ndarray:
    return np.moveaxis(weight.centred(), axis, 0).reshape(weight.codes.shape[axis], -1)


def input_scale(deploy: ir.Model, placement: Placement, codes: Codes) -> float:
    node = next(n for n in deploy.graph if len(n.inputs) > 1 and n.inputs[1] is not None and n.inputs[1].name == "small")
    assert node.inputs[0] is not None
    group = placement.activation_of(str(node.inputs[0].name))
    assert group is not None
    return float(codes.activations[group.name].scale)


@pytest.mark.parametrize(("size", "bits"), [(1e-6, 4), (1e-9, 8), (1e-20, 8)])
@pytest.mark.parametrize("layer", PIECES)
def test_a_dead_channel_is_zero_and_its_scales_are_normal_in_half_precision(layer: str, size: float, bits: int) -> None:
    deploy, placement, codes, constraints = placed(network(layer, size), bits)
    codes = fit(deploy, codes, "small")
    floored = with_floored_scales(deploy, placement, codes, constraints)
    axis = PIECES[layer][2]
    before, after = codes.weights["small"], floored.weights["small"]
    assert before.qparams.scale[3] < 1e-6
    assert rows(before, axis)[3].any()
    assert not rows(after, axis)[3].any()
    assert after.qparams.scale[3] >= NORMAL
    assert after.qparams.scale[3] * np.float32(input_scale(deploy, placement, codes)) >= NORMAL
    live = [k for k in range(8) if k != 3]
    np.testing.assert_array_equal(rows(after, axis)[live], rows(before, axis)[live])
    np.testing.assert_array_equal(after.qparams.scale[live], before.qparams.scale[live])
    assert all(floored.weights[name] is codes.weights[name] for name in codes.weights if name != "small")


@pytest.mark.parametrize("size", [1e-2, 1e-1, 1.0])
def test_channels_that_are_seen_stay(size: float) -> None:
    deploy, placement, codes, constraints = placed(network("convolution", size))
    codes = fit(deploy, codes, "small")
    assert with_floored_scales(deploy, placement, codes, constraints) is codes


def test_layers_that_are_small_as_a_whole_stay() -> None:
    """Their outputs are on a grid as small: nothing in them is dead."""
    piece, weight, _ = PIECES["convolution"]
    deploy, placement, codes, constraints = placed(net(piece, small=weight * np.float32(1e-6), big=np.zeros(8, np.float32)))
    assert with_floored_scales(deploy, placement, fit(deploy, codes, "small"), constraints).weights["small"].centred().any()


@pytest.mark.parametrize("size", [1e-4, 3e-4])
def test_a_faint_channel_gets_coarser_steps_that_nobody_sees(size: float) -> None:
    """Its bias is stored in a power of two, which float16 holds exactly; its products move less than SEEN of an output's step."""
    deploy, placement, codes, constraints = placed(network("depthwise", size))
    codes = fit(deploy, codes, "small")
    floored = with_floored_scales(deploy, placement, codes, constraints)
    before, after = (c.weights["small"] for c in (codes, floored))
    x = codes.activations[str(placement.activation_of("a").name)]  # type: ignore[union-attr]
    y = codes.activations[str(placement.activation_of("y").name)]  # type: ignore[union-attr]
    moved = np.abs(after.dequantize() - before.dequantize())[3].sum() * float(x.scale) * x.qmax
    assert 0 < moved <= SEEN * float(y.scale)
    assert after.qparams.scale[3] > 2 * before.qparams.scale[3]
    product = float(after.qparams.scale[3]) * float(x.scale)
    assert np.float32(np.float16(product)) == pytest.approx(product, rel=1e-6)


def test_a_float_output_is_no_place_to_hide() -> None:
    """Scores are floats: a channel of tiny weights is seen there, unless its bias swallows it."""
    head = he(RNG, 5, 8)
    head[2] *= np.float32(1e-5)
    deploy, placement, codes, constraints = placed(net("y = Relu(a)", head=head))
    codes = fit(deploy, codes, "head")
    assert with_floored_scales(deploy, placement, codes, constraints) is codes
    swallowed = net("y = Relu(a)", head=head, tail=np.float32([1, 1, 3000, 1, 1]))
    swallowed.graph.node[-1].input.append("tail")
    swallowed.graph.initializer.append(numpy_helper.from_array(np.float32([1, 1, 3000, 1, 1]), "tail"))
    deploy, placement, codes, constraints = placed(swallowed)
    floored = with_floored_scales(deploy, placement, fit(deploy, codes, "head"), constraints)
    assert not rows(floored.weights["head"], 0)[2].any()
    assert rows(floored.weights["head"], 0)[1].any()


def test_powers_of_two_stay_powers_of_two() -> None:
    constraints = Constraints(scales="power-of-two")
    deploy, placement, codes, _ = placed(network("convolution", 1e-9), 8, constraints)
    codes = fit(deploy, codes, "small")
    powers = {
        name: dataclasses.replace(grid, scale=np.asarray(np.exp2(np.round(np.log2(grid.scale))), np.float32))
        for name, grid in codes.activations.items()
    }
    weight = codes.weights["small"]
    scale = np.exp2(np.ceil(np.log2(weight.qparams.scale))).astype(np.float32)
    weights = {**codes.weights, "small": quantize(weight.dequantize(), dataclasses.replace(weight.qparams, scale=scale))}
    codes = Codes(weights=weights, activations=powers)
    floored = with_floored_scales(deploy, placement, codes, constraints).weights["small"].qparams.scale
    assert (np.frexp(floored)[0] == 0.5).all()
    assert floored[3] * input_scale(deploy, placement, codes) >= NORMAL
    assert scale[3] < 1e-9


def test_one_scale_for_all_channels_is_that_of_the_live_ones() -> None:
    constraints = Constraints(weight_scale="tensor")
    deploy, placement, codes, _ = placed(network("convolution", 1e-9), 8, constraints)
    weight = codes.weights["small"].dequantize()
    codes = dataclasses.replace(codes, weights={**codes.weights, "small": quantize(weight, single_grid(weight))})
    assert with_floored_scales(deploy, placement, codes, constraints) is codes
    tiny = np.full_like(weight, 1e-12)
    codes = dataclasses.replace(codes, weights={**codes.weights, "small": quantize(tiny, single_grid(tiny))})
    floored = with_floored_scales(deploy, placement, codes, constraints).weights["small"]
    assert floored.qparams.scale.shape == ()
    assert floored.qparams.scale >= NORMAL
    assert not floored.centred().any()


def single_grid(weight: np.ndarray) -> QParams:
    """One symmetric grid of 8 bits for all channels."""
    return QParams(bits=8, scale=np.asarray(np.abs(weight).max() / 127, np.float32), zero_point=np.asarray(128, np.int64))


def halved(file: Path) -> onnx.ModelProto:
    """The file with the scales that a converter to half precision leaves: float16, and none below 1e-7."""
    proto = onnx.load(file)
    scales = {node.input[1] for node in proto.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in proto.graph.initializer:
        if tensor.name in scales:
            numbers = np.maximum(numpy_helper.to_array(tensor), 1e-7).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    return proto


@pytest.mark.parametrize("target", ["portable", "int4", "tensorrt", "vitis", "qnn", "encodings"])
def test_files_have_them_on_every_target(target: str, tmp_path: Path) -> None:
    """Simulated as they are written (parity is checked), and as good as ever."""
    bits = 4 if target == "int4" else 8
    file, report = quantized(network("convolution", 1e-9), tmp_path, target, bits)
    assert report.parity["ok"]
    assert decibels(report) > (20 if bits == 8 else 5)
    table = json.loads(file.with_suffix(".encodings.json").read_text())
    scale = np.ravel(table["weights"]["small"]["scale"])
    assert scale[3 % scale.size] >= NORMAL
    if TARGETS[target].constraints.weight_scale == "channel":  # else it is that of the live channels
        assert np.float32(scale[3]) * np.float32(table["values"]["a"]["scale"]) >= NORMAL


def test_a_halved_file_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not, where scales fit the channel: its bias is then stored in steps that half precision has not."""
    worst = []
    for folder, floor in (("with", with_floored_scales), ("without", lambda deploy, placement, codes, constraints: codes)):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(delivery, "with_floored_scales", floor)
        file, _ = quantized(network("convolution", 1e-6), tmp_path / folder)
        images = {"image": X["image"] * np.float32(0.5)}
        written, converted = (run(proto, images, optimise=False)["scores"] for proto in (onnx.load(file), halved(file)))
        worst.append(float(np.abs(written - converted).max() / np.abs(written).max()))
    assert worst[0] < 0.05
    assert worst[1] > 4 * worst[0]
