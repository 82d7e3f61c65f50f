"""Every row of the table: its file obeys it, computes what was simulated, and is refused what it cannot hold."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from small_bn_net import SHAPE, small_bn_net

import genie_onnx
from genie_onnx import ConfigError, DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig, Target
from genie_onnx.config import from_json, to_json
from genie_onnx.targets import TARGETS, Constraints
from genie_onnx.validate import broken_rules, run

QUICK = QuantizeConfig(
    samples=12, images="procedural", distill=DistillConfig(iterations=2), reconstruct=ReconstructConfig(iterations=3)
)
X = np.random.default_rng(0).standard_normal((1, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with an open batch, as a file."""
    path = tmp_path_factory.mktemp("targets") / "net.onnx"
    onnx.save(small_bn_net(), path)
    return path


def settings(target: Target, bits: int = 4) -> QuantizeConfig:
    """QUICK at `bits`, values at the nearest width that `target` holds."""
    low, high = target.constraints.value_bits
    abits = min(max(bits, low), high)
    return dataclasses.replace(QUICK, target=target, placement=PlacementConfig(wbits=bits, abits=abits, setting="qdrop"))


def initializers(file: onnx.ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in file.graph.initializer}


@pytest.mark.parametrize("name", TARGETS)
def test_the_file_obeys_its_row(name: str, model: Path, tmp_path: Path) -> None:
    target = TARGETS[name]
    constraints, form = target.constraints, target.form
    result = genie_onnx.quantize(model, tmp_path / "q.onnx", config=settings(target))
    assert result.report.parity["ok"]
    file = onnx.load(result.output)
    onnx.checker.check_model(file, full_check=True)
    table = json.loads((tmp_path / "q.encodings.json").read_text())
    tensors, nodes = initializers(file), list(file.graph.node)
    producers = {output: node for node in nodes for output in node.output}
    if form.style == "float":
        assert {node.op_type for node in nodes}.isdisjoint({"QuantizeLinear", "DequantizeLinear"})
        assert sorted(table["weights"]) == ["w1", "w2", "w3"]
        return

    if form.style == "qonnx":
        assert broken_rules(file, target) == []
        assert {node.op_type for node in nodes}.isdisjoint({"QuantizeLinear", "DequantizeLinear", "Clip"})
        quants = [node for node in nodes if node.op_type == "Quant"]
        assert len(quants) == len(table["weights"]) + len(table["values"]) + (form.reader == "hls4ml")  # its average
        assert not any(numpy_helper.to_array(tensors[node.input[2]]).any() for node in quants)
        assert [dim.dim_value for dim in file.graph.input[0].type.tensor_type.shape.dim] == [1, *SHAPE]
        twin = genie_onnx.export(result.run_dir, dataclasses.replace(target, form=form.in_onnx), tmp_path / "twin.onnx").output
        np.testing.assert_array_equal(*(run(f, {"image": X}, optimise=False)["scores"] for f in (file, twin)))
        return

    quantizers = [node for node in nodes if node.op_type == "QuantizeLinear"]
    kinds = {tensors[node.input[2]].data_type for node in quantizers}
    assert kinds == {TensorProto.UINT8 if form.values == "uint8" else TensorProto.INT8}
    if form.values == "int8":
        assert all(not numpy_helper.to_array(tensors[node.input[2]]).any() for node in quantizers)
    stored = {name: table["weights"][name]["stored"]["dtype"] for name in ("w1", "w2", "w3")}
    small = {"int8"} if form.weights == "int8" else {"int4"} if constraints.weight_grid == "symmetric" else {"int4", "uint4"}
    assert stored["w2"] in small
    assert stored["w1"] == stored["w3"] == "int8"
    clips = [node for node in nodes if node.op_type == "Clip"]
    clipped = {producers[node.input[0]].op_type for node in clips}
    assert (clipped == {"QuantizeLinear"}) == (form.clip == "codes")
    layers = [node for node in nodes if node.op_type in ("Conv", "Gemm")]
    biases = {node.input[2] in tensors for node in layers if len(node.input) > 2}
    assert biases == {form.bias == "float"}
    if constraints.scales == "power-of-two":
        scales = np.concatenate([np.ravel(numpy_helper.to_array(tensors[node.input[1]])) for node in quantizers])
        assert (np.log2(scales) % 1 == 0).all()
    if constraints.weight_scale == "tensor":
        assert all(isinstance(entry["scale"], float) for entry in table["weights"].values())
    opset = max(entry.version for entry in file.opset_import)
    assert form.largest_opset is None or opset <= form.largest_opset
    batch = file.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.HasField("dim_value") == (form.batch == "fixed")
    output = file.graph.output[0].name
    assert (producers[output].op_type == "DequantizeLinear") == (constraints.outputs == "rounded")
    assert run(file, {"image": X}).keys() == {output}


def test_symmetric_weights_have_symmetric_codes(model: Path, tmp_path: Path) -> None:
    symmetric = dataclasses.replace(TARGETS["portable"], constraints=Constraints(weight_grid="symmetric"))
    genie_onnx.quantize(model, tmp_path / "q.onnx", config=settings(symmetric))
    genie_onnx.quantize(model, tmp_path / "p.onnx", config=settings(TARGETS["portable"]))
    found = [json.loads((tmp_path / f"{n}.encodings.json").read_text())["weights"]["w2"]["zero_point"] for n in ("q", "p")]
    assert set(found[0]) == {8}
    assert set(found[1]) != {8}


def test_encodings_say_what_the_codes_stand_for(model: Path, tmp_path: Path) -> None:
    result = genie_onnx.quantize(model, tmp_path / "q.onnx", config=settings(TARGETS["encodings"], bits=3))
    table = json.loads((tmp_path / "q.encodings.json").read_text())
    weight = numpy_helper.to_array(initializers(onnx.load(result.output))["w2"])
    entry = table["weights"]["w2"]
    scale, zero_point = (np.asarray(entry[key], np.float32).reshape(-1, 1, 1, 1) for key in ("scale", "zero_point"))
    codes = weight / scale + zero_point
    assert np.abs(codes - np.rint(codes)).max() < 1e-4
    assert codes.min() > -0.01
    assert codes.max() < 7.01
    assert entry["dtype"] == "uint3"
    np.testing.assert_allclose(entry["min"], (scale * (0 - zero_point)).ravel(), rtol=1e-6)
    np.testing.assert_allclose(entry["max"], (scale * (7 - zero_point)).ravel(), rtol=1e-6)
    assert [block["name"] for block in table["blocks"]]
    metadata = {entry.key: entry.value for entry in onnx.load(result.output).metadata_props}
    assert json.loads(metadata["genie_onnx.weights"])["w2"]["bits"] == 3
    assert json.loads(metadata["genie_onnx.weights"])["w2"]["max"] == pytest.approx(max(entry["max"]))
    assert list(json.loads(metadata["genie_onnx.blocks"])) == [block["name"] for block in table["blocks"]]


@pytest.mark.parametrize(
    ("name", "placement", "said"),
    [
        ("rknn", PlacementConfig(abits=2), r"target rknn holds values of 8 bits, not 2 \(--abits\): use 8"),
        ("vitis", PlacementConfig(abits=8, other_bits=4), r"not 4 \(--other-bits\)"),
        ("int4", PlacementConfig(wbits=8), "all weights would have 8 or more: use --wbits 4"),
    ],
)
def test_bits_that_a_target_cannot_hold_are_refused(name: str, placement: PlacementConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        QuantizeConfig(target=TARGETS[name], placement=placement)


@pytest.mark.parametrize("name", TARGETS)
def test_settings_survive_json(name: str) -> None:
    config = settings(TARGETS[name])
    assert from_json(to_json(config)) == config


def test_reduced_range_is_symmetric_in_seven_bits(model: Path, tmp_path: Path) -> None:
    config = settings(TARGETS["portable"])
    config = dataclasses.replace(config, placement=dataclasses.replace(config.placement, reduce_range=True))
    result = genie_onnx.quantize(model, tmp_path / "q.onnx", config=config)
    assert result.report.weights == {"w1": 7, "w2": 4, "w3": 7}
    codes = numpy_helper.to_array(initializers(onnx.load(result.output))["w1_quantized"])
    assert codes.min() >= -64
    assert codes.max() <= 63


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    return genie_onnx.quantize(model, folder / "p.onnx", config=settings(TARGETS["portable"])).run_dir


@pytest.mark.parametrize("name", ["int4", "iree", "tvm", "encodings", "onnxruntime"])
def test_the_same_codes_in_another_form(name: str, finished: Path, tmp_path: Path) -> None:
    again = genie_onnx.export(finished, TARGETS[name], tmp_path / "again.onnx")
    assert again.report.parity["ok"]
    assert again.report.settings["target"]["name"] == name
    files = finished.parent / "p.encodings.json", tmp_path / "again.encodings.json"
    before, after = (json.loads(path.read_text()) for path in files)
    for kind in ("weights", "values"):
        assert _without_storage(before[kind]) == _without_storage(after[kind])
    x = np.repeat(X, 3, 0)
    if name != "encodings":
        outputs = [run(path, {"image": x}, optimise=False) for path in (finished.parent / "p.onnx", again.output)]
        np.testing.assert_allclose(outputs[0]["scores"], outputs[1]["scores"], rtol=1e-5, atol=1e-6)


def test_other_numbers_are_refused_and_learned_again_when_asked(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tensorrt needs other numbers .* of 8 bits are not symmetric .* --reoptimize"):
        genie_onnx.export(finished, TARGETS["tensorrt"], tmp_path / "again.onnx")
    assert list(tmp_path.iterdir()) == []
    again = genie_onnx.export(finished, TARGETS["tensorrt"], tmp_path / "again.onnx", reoptimize=True)
    assert again.report.parity["ok"]
    images = [np.load(path / "images.npz")["images"] for path in (finished, again.run_dir)]
    np.testing.assert_array_equal(np.sort(images[0].sum((1, 2, 3))), np.sort(images[1].sum((1, 2, 3))))


def test_one_grid_for_several_values_can_be_written_down_as_several_but_not_the_other_way_round(
    model: Path, tmp_path: Path
) -> None:
    """rknn has an average pool on the grid of what it reads, portable does not."""
    made = {}
    for name in ("rknn", "portable"):
        made[name] = genie_onnx.quantize(model, tmp_path / f"{name}.onnx", config=settings(TARGETS[name], 8)).run_dir
    again = genie_onnx.export(made["rknn"], TARGETS["portable"], tmp_path / "again.onnx")
    assert again.report.parity["ok"]
    with pytest.raises(ConfigError, match="values share a grid there and have several here"):
        genie_onnx.export(made["portable"], TARGETS["rknn"], tmp_path / "again.onnx")


def test_bits_beyond_the_target_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"target rknn holds values of 8 bits.* Bits are options of quantize, not of export: "):
        genie_onnx.export(finished, TARGETS["rknn"], tmp_path / "again.onnx")


def test_a_run_that_is_not_finished_or_not_there(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not hold a finished run .* no settings.json"):
        genie_onnx.export(tmp_path, TARGETS["int4"])
    result = genie_onnx.quantize(model, tmp_path / "p.onnx", config=settings(TARGETS["portable"]))
    source = result.run_dir / "source.json"
    whole = source.read_text()
    source.write_text(whole[:-20])
    with pytest.raises(ConfigError, match=r"source\.json or report\.json is damaged"):
        genie_onnx.export(result.run_dir, TARGETS["int4"])
    source.write_text(whole)
    (result.run_dir / "grids.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"it has no grids\.safetensors\. The same quantize command goes on"):
        genie_onnx.export(result.run_dir, TARGETS["int4"])


def test_another_model_is_not_taken(finished: Path, tmp_path: Path) -> None:
    other = small_bn_net()
    changed = initializers(other)["w1"]
    changed.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(changed), "w1"))
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(ConfigError, match="is not the model of the run"):
        genie_onnx.export(finished, TARGETS["int4"], tmp_path / "again.onnx", model=tmp_path / "other.onnx")
    with pytest.raises(ConfigError, match="is not there any more: give it with --model"):
        genie_onnx.export(finished, TARGETS["int4"], tmp_path / "again.onnx", model=tmp_path / "none.onnx")


def _without_storage(entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {key: value for key, value in entry.items() if key != "stored"} for name, entry in entries.items()}
