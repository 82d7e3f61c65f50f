"""Bits chosen by measured sensitivity: the budget is kept, harmful blocks get more, the plan is saved and can be used again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from genie_onnx_cli.placement import read_layers
from graphs import Net
from onnx import numpy_helper

import genie_onnx
from genie_onnx import (
    BitGoal,
    BitPlan,
    ClosedFormConfig,
    ConfigError,
    LayerBits,
    PlacementConfig,
    QuantizeConfig,
    ReconstructConfig,
    RunError,
)
from genie_onnx.bits.choice import points_lost
from genie_onnx.bits.plan import plan_from_json
from genie_onnx.config import from_json, to_json
from genie_onnx.events import Notice, Step
from genie_onnx.run.directory import RunDirectory

# The ridge of closed form is given: choosing it would take most of the time
QUICK = QuantizeConfig(
    images="procedural", samples=16, reconstruct=ReconstructConfig(iterations=10), closed_form=ClosedFormConfig(ridge=0.05)
)


WEIGHTS = [210, 1152, 1152, 32]  # of each block


def net(*, gain: float = 1.0, classes: bool = True) -> onnx.ModelProto:
    """A stem, two residual blocks and a classifier; `gain` scales what the second residual block adds."""
    net = Net(size=8)
    x = net.conv("stem", "x", 6, k=3)
    x = net.conv("wide", x, 8, k=1, act="")
    for k in range(2):
        y = net.conv(f"b{k}", net.conv(f"a{k}", x, 8, k=3), 8, k=3, act="")
        if k == 1:
            y = net.op("Mul", y, net.constant("gain", np.float32(gain)))
        x = net.op("Relu", net.op("Add", x, y))
    if classes:
        x = net.gemm("head", net.op("GlobalAveragePool", x), 4)
    model = ir.to_proto(net.model(x))
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".w"):  # values of about 1 all the way, so that every block counts
            weight = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(weight / np.sqrt(weight[0].size, dtype=np.float32), tensor.name))
    return model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The network as a file."""
    path = tmp_path / "net.onnx"
    onnx.save(net(), path)
    return path


def chosen(events: list[genie_onnx.Event]) -> BitPlan:
    """The one plan that was told."""
    (plan,) = [event for event in events if isinstance(event, BitPlan)]
    return plan


def run(model: Path, goal: BitGoal, **changes: object) -> tuple[genie_onnx.Result, BitPlan]:
    """Quantize to `model`.quant.onnx."""
    events: list[genie_onnx.Event] = []
    settings = dataclasses.replace(QUICK, bit_goal=goal, **changes)  # type: ignore[arg-type]
    result = genie_onnx.quantize(model, config=settings, progress=events.append)
    return result, chosen(events)


def planned(path: Path, net: onnx.ModelProto, goal: BitGoal) -> BitPlan:
    """What is chosen for `net`, saved as `path`; the run ends there."""
    onnx.save(net, path)
    events: list[genie_onnx.Event] = []

    def watch(event: genie_onnx.Event) -> None:
        events.append(event)
        if isinstance(event, BitPlan):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        genie_onnx.quantize(path, config=dataclasses.replace(QUICK, bit_goal=goal), progress=watch)
    return chosen(events)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[genie_onnx.Result, BitPlan]:
    """A run for 3 bits on average."""
    path = tmp_path_factory.mktemp("averaged") / "net.onnx"
    onnx.save(net(), path)
    return run(path, BitGoal(average=3.0))


def test_an_average_is_kept_and_what_is_planned_is_what_is_deployed(averaged: tuple[genie_onnx.Result, BitPlan]) -> None:
    result, plan = averaged
    parameters = np.array([block.parameters for block in plan.blocks])
    assert parameters.tolist() == WEIGHTS
    assert plan.average == pytest.approx((parameters @ [block.bits for block in plan.blocks]) / parameters.sum())
    assert 2.5 < plan.average <= 3.0
    assert result.report.weights == dict(plan.weights)
    assert result.report.parity["ok"]
    assert result.report.sizes["packed"] == plan.bytes
    stored = {block.bits for block in plan.blocks}
    assert len(stored) > 1, "all blocks have the same bits: nothing was chosen"
    for block in plan.blocks:
        assert list(block.damage) == [2, 3, 4, 8]
        assert block.damage[2] > block.damage[8] >= 0


def test_a_share_and_a_size_are_those_of_the_weights_at_their_bits(model: Path) -> None:
    result, plan = run(model, BitGoal(share=0.6))
    assert plan.bytes <= 0.6 * plan.bytes_at_8
    assert result.report.sizes["packed"] == plan.bytes
    at_8 = genie_onnx.quantize(
        model, model.with_name("eight.onnx"), config=dataclasses.replace(QUICK, placement=PlacementConfig(wbits=8))
    )
    assert at_8.report.sizes["packed"] == plan.bytes_at_8
    same = planned(model.with_name("bytes.onnx"), net(), BitGoal(bytes=plan.bytes))
    assert same.bytes <= plan.bytes


def test_a_block_that_does_next_to_nothing_to_the_output_gets_the_fewest_bits(tmp_path: Path) -> None:
    idle = planned(tmp_path / "idle.onnx", net(gain=1e-6), BitGoal(average=4.0))
    assert [block.bits for block in idle.blocks][2] < [block.bits for block in idle.blocks][1]
    busy = planned(tmp_path / "busy.onnx", net(gain=10), BitGoal(average=4.0))
    assert [block.bits for block in busy.blocks][2] >= [block.bits for block in busy.blocks][1]


def test_a_larger_loss_makes_a_smaller_model(model: Path) -> None:
    result, small = run(model, BitGoal(drop=30.0))
    assert result.report.parity["ok"]
    large = planned(model.with_name("drop3.onnx"), net(), BitGoal(drop=3.0))
    for plan, drop in ((small, 30.0), (large, 3.0)):
        assert plan.drop is not None
        assert plan.drop <= drop
    assert small.bytes < large.bytes


def test_a_loss_that_cannot_be_promised_is_said_and_everything_gets_8_bits(model: Path) -> None:
    onnx.save(net(classes=False), model)  # noise of a feature map is never 0
    events: list[genie_onnx.Event] = []
    settings = dataclasses.replace(QUICK, bit_goal=BitGoal(drop=1e-9), placement=PlacementConfig(abits=2))
    genie_onnx.quantize(model, config=settings, progress=events.append)
    plan = chosen(events)
    assert {block.bits for block in plan.blocks} == {8}
    assert plan.wider == plan.values
    assert {value.bits for value in plan.values} == {8}
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert any(text.startswith("Activations alone lose ") and "they get 8 bits" in text for text in notices)
    assert any("cannot be promised" in text for text in notices)


def test_points_are_lost_as_far_as_the_float_model_is_sure() -> None:
    expected = torch.tensor([[0.9, 0.1], [0.51, 0.49], [0.2, 0.8]]).log()
    flipped = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert float(points_lost(expected, flipped)) == pytest.approx((0.8 + 0.02 + 0) / 3, abs=1e-6)
    assert float(points_lost(expected, expected * 7)) == 0
    assert float(points_lost(flipped, expected)) != pytest.approx((0.8 + 0.02 + 0) / 3, abs=1e-3)


def test_layers_with_bits_of_their_own_keep_them(model: Path) -> None:
    own = PlacementConfig(layer_bits=(LayerBits(pattern="a0", wbits=5, abits=8),))
    result, plan = run(model, BitGoal(average=2.5), placement=own)
    assert result.report.weights["a0.w"] == 5
    assert [block.parameters for block in plan.blocks] == [210, 576, 1152, 32]
    every = PlacementConfig(layer_bits=tuple(LayerBits(pattern=op, wbits=5, abits=8) for op in ("Conv", "Gemm")))
    with pytest.raises(ConfigError, match="nothing to choose"):
        run(model, BitGoal(average=2.5), placement=every)


def test_a_killed_run_goes_on_with_its_plan_and_ends_with_the_identical_file(
    averaged: tuple[genie_onnx.Result, BitPlan], tmp_path: Path
) -> None:
    whole, _ = averaged
    model = whole.output.with_name("net.onnx")
    settings = dataclasses.replace(QUICK, bit_goal=BitGoal(average=3.0))

    def stop(event: genie_onnx.Event) -> None:
        if isinstance(event, Step) and event.stage == "learn":
            raise KeyboardInterrupt

    half = tmp_path / "half.onnx"
    with pytest.raises(KeyboardInterrupt):
        genie_onnx.quantize(model, half, config=settings, progress=stop)
    events: list[genie_onnx.Event] = []
    genie_onnx.quantize(model, half, config=settings, progress=events.append)
    assert not any(isinstance(event, Step) and event.stage == "bits" for event in events)
    assert chosen(events).to_json() == RunDirectory(whole.run_dir).bits.read_text()
    assert half.read_bytes() == whole.output.read_bytes()
    RunDirectory(tmp_path / "half.genie").bits.write_text("{}")
    again: list[genie_onnx.Event] = []
    genie_onnx.quantize(model, half, config=settings, progress=again.append)
    assert any(isinstance(event, Notice) and "chosen again" in event.text for event in again)
    assert half.read_bytes() == whole.output.read_bytes()


def test_blocks_that_were_learned_at_other_bits_are_made_again(
    averaged: tuple[genie_onnx.Result, BitPlan], model: Path, tmp_path: Path
) -> None:
    result, plan = averaged
    run = RunDirectory(shutil.copytree(result.run_dir, tmp_path / "again.genie"))
    narrow = dict.fromkeys(plan.weights, 2)
    run.bits.write_text(dataclasses.replace(plan, weights=narrow).to_json())
    settings = dataclasses.replace(QUICK, bit_goal=BitGoal(average=3.0))
    again = genie_onnx.quantize(model, tmp_path / "again.onnx", config=settings)
    assert again.report.weights == narrow
    assert again.report.parity["ok"]
    assert any("other bits than were chosen now" in notice for notice in again.report.notices)


def test_what_does_not_fit_lies_in_files_while_bits_are_chosen(
    averaged: tuple[genie_onnx.Result, BitPlan], model: Path, tmp_path: Path
) -> None:
    files: list[bool] = []

    def watch(event: genie_onnx.Event) -> None:
        if isinstance(event, Step) and event.stage == "bits":
            files.append(RunDirectory(tmp_path / "small.genie").values.exists())
        if isinstance(event, BitPlan):
            assert event == averaged[1]
            raise KeyboardInterrupt

    settings = dataclasses.replace(QUICK, bit_goal=BitGoal(average=3.0))
    with pytest.raises(KeyboardInterrupt):
        genie_onnx.quantize(model, tmp_path / "small.onnx", config=settings, memory_budget="10kB", progress=watch)
    assert any(files)


def test_the_saved_layers_give_the_same_bits_without_measuring(averaged: tuple[genie_onnx.Result, BitPlan], model: Path) -> None:
    result, plan = averaged
    keep_float, layer_bits = read_layers(RunDirectory(result.run_dir).layers)
    assert keep_float == ()
    again = genie_onnx.quantize(
        model, model.with_name("again.onnx"), config=dataclasses.replace(QUICK, placement=PlacementConfig(layer_bits=layer_bits))
    )
    assert again.report.weights == result.report.weights
    assert again.report.activations == result.report.activations
    assert dict(plan.weights) == again.report.weights


def test_it_can_be_exported_again_for_another_target(averaged: tuple[genie_onnx.Result, BitPlan], tmp_path: Path) -> None:
    result, plan = averaged
    done = genie_onnx.export(result.run_dir, genie_onnx.TARGETS["int4"])
    assert done.report.parity["ok"]
    assert done.report.sizes["packed"] == plan.bytes
    changed = shutil.copytree(result.run_dir, tmp_path / "changed")
    RunDirectory(changed).bits.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        genie_onnx.export(changed, genie_onnx.TARGETS["int4"], tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("goal", "sentence"),
    [
        (BitGoal(share=0.1), r"too small: with 2 bits .* the model has \d+ bytes \(\d+\.\d % of those at 8 bits\)"),
        (BitGoal(bytes=100), "too small"),
    ],
)
def test_a_goal_out_of_reach_is_refused_before_anything_is_made(model: Path, goal: BitGoal, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        genie_onnx.plan(model, config=dataclasses.replace(QUICK, bit_goal=goal))
    assert not model.with_suffix(".quant.genie").exists()


def test_a_target_of_one_width_leaves_nothing_to_choose(model: Path) -> None:
    portable = genie_onnx.TARGETS["portable"]
    only_8 = dataclasses.replace(portable, name="own", constraints=dataclasses.replace(portable.constraints, weight_bits=(8, 8)))
    settings = QuantizeConfig(bit_goal=BitGoal(average=4), placement=PlacementConfig(wbits=8), target=only_8)
    with pytest.raises(ConfigError, match="target own holds weights of 8 bits only"):
        genie_onnx.plan(model, config=settings)


@pytest.mark.parametrize(
    "values", [{}, {"average": 3.0, "drop": 1.0}, {"average": 9.0}, {"share": 1.5}, {"drop": 0.0}, {"bytes": 0}]
)
def test_a_goal_is_one_number_within_its_range(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        BitGoal(**values)  # type: ignore[arg-type]


def test_settings_and_plan_survive_json(averaged: tuple[genie_onnx.Result, BitPlan]) -> None:
    settings = dataclasses.replace(QUICK, bit_goal=BitGoal(share=0.5))
    assert from_json(to_json(settings)) == settings
    _, plan = averaged
    assert plan_from_json(plan.to_json()) == plan
    with pytest.raises(RunError):
        plan_from_json(json.dumps({"blocks": []}))


def test_the_estimate_knows_of_it(model: Path) -> None:
    with_goal = genie_onnx.estimate(genie_onnx.plan(model, config=dataclasses.replace(QUICK, bit_goal=BitGoal(drop=2))))
    assert [part.index for part in with_goal.parts if part.stage == "bits"] == [0, 1, 2, 3, 4, 5]
    without = genie_onnx.estimate(genie_onnx.plan(model, config=QUICK))
    assert not [part for part in without.parts if part.stage == "bits"]
