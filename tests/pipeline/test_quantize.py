"""The whole way from a float file to a verified one, on a network of a few kilobytes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from small_bn_net import SHAPE, small_bn_net

import genie_onnx
from genie_onnx import ConfigError, DistillConfig, ModelError, ParityError, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.events import Step

QUICK = QuantizeConfig(samples=16, distill=DistillConfig(iterations=3, batch_size=8), reconstruct=ReconstructConfig(iterations=4))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The small network with its BatchNorm, as a file."""
    path = tmp_path / "net.onnx"
    onnx.save(small_bn_net(), path)
    return path


def config(**changes: object) -> QuantizeConfig:
    """QUICK with some fields changed."""
    return dataclasses.replace(QUICK, **changes)  # type: ignore[arg-type]


def test_zero_shot_writes_a_file_that_computes_what_was_simulated(model: Path) -> None:
    result = genie_onnx.quantize(model, config=QUICK)
    assert result.output == model.with_suffix(".quant.onnx")
    report = result.report
    assert report.images == "distilled"
    assert report.parity["ok"]
    assert report.parity["kernels"]["integer"]["QLinearConv"] == 2
    assert report.weights == {"w1": 8, "w2": 4, "w3": 8}
    file = onnx.load(result.output)
    onnx.checker.check_model(file, full_check=True)
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert metadata["genie_onnx.images"] == "distilled"
    session = onnxruntime.InferenceSession(result.output, providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((3, *SHAPE), np.float32)})[0].shape == (3, 4)
    saved = json.loads(result.report_file.read_text())
    assert saved["comparison"]["outputs"][0]["name"] == "scores"


@pytest.mark.parametrize(("wbits", "abits"), [(2, 4), (8, 8), (3, 3)])
def test_every_width_keeps_parity(model: Path, wbits: int, abits: int) -> None:
    settings = config(images="procedural", placement=PlacementConfig(wbits=wbits, abits=abits, first_last_bits=wbits))
    result = genie_onnx.quantize(model, config=settings)
    assert result.report.parity["ok"]
    codes = {"w1": wbits, "w2": wbits, "w3": wbits}
    assert result.report.weights == codes
    file = onnx.load(result.output)
    stored = [onnx.numpy_helper.to_array(t) for t in file.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    rows = [t.astype(int).reshape(len(t), -1) for t in stored if t.ndim > 1]
    assert all((np.ptp(t, axis=1) < 2**wbits).all() for t in rows)


def test_native_int4(model: Path) -> None:
    result = genie_onnx.quantize(model, config=config(images="procedural", target=genie_onnx.TARGETS["int4"]))
    assert result.report.parity["ok"]
    types = {t.data_type for t in onnx.load(result.output).graph.initializer}
    assert types & {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}


def test_the_papers_points_leave_the_input_float(model: Path) -> None:
    points = PlacementConfig(points="layer-inputs")
    result = genie_onnx.quantize(model, config=config(images="procedural", placement=points))
    assert "image" not in result.report.activations
    assert result.report.parity["ok"]


def test_the_same_seed_gives_the_same_file_and_another_seed_another(model: Path, tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        result = genie_onnx.quantize(model, tmp_path / f"{name}.onnx", config=config(seed=seed))
        graph = onnx.load(result.output).graph
        files.append({t.name: t.raw_data for t in graph.initializer})
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_user_data_is_used_and_the_rest_is_held_back(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "data.npy", rng.standard_normal((40, *SHAPE)).astype(np.float32))
    result = genie_onnx.quantize(model, config=QUICK, data=[tmp_path / "data.npy"])
    assert (result.report.images, result.report.samples) == ("data", 16)
    assert (result.report.held_back, result.report.comparison["samples"]) == ("data", 24)
    few = genie_onnx.quantize(model, tmp_path / "few.onnx", config=config(samples=40), data=[tmp_path / "data.npy"])
    assert (few.report.samples, few.report.held_back) == (40, "procedural")


def test_a_killed_run_goes_on_and_ends_with_the_identical_file(model: Path, tmp_path: Path) -> None:
    whole = genie_onnx.quantize(model, tmp_path / "whole.onnx", config=QUICK)
    seen: list[genie_onnx.Event] = []

    def stop_in_the_second_block(event: genie_onnx.Event) -> None:
        seen.append(event)
        if isinstance(event, Step) and event.stage == "weights" and event.index == 1:
            raise KeyboardInterrupt

    half = tmp_path / "half.onnx"
    with pytest.raises(KeyboardInterrupt):
        genie_onnx.quantize(model, half, config=QUICK, progress=stop_in_the_second_block)
    assert not half.exists()
    events: list[genie_onnx.Event] = []
    genie_onnx.quantize(model, half, config=QUICK, progress=events.append)
    assert not any(isinstance(e, Step) and e.stage == "images" for e in events)
    assert not any(isinstance(e, Step) and e.stage == "weights" and e.index == 0 for e in events)
    assert half.read_bytes() == whole.output.read_bytes()


def test_a_run_directory_belongs_to_one_run(model: Path, tmp_path: Path) -> None:
    genie_onnx.quantize(model, config=config(images="procedural"), run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="another run: --seed was 0 and is now 1"):
        genie_onnx.quantize(model, config=config(images="procedural", seed=1), run_dir=tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not a run directory"):
        genie_onnx.quantize(model, config=config(images="procedural"), run_dir=tmp_path / "other")


def test_the_input_is_never_overwritten(model: Path) -> None:
    before = model.read_bytes()
    with pytest.raises(ConfigError, match="is the input itself"):
        genie_onnx.quantize(model, model, config=QUICK)
    assert model.read_bytes() == before


def test_distillation_needs_batchnorm(model: Path, tmp_path: Path) -> None:
    folded = tmp_path / "folded.onnx"
    proto = small_bn_net()
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            node.CopyFrom(onnx.helper.make_node("Identity", [node.input[0]], list(node.output), name=node.name))
    onnx.save(proto, folded)
    with pytest.raises(ConfigError, match="optimize=False"):
        genie_onnx.plan(folded, config=config(images="distill"))
    automatic = genie_onnx.plan(folded, config=QUICK)
    assert automatic.choice.kind == "refined"
    assert any("--data" in notice for notice in automatic.choice.notices)
    assert genie_onnx.quantize(folded, config=QUICK).report.images == "refined"


def test_dots_in_the_name_of_a_model_stay(tmp_path: Path) -> None:
    onnx.save(small_bn_net(), tmp_path / "net-v1.5")
    assert genie_onnx.plan(tmp_path / "net-v1.5").output == tmp_path / "net-v1.5.quant.onnx"


def test_a_container_that_the_graph_cannot_have_is_refused_before_the_run(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
        raise RuntimeError(f"no adapter to {version}")

    monkeypatch.setattr(onnx.version_converter, "convert_version", convert)
    with pytest.raises(ModelError, match=r"target int4 needs opset 21, .* \(no adapter to 21\); use --target portable"):
        genie_onnx.plan(model, config=config(target=genie_onnx.TARGETS["int4"]))
    assert genie_onnx.plan(model, config=config(target=genie_onnx.TARGETS["portable"])).output


def test_a_block_with_nothing_but_tied_weights_of_others_learns_nothing(tmp_path: Path) -> None:
    layers = " ".join(f"c{i} = Conv <pads = [1, 1, 1, 1]> (r{i}, w) r{i + 1} = Relu (c{i})" for i in range(8))
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>'
        f"net (float[N, 3, 8, 8] x, float[3, 3, 3, 3] w) => (float[N, 3, 8, 8] r8) {{ r0 = Relu (x) {layers} }}"
    )
    proto.graph.input.pop()
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 3, 3, 3), np.float32), "w"))
    plan = genie_onnx.plan(proto, tmp_path / "y.onnx", config=QUICK)
    assert len(plan.prepared.blocks) > 1
    assert plan.learned_blocks == 1


def test_plan_writes_nothing(model: Path) -> None:
    genie_onnx.plan(model, config=QUICK)
    assert list(model.parent.iterdir()) == [model]


def test_a_broken_simulation_is_reported_and_nothing_written(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genie_onnx import exporter

    original = exporter.export

    def export(*arguments: object) -> onnx.ModelProto:
        proto = original(*arguments)  # type: ignore[arg-type]
        codes = next(t for t in proto.graph.initializer if t.name.startswith("w2") and t.data_type == onnx.TensorProto.INT8)
        raw = bytearray(codes.raw_data)
        raw[0] ^= 1
        codes.raw_data = bytes(raw)
        return proto

    monkeypatch.setattr(exporter, "export", export)
    with pytest.raises(ParityError, match="w2"):
        genie_onnx.quantize(model, config=config(images="procedural"))
    assert not model.with_suffix(".quant.onnx").exists()


def test_inspect_says_what_quantize_would_do(model: Path) -> None:
    found = genie_onnx.inspect(model)
    assert (found.batchnorms, found.batchnorms_left, len(found.strided)) == (2, 0, 1)
    assert found.images == "distilled"
    assert {v.name: v.bits for v in found.weights} == {"w1": 8, "w2": 4, "w3": 8}
    weights = 8 * 3 * 9 + 16 * 8 * 9 // 2 + 4 * 16  # bytes at 8, 4 and 8 bits
    assert found.packed_bytes >= weights
    assert found.packed_bytes < weights + 4 * 100  # biases of 8 + 16 channels, small constants


def test_models_in_memory(tmp_path: Path) -> None:
    proto = small_bn_net()
    with pytest.raises(ConfigError, match="needs an output path"):
        genie_onnx.quantize(proto, config=QUICK)
    result = genie_onnx.quantize(proto, tmp_path / "out.onnx", config=config(images="procedural"))
    assert result.output.exists()


def test_a_model_without_weights_is_refused() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Relu (x) }'
    with pytest.raises(ModelError, match="nothing to quantize"):
        genie_onnx.plan(onnx.parser.parse_model(text), "y.onnx")
