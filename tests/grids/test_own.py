"""Selections that span far less than their source get a grid of their own; those that span as much do not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest
from selecting_nets import SELECTING, config, network

import genie_onnx
from genie_onnx import BitGoal, ConfigError, QuantizeConfig, RunError
from genie_onnx.events import Notice, Step
from genie_onnx.targets import TARGETS

CASES = [
    *((operator, 4) for operator in SELECTING),
    ("slice", 8),
    *(pytest.param(operator, bits, marks=pytest.mark.slow) for operator, bits in (("slice", 2), ("split", 2), ("gather", 8))),
]


def sharing(settings: QuantizeConfig) -> QuantizeConfig:
    """The same without grids of their own."""
    constraints = dataclasses.replace(settings.target.constraints, selections="shared")
    return dataclasses.replace(settings, target=dataclasses.replace(settings.target, constraints=constraints))


def sqnr(result: genie_onnx.Result, output: str) -> float:
    """The SQNR of an output in dB, on held-back images."""
    return next(float(o["sqnr_db"]) for o in result.report.comparison["outputs"] if o["name"] == output)


@pytest.mark.parametrize(("operator", "bits"), CASES)
def test_a_narrow_selection_is_as_near_as_its_own_grid_allows(
    operator: str, bits: int, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, told = network(operator), list[genie_onnx.Event]()
    own = genie_onnx.quantize(model, tmp_path / "own.onnx", config=config(bits), data=images, progress=told.append)
    monkeypatch.setattr("genie_onnx.grids.own_choice.wide_values", lambda *_: ())  # which would leave in float what reads it
    shared = genie_onnx.quantize(model, tmp_path / "shared.onnx", config=sharing(config(bits)), data=images)
    selection = "v" if operator == "slice in a chain" else "half"  # its Transposes cancel
    assert own.report.activations[selection] == bits
    assert selection not in shared.report.activations
    for result in (own, shared):
        assert result.report.parity["ok"]
        assert sum(v["unexplained"] for v in result.report.parity["values"]) == 0
    # A range 300 times as narrow has one code at 4 bits, and few at 8. Outputs gain less than the value: the rest is rounded too,
    # and biases that make good for a mean error hide some of what a selection without codes loses
    assert sqnr(own, "scores") > sqnr(shared, "scores") + 3
    assert sqnr(own, "other") > 20  # the source has codes of its own for the other reader, and 8 bits
    assert own.report.activations["source"] == 8
    notices = [e.text for e in told if isinstance(e, Notice)]
    assert any(f"'{selection}' at {bits} bits" in text and "dB on its own" in text for text in notices)
    assert any("must hand out floats" in text for text in notices)
    assert set(notices) <= set(own.report.notices)


@pytest.mark.parametrize(("operator", "bits"), CASES)
def test_a_selection_that_spans_as_much_as_its_source_keeps_the_shared_grid(
    operator: str, bits: int, images: Path, tmp_path: Path
) -> None:
    model = network(operator, ratio=1)
    own = genie_onnx.quantize(model, tmp_path / "own.onnx", config=config(bits), data=images)
    assert "half" not in own.report.activations
    assert own.report.activations["source"] == bits
    assert not any("grid of its own" in text for text in own.report.notices)
    assert own.report.parity["kernels"]["integer"]["QLinearConv"] == 3  # nothing hands out floats but the last layers


def test_a_run_that_goes_on_keeps_its_grids_and_one_that_lost_them_finds_the_same(images: Path, tmp_path: Path) -> None:
    whole = genie_onnx.quantize(network(), tmp_path / "whole.onnx", config=config(), data=images)

    def stop(event: genie_onnx.Event) -> None:
        if isinstance(event, Step) and event.stage == "weights" and event.index == 1:
            raise KeyboardInterrupt

    half, table = tmp_path / "half.onnx", tmp_path / "half.genie" / "own_grids.json"
    for damage in (False, True):
        with pytest.raises(KeyboardInterrupt):
            genie_onnx.quantize(network(), half, config=config(), data=images, progress=stop)
        told: list[genie_onnx.Event] = []
        if damage:
            table.write_text("{}")
        genie_onnx.quantize(network(), half, config=config(), data=images, progress=told.append)
        assert half.read_bytes() == whole.output.read_bytes()
        assert any(isinstance(e, Step) and e.stage == "selections" for e in told) == damage
        assert any(isinstance(e, Notice) and "chosen again" in e.text for e in told) == damage
        for left in (*(tmp_path / "half.genie" / "codes").iterdir(), tmp_path / "half.genie" / "grids.safetensors"):
            left.unlink()


def test_another_target_gets_the_same_grids_or_a_refusal(images: Path, tmp_path: Path) -> None:
    wide = config(8)
    made = genie_onnx.quantize(network(), tmp_path / "made.onnx", config=wide, data=images)
    again = genie_onnx.export(made.run_dir, TARGETS["tvm"], tmp_path / "tvm.onnx", model=_file(tmp_path))
    assert again.report.parity["ok"]
    scales = [{t.name: t.raw_data for t in onnx.load(r.output).graph.initializer if "_scale" in t.name} for r in (made, again)]
    assert scales[0] == scales[1]
    assert "half_scale" in scales[0]
    with pytest.raises(ConfigError, match="values share a grid there and have several here"):
        genie_onnx.export(made.run_dir, TARGETS["tidl"], tmp_path / "tidl.onnx", model=_file(tmp_path))
    (made.run_dir / "own_grids.json").unlink()
    with pytest.raises(RunError, match=r"own_grids\.json cannot be read"):
        genie_onnx.export(made.run_dir, TARGETS["tvm"], tmp_path / "tvm.onnx", model=_file(tmp_path))


def _file(folder: Path) -> Path:
    onnx.save(network(), folder / "net.onnx")
    return folder / "net.onnx"


def test_bits_are_chosen_on_these_grids(images: Path, tmp_path: Path) -> None:
    result = genie_onnx.quantize(network(), tmp_path / "net.onnx", config=config(bit_goal=BitGoal(average=4)), data=images)
    assert result.report.activations["half"] == 4
    assert result.report.parity["ok"]
