"""Equalised channels: the float function stays what it was, and a run keeps its factors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from equalised_nets import MOBILE, RESIDUAL, config, images, network
from selecting_nets import network as selecting

import genie_onnx
from genie_onnx import PlacementConfig, RunError, graph
from genie_onnx.config import ClosedFormConfig
from genie_onnx.events import Notice, Step
from genie_onnx.grids.equalisation import (
    Equalisation,
    equalisation_from_json,
    equalisation_of,
    obstacles,
    unpacked,
    written_by_layers,
)
from genie_onnx.grids.equalisation_choice import equalise
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import place
from genie_onnx.preparation.prepare import Prepared, prepare
from genie_onnx.targets import PORTABLE, TARGETS, Constraints
from genie_onnx.validate import run
from genie_onnx.validate.compare import sqnr

CPU = Compute(torch.device("cpu"))
QDROP = PlacementConfig(setting="qdrop")
# Weights are rounded to float32 once more for each factor: 2^-24 each, in sums of up to a hundred that partly cancel
ROUNDING = 2e-5


def chosen(prepared: Prepared, seed: int = 0) -> Equalisation:
    """The equalisation for some images."""
    return equalise(prepared, prepared.network, torch.from_numpy(images()), Constraints(), seed, CPU, lambda step: None)


def prepared_net(text: str) -> Prepared:
    return prepare(network(text), QDROP).with_own_biases()


@pytest.mark.parametrize("text", [MOBILE, RESIDUAL], ids=["mobile", "residual"])
def test_the_same_images_and_seed_give_the_same_factors_and_both_texts_give_them_back(text: str) -> None:
    found, again = (chosen(prepared_net(text)) for _ in range(2))
    assert len(found.factors) >= 3
    for other in (again, equalisation_from_json(found.to_json()), unpacked(found.packed())):
        assert list(other.factors) == list(found.factors)
        for value, own in found.factors.items():
            assert other.factors[value].dtype == np.float32
            np.testing.assert_array_equal(other.factors[value], own)
    assert len(found.packed()) < len(found.to_json())


def test_factors_are_of_what_layers_write_and_come_back_from_what_they_were_applied_to() -> None:
    prepared = prepared_net(MOBILE)
    found = chosen(prepared)
    assert found.factors.keys() <= set(written_by_layers(prepared.deploy))
    applied = found.applied(prepared)
    assert equalisation_of(applied).factors.keys() == found.factors.keys()
    assert set(applied.factors) > set(found.factors)  # what is behind a Clip as well
    assert Equalisation().applied(prepared) is prepared


def outputs(prepared: Prepared, x: np.ndarray) -> np.ndarray:
    """What onnxruntime makes of the deploy graph."""
    return np.asarray(run(prepared.deploy, {"image": x})["scores"])


def test_the_function_of_a_relu_net_stays_as_it_was() -> None:
    prepared = prepared_net(RESIDUAL)
    found = chosen(prepared)
    assert max(own.max() / own.min() for own in found.factors.values()) > 3
    x = images(8, seed=4)
    exact = outputs(prepared, x)
    assert np.abs(outputs(found.applied(prepared), x) - exact).max() < ROUNDING * np.abs(exact).max()


def test_the_function_of_a_relu6_net_differs_by_its_ceilings_alone() -> None:
    """Below all ceilings it is the same; above, each Clip cuts off at 6 / e of the float model's."""
    prepared = prepared_net(MOBILE)
    applied = chosen(prepared).applied(prepared)
    clips = {str(node.outputs[0].name) for node in prepared.deploy.graph if node.op_type == "Clip"}
    assert all((applied.factors[value] >= 1).all() for value in clips & applied.factors.keys())
    x = images(8, seed=4)
    dim, large = 1e-3 * x, 10 * x
    raised = prepare(_without_ceilings(network(MOBILE)), QDROP).with_own_biases()  # the same layers, Relu in place of Clip
    lifted = dataclasses.replace(raised, placement=prepared.placement)
    exact = outputs(raised, large)
    again = outputs(Equalisation(equalisation_of(applied).factors).applied(lifted), large)
    assert np.abs(again - exact).max() < ROUNDING * np.abs(exact).max()
    exact = outputs(prepared, dim)
    assert np.abs(outputs(applied, dim) - exact).max() < 1e-2 * np.abs(exact).max()
    exact = outputs(prepared, large)
    assert np.abs(outputs(applied, large) - exact).max() > 1e-2 * np.abs(exact).max()


def _without_ceilings(proto: onnx.ModelProto) -> onnx.ModelProto:
    for node in proto.graph.node:
        if node.op_type == "Clip":
            node.op_type = "Relu"
            del node.input[1:]
    return proto


@pytest.mark.parametrize("text", [MOBILE, RESIDUAL], ids=["mobile", "residual"])
def test_channels_are_more_alike_afterwards(text: str) -> None:
    """Else one grid for all of them would be as bad as before."""
    prepared = prepared_net(text)
    applied = chosen(prepared).applied(prepared)
    values = [v for v, why in obstacles(prepared, PORTABLE.constraints).items() if not why]
    assert len(values) >= 4
    spreads = []
    for one in (prepared, applied):
        found = run(one.deploy, {"image": images(16, seed=7)}, values)
        clips = [np.quantile(found[v].swapaxes(0, 1).reshape(found[v].shape[1], -1), 0.99, axis=1) for v in values]
        spreads.append(np.mean([np.std(np.log(clip[clip > 0])) for clip in clips]))
    assert spreads[1] < 0.8 * spreads[0]  # what a dense layer reads goes half of the way


def test_what_a_selection_reads_is_left_alone_so_that_its_grid_may_be_chosen_before() -> None:
    """Grids of selections are measured on channels as they are: they must be so afterwards, with and without such a grid."""
    model = selecting()
    prepared = prepare(model, QDROP).with_own_biases()
    own = prepared.placed(place(prepared.deploy, QDROP, PORTABLE.constraints, {"half"}))
    shared_factors, own_factors = (
        equalise(one, one.network, torch.from_numpy(images()), Constraints(), 0, CPU, lambda step: None).applied(one).factors
        for one in (prepared, own)
    )
    for factors in (shared_factors, own_factors):
        assert factors.keys().isdisjoint({"a", "source", "pool", "half"})
        assert factors.keys() >= {"b", "c"}
    np.testing.assert_array_equal(shared_factors["c"], own_factors["c"])


def test_factors_of_another_model_are_refused() -> None:
    prepared = prepared_net(RESIDUAL)
    for factors in ({"stranger": [2.0]}, {"a": [2.0] * 7}, {"scores": [2.0] * 5}):
        with pytest.raises(RunError, match="this model"):
            Equalisation({v: np.array(own, np.float32) for v, own in factors.items()}).applied(prepared)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": 2}', '{"a": [[1]]}', '{"a": ["x"]}', '{"a": [0]}', '{"a": [NaN]}'])
def test_what_is_no_table_of_factors_is_refused(text: str) -> None:
    with pytest.raises(RunError, match="this is no equalisation"):
        equalisation_from_json(text)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 2}', '{"a": [1.0]}', '{"a": "*"}', '{"a": "AAA="}', '{"a": "AAAAAA=="}'])
def test_what_is_no_packed_table_is_refused(text: str) -> None:
    with pytest.raises(RunError, match="this is no equalisation"):
        unpacked(text)


def quantize(folder: Path, name: str, told: list[genie_onnx.Event] | None = None, stop_at: int | None = None) -> Path:
    """A run of RESIDUAL on given images, ended before block `stop_at`."""
    np.save(folder / "images.npy", images())

    def tell(event: genie_onnx.Event) -> None:
        if told is not None:
            told.append(event)
        if stop_at is not None and isinstance(event, Step) and (event.stage, event.index) == ("weights", stop_at):
            raise KeyboardInterrupt

    return genie_onnx.quantize(
        network(RESIDUAL), folder / f"{name}.onnx", config=config(), data=folder / "images.npy", progress=tell
    ).output


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a run that nothing ended."""
    return quantize(tmp_path_factory.mktemp("whole"), "whole").read_bytes()


@pytest.mark.parametrize("damage", [None, "removed", "{"])
def test_a_run_that_goes_on_has_the_same_factors_and_the_identical_file(damage: str | None, whole: bytes, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        quantize(tmp_path, "half", stop_at=1)
    table = tmp_path / "half.genie" / "equalisation.json"
    kept = table.read_text()
    if damage == "removed":
        table.unlink()
    elif damage is not None:
        table.write_text(damage)
    told: list[genie_onnx.Event] = []
    assert quantize(tmp_path, "half", told).read_bytes() == whole
    assert table.read_text() == kept
    notices = [event.text for event in told if isinstance(event, Notice)]
    assert any("Channels are equalised again" in text for text in notices) == (damage == "{")
    assert any(isinstance(event, Step) and event.stage == "equalise" for event in told) == (damage is not None)


def test_a_target_with_one_scale_a_weight_has_no_factors(tmp_path: Path) -> None:
    """Rows of a weight whose channels are scaled would have to share one step."""
    target = dataclasses.replace(PORTABLE, constraints=Constraints(weight_scale="tensor"))
    result = genie_onnx.quantize(network(RESIDUAL), tmp_path / "q.onnx", config=config(target=target, images="procedural"))
    assert json.loads((result.run_dir / "equalisation.json").read_text()) == {}
    assert result.report.parity["ok"]
    assert any(row.constraints.weight_scale == "tensor" for row in TARGETS.values())


def test_equalising_can_be_switched_off(tmp_path: Path) -> None:
    settings = config(closed_form=ClosedFormConfig(equalise=False), images="procedural")
    result = genie_onnx.quantize(network(RESIDUAL), tmp_path / "q.onnx", config=settings)
    assert not (result.run_dir / "equalisation.json").exists()
    assert "genie_onnx.equalisation" not in {entry.key for entry in onnx.load(result.output).metadata_props}


@pytest.mark.parametrize("text", [MOBILE, RESIDUAL], ids=["mobile", "residual"])
def test_channels_scaled_are_nearer_at_the_output(text: str, tmp_path: Path) -> None:
    """Why it is done: 4-bit grids are shared by channels of very different ranges. Weights have 8 bits, so values alone count."""
    np.save(tmp_path / "images.npy", images(96))
    held, found = {"image": images(64, seed=9)}, []
    exact = run(graph.load(network(text)), held)["scores"]
    for equalised in (False, True):
        settings = config(
            samples=72, closed_form=ClosedFormConfig(equalise=equalised), placement=PlacementConfig(wbits=8, setting="qdrop")
        )
        output = tmp_path / f"{equalised}.onnx"
        genie_onnx.quantize(network(text), output, config=settings, data=tmp_path / "images.npy")
        found.append(sqnr(exact, run(output, held)["scores"]))
    assert found[1] > found[0] + 1  # 2.4 and 3.6 dB
