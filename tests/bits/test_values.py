"""Values with more bits than were asked for: the costliest that are cheap enough, as few as will do, and none that was fixed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner
from genie_onnx_cli.main import main
from genie_onnx_cli.placement import read_layers
from graphs import Net
from onnx import numpy_helper

import genie_onnx
from genie_onnx import BitGoal, BitPlan, ClosedFormConfig, LayerBits, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.bits.budget import choices
from genie_onnx.bits.plan import plan_from_json, with_bits
from genie_onnx.bits.values import RISE, WORTH, ValueTable, fewest
from genie_onnx.events import Notice
from genie_onnx.placement import ActivationSpec
from genie_onnx.preparation.prepare import prepare
from genie_onnx.run.directory import RunDirectory
from genie_onnx.targets import PORTABLE, TARGETS, Constraints

# The ridge of closed form is given: choosing it would take most of the time
RIDGE = 0.05
QUICK = QuantizeConfig(
    images="procedural",
    samples=16,
    reconstruct=ReconstructConfig(iterations=0),
    closed_form=ClosedFormConfig(ridge=RIDGE),
)
NARROW = {"c1": 2048, "c2": 2048, "c3": 512, "c4": 512}  # elements of what the layers write that others read at --abits


def net(costly: str = "c3", classes: bool = True) -> onnx.ModelProto:
    """A chain; of what layer `costly` writes, one channel is twenty times as large as the others and counts as much."""
    net = Net(size=16)
    x = net.conv("stem", "x", 8, k=3)
    for k in range(1, 6):
        x = net.conv(f"c{k}", x, 8, k=3, stride=2 if k == 3 else 1)
    x = net.gemm("head", net.op("GlobalAveragePool", x), 4) if classes else x
    model = ir.to_proto(net.model(x))
    following = f"c{int(costly[1]) + 1}"
    for tensor in model.graph.initializer:
        if not tensor.name.endswith(".w"):
            continue
        weight = numpy_helper.to_array(tensor) / np.sqrt(np.float32(numpy_helper.to_array(tensor)[0].size))
        if tensor.name == f"{costly}.w":
            weight[0] *= 20
        if tensor.name == f"{following}.w":
            weight[:, 0] /= 20
        tensor.CopyFrom(numpy_helper.from_array(weight.astype(np.float32), tensor.name))
    return model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The network whose costly value is a small one, as a file."""
    path = tmp_path / "net.onnx"
    onnx.save(net(), path)
    return path


def plan_of(path: Path, model: onnx.ModelProto, goal: BitGoal, **changes: object) -> tuple[BitPlan, list[str]]:
    """What is chosen for `model`, saved as `path`, and the notices; the run ends there."""
    onnx.save(model, path)
    plans: list[BitPlan] = []
    notices: list[str] = []

    def watch(event: genie_onnx.Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)
        if isinstance(event, BitPlan):
            plans.append(event)
            raise KeyboardInterrupt

    settings = dataclasses.replace(QUICK, bit_goal=goal, **changes)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        genie_onnx.quantize(path, config=settings, progress=watch)
    return plans[0], notices


def wider(plan: BitPlan) -> list[str]:
    """The values that get more bits."""
    return [value.values[0] for value in plan.wider]


def table(elements: list[int], damage: list[tuple[float, float]], bits: int = 4) -> ValueTable:
    """A table of values that are numbered."""
    specs = tuple(ActivationSpec(name=str(k), values=(str(k),), roots=(str(k),), bits=bits) for k in range(len(elements)))
    return ValueTable(specs, np.array(elements), np.array(damage), 8)


@pytest.mark.parametrize("seed", range(6))
def test_for_a_size_the_sum_saved_is_the_largest_that_the_rise_pays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    elements = rng.integers(1, 1000, 9)
    found = table(elements.tolist(), [(d, d / 50) for d in rng.random(9) ** 3 + 0.2])
    few = found.few(0.0)
    budget = RISE * elements.sum()

    def cost_and_saved(names: Collection[str]) -> tuple[float, float]:
        picked = [int(name) for name in names]
        return 4 * elements[picked].sum(), found.saved[picked].sum()

    sets = [names for count in range(10) for names in combinations([spec.name for spec in found.specs], count)]
    best = max(saved for cost, saved in map(cost_and_saved, sets) if cost <= 0.99 * budget)  # costs are rounded up a little
    cost, saved = cost_and_saved(few)
    assert cost <= budget
    assert saved >= best - 1e-9 > 0


def test_a_value_that_costs_most_and_is_most_of_all_elements_stays_narrow() -> None:
    found = table([10_000, 100, 100, 100], [(9.0, 0.0), (0.5, 0.0), (0.4, 0.0), (0.0, 0.0)])
    assert found.few(0.0) == {"1", "2"}
    assert found.costliest(1) == {"0"}


def test_what_saves_next_to_nothing_of_all_damage_is_not_worth_it() -> None:
    found = table([10, 10, 1000], [(1.0, 0.0), (0.9 * WORTH, 0.0), (1.0, 0.9)])
    assert found.few(0.0) == {"0"}
    assert found.few(1000.0) == frozenset()  # weights do so much that values do not show


def test_more_bits_from_fewer_are_dearer() -> None:
    damage = [(1.0, 0.0)] * 2 + [(0.0, 0.0)]
    assert len(table([100, 100, 600], damage, bits=4).few(0.0)) == 2  # 800 bits of 800
    assert len(table([100, 100, 600], damage, bits=2).few(0.0)) == 1  # 600 each


def test_values_are_ordered_by_what_more_bits_save_and_not_by_what_they_cost() -> None:
    found = table([1] * 4, [(1.0, 0.9), (0.5, 0.0), (0.2, 0.4), (0.3, 0.0)])
    assert [found.costliest(count) for count in (1, 2, 3)] == [{"1"}, {"1", "3"}, {"0", "1", "3"}]
    assert found.saved.tolist() == pytest.approx([0.1, 0.5, 0.0, 0.3])  # worse with more bits: noise


@pytest.mark.parametrize("needed", range(1, 41))
def test_as_few_as_will_do_are_found_by_halving(needed: int) -> None:
    asked: list[int] = []

    def lost(count: int) -> float:
        asked.append(count)
        return 1.0 if count >= needed else 3.0

    assert fewest(lost, 40, 2.0) == (needed, 1.0)
    assert len(asked) <= 1 + 6
    assert fewest(lost, 40, 0.5) == (40, 1.0)  # nothing does: all


def test_a_small_value_that_costs_much_gets_8_bits_and_a_large_one_does_not(tmp_path: Path) -> None:
    plan, notices = plan_of(tmp_path / "small.onnx", net("c3"), BitGoal(average=4.0))
    assert [value.elements for value in plan.values] == list(NARROW.values())
    assert wider(plan) == [plan.values[2].values[0]]
    assert max(plan.values, key=lambda value: value.damage[4]) == plan.values[2]
    assert (plan.values[2].bits, plan.abits) == (8, 4)
    assert plan.values[2].damage[8] < 0.1 * plan.values[2].damage[4]
    (sentence,) = [text for text in notices if text.startswith("8 bits for 1 of 4 values, those with ")]
    assert f"'{plan.values[2].values[0]}' (on average 4.4 bits, 4 asked for)." in sentence
    large, notices = plan_of(tmp_path / "large.onnx", net("c1"), BitGoal(share=0.6))
    assert max(large.values, key=lambda value: value.damage[4]) == large.values[0]
    assert wider(large) == []
    assert not any("values" in text for text in notices)


def test_for_a_loss_as_few_values_as_will_do_get_8_bits(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    all_narrow, _ = plan_of(path, net("c1"), BitGoal(drop=60.0))
    assert wider(all_narrow) == []
    plan, notices = plan_of(path.with_name("drop.onnx"), net("c1"), BitGoal(drop=10.0))
    assert wider(plan) == [plan.values[0].values[0]]  # whatever its size
    assert plan.drop is not None
    assert plan.drop <= 10.0
    assert any("Activations alone lose" in text and "1 of 4 must have 8 bits" in text for text in notices)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run directory of a run for 4 bits on average, by the command line, and what it printed."""
    path = tmp_path_factory.mktemp("finished") / "net.onnx"
    onnx.save(net(), path)
    return path.with_name("net.quant.genie"), command(path)


def command(path: Path) -> str:
    """What `quantize --avg-bits 4` prints."""
    options = ["--avg-bits", "4", "--samples", "16", "--images", "procedural", "--recon-iters", "0", "--ridge", str(RIDGE)]
    result = CliRunner().invoke(main, ["quantize", str(path), *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_says_which_values_and_goes_on_with_them(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    plan = plan_from_json(RunDirectory(folder).bits.read_text())
    (value,) = plan.wider
    row = next(line for line in printed.splitlines() if line.startswith(f"{value.values[0]} "))
    assert row.split()[1:3] == ["512", "8"]
    assert "activations 4 (1 of 4 with 8): " in printed
    report = json.loads(RunDirectory(folder).report.read_text())
    assert report["activations"][value.values[0]] == 8
    assert sorted(report["activations"].values()).count(4) == 3
    assert sum(text.startswith("8 bits for 1 of 4 values") for text in report["notices"]) == 1
    assert report["parity"]["ok"]
    again = command(folder.with_name("net.onnx"))
    assert "8 bits for 1 of 4 values" in again
    assert "choosing bits" not in again
    assert plan_from_json(RunDirectory(folder).bits.read_text()) == plan


def test_the_saved_layers_give_the_same_bits(finished: tuple[Path, str], model: Path) -> None:
    report = json.loads(RunDirectory(finished[0]).report.read_text())
    _, layer_bits = read_layers(RunDirectory(finished[0]).layers)
    settings = dataclasses.replace(QUICK, placement=PlacementConfig(layer_bits=layer_bits))
    again = genie_onnx.quantize(model, config=settings)
    assert again.report.activations == report["activations"]
    assert again.report.weights == report["weights"]


def test_it_can_be_exported_again(finished: tuple[Path, str], tmp_path: Path) -> None:
    done = genie_onnx.export(finished[0], TARGETS["int4"], tmp_path / "other.onnx")
    assert done.report.parity["ok"]


def free(model: onnx.ModelProto, constraints: Constraints = PORTABLE.constraints, **settings: object) -> tuple[list[str], int]:
    """The values whose bits are free, and the bits that they may get."""
    placement = PlacementConfig(**settings)  # type: ignore[arg-type]
    target = dataclasses.replace(PORTABLE, name="own", constraints=constraints)
    config = QuantizeConfig(bit_goal=BitGoal(average=4.0), placement=placement, target=target)
    found = choices(prepare(model, placement, constraints=constraints), config)
    assert found.parts == len(found.widths) + 1 + bool(found.values)
    return [spec.name for spec in found.values], found.wide


def test_only_values_below_8_bits_that_nobody_fixed_may_get_more() -> None:
    model = net()
    c1, c2, c3, c4 = free(model)[0]
    assert free(model, abits=8) == ([], 8)
    assert free(model, layer_bits=(LayerBits(pattern="c3", wbits=4, abits=4),)) == ([c1, c3, c4], 8)  # c3 reads c2
    assert free(model, layer_bits=(LayerBits(pattern="Conv", wbits=4, abits=4),)) == ([], 8)
    stem = free(model, setting="qdrop")[0][0]
    assert free(model, setting="qdrop") == ([stem, c1, c2, c3, c4], 8)
    assert free(model, points="layer-inputs") == ([c1, c2, c3, c4], 8)
    assert free(model, other_bits=4) == (["x", c1, c2, c3, c4], 8)  # not what the pool reads: --bits could not say it
    narrow = Constraints(value_bits=(2, 6))
    assert free(model, narrow, first_last_bits=6, other_bits=6) == ([c1, c2, c3, c4], 6)
    assert free(model, narrow, abits=6, first_last_bits=6, other_bits=6) == ([], 6)


def test_values_on_one_grid_are_one_thing() -> None:
    shared = Net(size=16)
    x = shared.conv("b", shared.conv("a", "x", 8, k=3), 8, k=3)
    pooled = shared.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    shared.conv("aside", x, 8)
    y = shared.op("Add", shared.conv("c", pooled, 8), shared.op("MaxPool", "aside", kernel_shape=[2, 2], strides=[2, 2]))
    prepared = prepare(ir.to_proto(shared.model(shared.conv("d", y, 8))), PlacementConfig())
    config = QuantizeConfig(bit_goal=BitGoal(average=4.0))
    (grid,) = [spec for spec in choices(prepared, config).values if pooled in spec.values]
    assert len(grid.values) == 2
    weights = {spec.value: spec.bits for spec in prepared.placement.weights}
    placed = with_bits(prepared, config.placement, PORTABLE.constraints, weights, {pooled: 8})
    before = {spec.name: spec.bits for spec in prepared.placement.activations}
    assert {spec.name: spec.bits for spec in placed.activations} == {**before, grid.name: 8}
    for reader in ("c", "aside"):  # either fixes the bits of both
        own = PlacementConfig(layer_bits=(LayerBits(pattern=reader, wbits=4, abits=4),))
        fixed = choices(prepared, dataclasses.replace(config, placement=own)).values
        assert grid.name not in [spec.name for spec in fixed]


def test_a_plan_of_before_there_were_values_is_read(finished: tuple[Path, str]) -> None:
    text = RunDirectory(finished[0]).bits.read_text()
    plan = plan_from_json(text)
    assert plan_from_json(plan.to_json()) == plan
    old = {key: entry for key, entry in json.loads(text).items() if key != "values"}
    assert plan_from_json(json.dumps(old)) == dataclasses.replace(plan, values=())
