"""The grids beside a float model as AIMET and MNN read them, taken apart by readers of our own."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import genie_onnx
from genie_onnx import ConfigError, PlacementConfig, QuantizeConfig, ReconstructConfig, Target
from genie_onnx.targets import TARGETS

# s is read behind its Relu and before it; the second Add has a Relu, and a convolution behind that
NET = """
< ir_version: 8, opset_import: ["" : 17] >
g (float[N, 2, 8, 8] image) => (float[N, 3] y)
< float[4, 2, 3, 3] w1, float[4] b1, float[4, 4, 3, 3] w2, float[4, 4, 1, 1] w3, float[4, 4, 3, 3] w4, float[4, 1, 3, 3] w5,
  float[3, 4] w6, float[3] b6 >
{
    s = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(image, w1, b1)
    r = Relu(s)
    t = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(r, w2)
    u = Conv<kernel_shape = [1, 1]>(s, w3)
    a = Add(t, u)
    ar = Relu(a)
    d = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(ar, w4)
    dr = Relu(d)
    e = Conv<kernel_shape = [3, 3], group = 4>(dr, w5)
    er = Relu(e)
    p = AveragePool<kernel_shape = [6, 6]>(er)
    f = Flatten(p)
    y = Gemm<transB = 1>(f, w6, b6)
}
"""
SHAPES = {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "w3": (4, 4, 1, 1), "w4": (4, 4, 3, 3), "w5": (4, 1, 3, 3)}
SHAPES |= {"w6": (3, 4), "b6": (3,)}
WANTED = genie_onnx.Requirements(accept_useless=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = parser.parse_model(NET)
    rng = np.random.default_rng(1)
    for name, shape in SHAPES.items():
        net.graph.initializer.append(numpy_helper.from_array(rng.normal(0.1, 0.5, shape).astype(np.float32), name))
    path = tmp_path_factory.mktemp("tools") / "net.onnx"
    onnx.save(net, path)
    return path


def config(target: Target, wbits: int, abits: int, other: int = 8) -> QuantizeConfig:
    placement = PlacementConfig(wbits=wbits, abits=abits, other_bits=other, points="full")
    return QuantizeConfig(
        target=target, placement=placement, samples=8, images="procedural", reconstruct=ReconstructConfig(iterations=0)
    )


Made = tuple[onnx.ModelProto, dict[str, Any], dict[str, Any]]
Maker = Callable[[str, int, int], Made]


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Gives the float model, our own table, and the one for the tool; each is made once."""
    return functools.cache(lambda tool, wbits, abits: _made(model, tmp_path_factory.mktemp("made"), tool, wbits, abits))


def _made(model: Path, folder: Path, tool: str, wbits: int, abits: int) -> Made:
    target = TARGETS["encodings"].with_grids_for(tool)  # type: ignore[arg-type]
    result = genie_onnx.quantize(model, folder / "q.onnx", config=config(target, wbits, abits), requirements=WANTED)
    own, theirs = (json.loads((folder / f"q.{name}.json").read_text()) for name in ("encodings", tool))
    return onnx.load(result.output), own, theirs


@pytest.mark.parametrize(("wbits", "abits"), [(8, 8), (4, 4), (2, 2)])
def test_aimet_reads_every_grid(made: Maker, wbits: int, abits: int) -> None:
    proto, own, table = made("aimet", wbits, abits)
    assert table["version"] == "1.0.0"
    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    found = {entry["name"]: entry for entry in table["param_encodings"]}
    assert found.keys() == own["weights"].keys()
    for name, entry in found.items():
        channels = len(floats[name])
        assert (entry["enc_type"], len(entry["scale"]), len(entry["offset"])) == ("PER_CHANNEL", channels, channels)
        shape = (-1, *(1,) * (floats[name].ndim - 1))
        scale, offset = (np.array(entry[key]).reshape(shape) for key in ("scale", "offset"))
        codes = np.rint(floats[name] / scale - offset)  # value = scale (code + offset)
        assert codes.min() >= 0
        assert codes.max() <= 2 ** entry["bw"] - 1
        np.testing.assert_allclose(scale * (codes + offset), floats[name], rtol=1e-6, atol=1e-9)
        assert entry["is_sym"] == (set(entry["offset"]) == {-(2 ** (entry["bw"] - 1))})
    values = {entry["name"]: entry for entry in table["activation_encodings"]}
    assert values.keys() == own["values"].keys()
    for name, entry in values.items():
        (scale,), (offset,) = entry["scale"], entry["offset"]
        ends = [scale * offset, scale * (2 ** entry["bw"] - 1 + offset)]
        np.testing.assert_allclose(ends, [own["values"][name][end] for end in ("min", "max")], rtol=1e-6, atol=1e-9)


def test_what_aimet_ties_has_one_grid(made: Maker) -> None:
    _, own, _ = made("aimet", 4, 4)
    groups = {name: entry["group"] for name, entry in own["values"].items()}
    assert groups["s"] == groups["r"]
    assert groups["er"] == groups["p"]
    assert "a" not in groups  # a Relu whose input nobody rounds is tied to nothing
    _, free, _ = made("mnn", 4, 4)
    assert free["values"]["s"]["group"] != free["values"]["r"]["group"]


def representable(entry: dict[str, Any]) -> np.ndarray:
    codes = np.arange(entry["clampMin"], entry["clampMax"] + 1)
    assert codes[0] >= -128
    assert codes[-1] <= 127
    return (codes - entry["zeroPoint"]) * entry["scales"][0]


@pytest.mark.parametrize(("wbits", "abits", "behind"), [(4, 4, True), (4, 8, False), (8, 8, False)])
def test_mnn_has_the_codes_of_integer_convolutions(made: Maker, wbits: int, abits: int, behind: bool) -> None:
    proto, own, table = made("mnn", wbits, abits)
    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    layers = {layer["weight"][0]["name"]: layer for layer in table["algo"][0]["quantParams"]["layer"]}
    # w4 reads what an Add with a Relu wrote: of 8 bits from 0 on, MNN would cut it at the wrong code; a Gemm is none of its
    assert set(layers) == {"w1", "w2", "w3", "w5"} | ({"w4"} if behind else set())
    for name, layer in layers.items():
        (weight,) = layer["weight"]
        scale = np.array(weight["scales"]).reshape(-1, 1, 1, 1)
        codes = np.rint(floats[name] / scale)
        np.testing.assert_allclose(codes * scale, floats[name], rtol=1e-6, atol=1e-9)
        assert (codes.min(), codes.max()) == (weight["clampMin"], weight["clampMax"])
        assert weight["bits"] == 8  # of the container
        for side in ("input", "output"):
            (entry,) = layer[side]
            grid = own["values"][entry["name"]]
            points = grid["scale"] * (np.arange(2 ** grid["bits"]) - grid["zero_point"])
            np.testing.assert_allclose(representable(entry), points, rtol=1e-6)
            assert entry["bits"] == 8
        assert layer["opName"] == layer["output"][0]["name"]
    assert layers["w2"]["output"][0]["name"] == "t"
    assert layers["w5"]["output"][0]["name"] == "er"
    if behind:
        assert layers["w4"]["input"][0]["zeroPoint"] == 0  # where MNN's Relu behind an Add cuts


def test_only_a_float_model_has_grids_beside_it() -> None:
    with pytest.raises(ValueError, match="grids for aimet lie beside a float model"):
        TARGETS["portable"].with_grids_for("aimet")


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run for portable."""
    output = tmp_path_factory.mktemp("run") / "p.onnx"
    return genie_onnx.quantize(model, output, config=config(TARGETS["portable"], 4, 4), requirements=WANTED).run_dir


def test_an_export_has_them_too(run: Path) -> None:
    again = genie_onnx.export(run, TARGETS["encodings"].with_grids_for("mnn"), requirements=WANTED)
    assert again.output == run.parent / "p.encodings.onnx"
    assert (run.parent / "p.encodings.mnn.json").is_file()
    with pytest.raises(ConfigError, match="values share a grid there"):  # AIMET's ties are other numbers
        genie_onnx.export(run, TARGETS["encodings"].with_grids_for("aimet"), requirements=WANTED)


@pytest.mark.skipif(importlib.util.find_spec("aimet_onnx") is None, reason="aimet-onnx is not installed")
def test_aimet_itself_reads_them(made: Maker) -> None:
    from aimet_onnx.quantsim import QuantizationSimModel, load_encodings_to_sim

    proto, _, table = made("aimet", 4, 4)
    sim = QuantizationSimModel(proto, dummy_input={"image": np.zeros((1, 2, 8, 8), np.float32)}, quant_scheme="min_max")
    load_encodings_to_sim(sim, table, strict=False)
    for entry in table["param_encodings"] + table["activation_encodings"]:
        grids = sim.qc_quantize_op_dict[entry["name"]].get_encodings()
        np.testing.assert_allclose([grid.delta for grid in grids], entry["scale"], rtol=1e-6)
        assert [round(grid.offset) for grid in grids] == entry["offset"]


def test_the_opset_asked_for_is_that_of_the_file(run: Path, tmp_path: Path) -> None:
    for name, opset in [("portable", 13), ("portable", 21), ("int4", 23), ("encodings", 11)]:
        form = dataclasses.replace(TARGETS[name].form, opset=opset)
        target = dataclasses.replace(TARGETS[name], form=form)
        again = genie_onnx.export(run, target, tmp_path / f"{name}.onnx", requirements=WANTED)
        assert again.report.parity["ok"]
        assert [entry.version for entry in onnx.load(again.output).opset_import] == [opset]
    for name, opset, said in [
        ("portable", 12, "needs opset 13 or later, not 12"),
        ("int4", 17, "needs opset 21 or later, not 17"),
        ("portable", 99, "is not known to onnx"),
        ("encodings", 6, "needs opset 7 or later"),
    ]:
        target = dataclasses.replace(TARGETS[name], form=dataclasses.replace(TARGETS[name].form, opset=opset))
        with pytest.raises(ConfigError, match=said):
            genie_onnx.export(run, target, tmp_path / "no.onnx", requirements=WANTED)
