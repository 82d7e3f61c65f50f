"""What `inspect` says about a network that has one of everything: in words, and in JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from genie_onnx_cli.main import main

import genie_onnx
from genie_onnx import PlacementConfig, QuantizeConfig
from genie_onnx.config import ClosedFormConfig
from genie_onnx.targets import PORTABLE, Constraints

ONE_SCALE = dataclasses.replace(PORTABLE, constraints=Constraints(weight_scale="tensor"))
WEIGHTS = {"w1": (4, 3, 3, 3), "w2": (4, 4, 3, 3), "w3": (4, 2, 3, 3), "w4": (5, 4, 1, 1)}
TEXT = """
<ir_version: 8, opset_import: ["" : 17], producer_name: "test">
net (float[1, 3, H, 16] image) => (float[1, 5, h, 8] scores) {
    a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (image, w1)
    n = BatchNormalization (a, s, s, s, s)
    r = Relu (n)
    b = Conv <pads = [1, 1, 1, 1]> (r, w2)
    k = HardSwish (b)
    c = Conv <pads = [1, 1, 1, 1]> (k, w2)
    sum = Add (c, r)
    t = ConvTranspose <pads = [1, 1, 1, 1], group = 2> (sum, w3)
    y = Conv (t, w4)
    scores = Softmax <axis = 1> (y)
}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The network as a file, its nodes named after their outputs."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(TEXT)
    arrays = {name: rng.standard_normal(shape) for name, shape in WEIGHTS.items()} | {"s": np.arange(1.0, 5.0)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items())
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def printed(*arguments: object) -> str:
    """Return what the command line prints."""
    result = CliRunner().invoke(main, ["inspect", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_finding_is_there(model: Path) -> None:
    found = genie_onnx.inspect(model, input_size=(16, 16))
    assert found.fixed == {"batch": 1, "width": 16}
    assert (found.batchnorms, found.convolutions, found.uncovered) == (1, 5, ("b", "c", "t", "y"))
    assert found.strided == ("a",)
    assert found.tied == {"w2": ("b", "c")}
    assert found.export_call is None
    nodes = {node.name: node for block in found.blocks for node in block.nodes}
    assert {name: (n.wbits, n.abits) for name, n in nodes.items() if n.weight} == {
        "a": (8, 8), "b": (4, 8), "c": (4, 4), "t": (None, 8), "y": (8, 8),
    }  # fmt: skip
    assert {name: n.float_reason for name, n in nodes.items() if n.float_reason} == {
        "k": "no integer kernel in onnxruntime",
        "t": "its weight has no axis that counts output channels: ConvTranspose is quantised with group = 1 only",
        "scores": "behind the last layers",
    }
    assert {v.name: (v.bits, v.why) for v in found.activations}["r"] == (
        8,
        "written by Conv 'a'; input of second layer 'b'; read by Add 'sum'",
    )


def test_the_tree_has_the_layers_and_verbose_every_node_and_value(model: Path) -> None:
    short, long = printed(model, "--input-size", "16x16"), printed(model, "--input-size", "16x16", "-v")
    for text in (short, long):
        for line in (
            "input   image [1, 3, H, 16]   fixed: batch 1, width 16",
            "Conv a  4x3x3x3 stride 2x2  W8A8",
            "ConvTranspose t  4x2x3x3  float: its weight has no axis",
            "tied: w2 is the weight of b, c",
            "float: HardSwish 1: no integer kernel in onnxruntime",
            "known of 1 of 5 convolutions",
        ):
            assert line in text, line
    assert "Relu 1" in short
    assert "Relu r" not in short
    assert "Relu r" in long
    assert "  8 bits  r: written by Conv 'a'; input of second layer 'b'; read by Add 'sum'" in long
    assert len(short.splitlines()) < len(long.splitlines())


def test_json_has_all_of_it(model: Path) -> None:
    data = json.loads(printed(model, "--input-size", "16x16", "--json"))
    assert data["strided"] == ["a"]
    assert data["tied"] == {"w2": ["b", "c"]}
    assert [n["name"] for b in data["blocks"] for n in b["nodes"]] == ["a", "r", "b", "k", "c", "sum", "t", "y", "scores"]


def test_options_of_placement_are_those_of_quantize(model: Path) -> None:
    asked = ("--wbits", 3, "--abits", 5, "--first-last-bits", 7, "--other-bits", 6, "--setting", "qdrop", "--bits", "y=2/4")
    text = printed(model, "--input-size", "16x16", *asked, "--keep-float", "c")
    assert "W7A6" in text
    assert "Conv y  5x4x1x1  W2A4" in text
    assert "Conv b  4x4x3x3  float: its weight 'w2' is tied with Conv 'c', which stays float" in text
    assert "  float: c: asked for with --keep-float 'c'" in text
    assert "  float: b: its weight 'w2' is tied with Conv 'c', which stays float" in text
    assert "layers in integer kernels of onnxruntime: 0 of 5" in text


def test_a_model_without_statistics_is_told_how_to_keep_them(model: Path) -> None:
    proto = onnx.load(model)
    batchnorm = next(n for n in proto.graph.node if n.op_type == "BatchNormalization")
    batchnorm.CopyFrom(onnx.helper.make_node("Identity", ["a"], ["n"]))
    onnx.save(proto, model)
    text = printed(model, "--input-size", "16x16")
    assert "to keep BatchNormalization: torch.onnx.export(model.eval(), x, file, optimize=False)" in text


def test_a_hundred_layers_stay_readable(tmp_path: Path) -> None:
    """A line a layer, a line a block, and no list of values."""
    layers = " ".join(f"c{i} = Conv <pads = [1, 1, 1, 1]> (r{i}, w{i}) r{i + 1} = Relu (c{i})" for i in range(100))
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[N, 2, 8, 8] r0) => (float[N, 2, 8, 8] r100) {{ {layers} }}'
    )
    weight = np.ones((2, 2, 3, 3), np.float32)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(weight, f"w{i}") for i in range(100))
    onnx.save(proto, tmp_path / "deep.onnx")
    found = genie_onnx.inspect(tmp_path / "deep.onnx")
    assert len(printed(tmp_path / "deep.onnx").splitlines()) < 100 + len(found.blocks) + 20


GATED = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3, 8, 8] image) => (float[N, 4, 8, 8] y) {
    a = Conv <pads = [1, 1, 1, 1]> (image, w1)
    r = Relu (a)
    b = Conv <pads = [1, 1, 1, 1]> (r, w2)
    s = Sigmoid (b)
    c = Conv <pads = [1, 1, 1, 1]> (s, w3)
    p = Relu (c)
    q = Slice (p, zero, two, one)
    d = Conv <pads = [1, 1, 1, 1]> (q, w4)
    e = Relu (d)
    y = Conv (e, w5)
}
"""


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    """A network in which some channels can be scaled, some values are cut in two, and some are behind a Sigmoid."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(GATED)
    shapes = {"w1": (4, 3, 3, 3), "w2": (4, 4, 3, 3), "w3": (4, 4, 3, 3), "w4": (4, 2, 3, 3), "w5": (4, 4, 1, 1)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2])}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, tmp_path / "gated.onnx")
    return tmp_path / "gated.onnx"


def test_it_says_where_channels_are_equalised_and_what_is_in_the_way_elsewhere(gated: Path) -> None:
    found = genie_onnx.inspect(gated, config=QuantizeConfig(placement=PlacementConfig(first_last_bits=4)))
    assert set(found.equalised) == {"r", "e"}
    assert found.not_equalised == {
        "s": "it is behind Sigmoid 's', which does not commute with scaling channels",
        "p": "Slice 'q' reads it, and does not commute with scaling channels",
    }
    short, long = printed(gated, "--first-last-bits", 4), printed(gated, "--first-last-bits", 4, "-v")
    first = "channels equalised: 2 of 4 values of at most 7 bits; not s: it is behind Sigmoid 's', which does not commute with"
    assert f"{first} scaling channels ... (-v: the other 1)" in short
    assert first in long
    assert "  not p: Slice 'q' reads it" in long
    assert "not p" not in short
    data = json.loads(printed(gated, "--first-last-bits", 4, "--json"))
    assert (data["equalised"], data["not_equalised"]) == (list(found.equalised), found.not_equalised)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"closed_form": None}, None),
        ({"closed_form": ClosedFormConfig(equalise=False)}, "it is not asked for"),
        ({"target": ONE_SCALE}, "the target has one scale for all channels of a weight"),
        ({"placement": PlacementConfig(abits=8)}, None),
    ],
    ids=["no closed form", "switched off", "one scale", "8 bits"],
)
def test_where_nothing_is_equalised_there_is_one_reason(gated: Path, changes: dict[str, Any], said: str | None) -> None:
    found = genie_onnx.inspect(gated, config=QuantizeConfig(**changes))
    assert found.equalised == ()
    assert set(found.not_equalised.values()) == (set() if said is None else {said})
