"""The estimate: what it adds up, that measuring it touches nothing, and that timing extends to batches that take too long."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from small_bn_net import SHAPE, imported, small_bn_net

import genie_onnx
from genie_onnx import DistillConfig, Estimate, PlacementConfig, Plan, QuantizeConfig, ReconstructConfig, Step
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.stopwatch import Line, measured, next_size, through
from genie_onnx.pipeline.estimation import Rates, batch_parts, block_parts
from genie_onnx.reconstruct.timing import BlockCost
from genie_onnx.synthesis import timing

CONFIG = QuantizeConfig(
    samples=16, distill=DistillConfig(iterations=3, batch_size=8), reconstruct=ReconstructConfig(iterations=4)
)
RATES = Rates(painted=1.0, searched=0.01, fitted=2.0, packed=0.0, imported=0.0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The small network with its BatchNorm, as a file."""
    onnx.save(small_bn_net(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def of(estimate: Estimate, stage: str) -> list[int]:
    """The indices of the parts of a stage, in order."""
    return [part.index for part in estimate.parts if part.stage == stage]


def test_blocks_are_carried_and_those_not_finished_learned() -> None:
    costs = [BlockCost("a", 0.1, 2.0, 100), BlockCost("pool", 0.2, None, 0), BlockCost("b", 0.1, 20.0, 300)]
    parts = block_parts(costs, finished={"a"}, samples=10, iterations=5, grids=3, rates=RATES)
    told = {(part.stage, part.index): part.seconds for part in parts}
    assert told[("learn", 1)] == pytest.approx(5 * 20.0)
    assert told[("weights", 1)] == pytest.approx(300 * 0.01)
    assert ("learn", 0) not in told
    assert told[("targets", 1)] == pytest.approx(10 * 0.2)  # numbered with the blocks that learn nothing
    assert told[("grids", 0)] == pytest.approx(10 * 0.4 + 3 * 2.0)
    assert [stage for stage, _ in told] == [
        "grids",
        "targets",
        "carry",
        "targets",
        "carry",
        "targets",
        "weights",
        "learn",
        "carry",
    ]


def test_batches_cost_by_their_size() -> None:
    parts = batch_parts([5, 5, 4], finished={0}, iterations=10, step=1.0, painted=0.5, packed=0.5)
    assert [(part.index, part.seconds) for part in parts] == [(1, 15.0), (2, 12.0)]


def test_every_step_of_a_run_is_a_part_of_its_estimate_in_the_same_order(model: Path) -> None:
    """Else the time left would not follow."""
    estimates, told = [], []

    def note(event: genie_onnx.Event) -> None:
        if isinstance(event, Plan):
            estimates.append(genie_onnx.estimate(event))
        if isinstance(event, Step):
            told.append((event.stage, event.index))

    for images in ("distill", "refine"):
        run = model.with_name(f"{images}.onnx")
        told.clear()
        genie_onnx.quantize(model, run, config=dataclasses.replace(CONFIG, images=images), progress=note)
        expected = [(part.stage, part.index) for part in estimates[-1].parts if part.seconds > 0]
        assert [part for part in expected if part in told] == list(dict.fromkeys(told)), images


@pytest.mark.slow
def test_what_is_finished_is_not_estimated_again(model: Path) -> None:
    config = dataclasses.replace(CONFIG, placement=PlacementConfig(first_last_bits=4))  # all blocks are learned

    def stop(event: genie_onnx.Event) -> None:
        if isinstance(event, Step) and (event.stage, event.index, event.iteration) == ("learn", 1, 1):
            raise KeyboardInterrupt

    todo = genie_onnx.plan(model, config=config)
    whole = genie_onnx.estimate(todo)
    assert (of(whole, "images"), of(whole, "learn")) == ([0, 1], [0, 1])
    with pytest.raises(KeyboardInterrupt):
        genie_onnx.quantize(model, config=config, progress=stop)
    rest = genie_onnx.estimate(todo)
    assert (of(rest, "images"), of(rest, "learn"), of(rest, "save")) == ([], [1], [])
    assert (of(whole, "targets"), of(rest, "targets")) == ([], [0])  # what is finished is carried
    genie_onnx.quantize(model, config=config)
    assert {part.stage for part in genie_onnx.estimate(todo).parts} == {"check", "export", "values"}


def test_estimating_changes_nothing(model: Path) -> None:
    """Same file with and without, and random numbers, weights and the disk as they were."""
    todo, state = genie_onnx.plan(model, config=CONFIG), torch.random.get_rng_state()
    before = {name: value.clone() for name, value in todo.prepared.teacher.module.state_dict().items()}
    assert genie_onnx.estimate(todo).seconds > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    after = todo.prepared.teacher.module.state_dict()
    assert all(torch.equal(after[name], value) and after[name].stride() == value.stride() for name, value in before.items())
    assert sorted(model.parent.iterdir()) == [model]
    files = []
    for name in ("with", "without"):
        tell = (lambda event: isinstance(event, Plan) and genie_onnx.estimate(event)) if name == "with" else (lambda event: None)
        files.append(
            genie_onnx.quantize(model, model.with_name(f"{name}.onnx"), config=CONFIG, progress=tell).output.read_bytes()
        )
    assert files[0] == files[1]


def test_a_plan_of_images_alone(model: Path) -> None:
    plans: list[genie_onnx.ImagePlan] = []

    def note(event: genie_onnx.Event) -> None:
        plans.extend([event] if isinstance(event, genie_onnx.ImagePlan) else [])

    genie_onnx.distill(model, model.with_name("images"), config=dataclasses.replace(CONFIG, images="distill"), progress=note)
    (todo,) = plans
    fresh = dataclasses.replace(todo, run_dir=model.with_name("elsewhere"))
    assert {part.stage for part in genie_onnx.estimate(fresh).parts} == {"statistics", "images", "judges", "save"}
    assert genie_onnx.estimate(todo).parts == ()


def test_batches_go_through_the_network_in_the_pieces_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into memory at once is not tried at once either, only to be timed."""
    asked: set[tuple[int, int]] = set()

    def distill(network: Network, statistics: object, shape: object, samples: int, *_: object, **given: Any) -> None:
        asked.add((samples, given["pieces"]))
        for iteration in (1, 2):
            given["progress"](Step(stage="images", iteration=iteration, iterations=2))

    monkeypatch.setattr(timing, "distill", distill)
    network, batchnorms = imported(small_bn_net())
    config = DistillConfig(start="noise", batch_size=32)
    timing.step_seconds(network, batchnorms, SHAPE, config, Compute(torch.device("cpu")), 1.0, pieces=4)
    assert asked == {(2, 1), (32, 4)}


def test_a_line_through_what_was_measured() -> None:
    assert through([(1, 3.0), (4, 9.0)], 0.0) == Line(1.0, 2.0)
    assert through([(1, 5.0), (4, 4.0)], 0.0).at(32) == 4.0  # noise: it does not fall
    assert through([(1, 1.0), (4, 40.0)], 0.0).at(32) == 320.0  # nor is anything below zero at size 0
    assert through([(1, 3.0)], 0.0).at(10) == 30.0
    assert through([(1, 3.0)], 2.0).at(10) == 12.0  # the fixed share is known from elsewhere
    assert through([(1, 3.0)], 9.0).at(10) == pytest.approx(5.7)  # ... and cannot be all of it


def test_larger_batches_are_measured_while_there_is_time() -> None:
    assert next_size(1, Line(0.0, 0.01), 32, budget=10.0) == 32
    assert next_size(1, Line(0.0, 0.01), 32, budget=0.3) == 4
    assert next_size(1, Line(0.0, 0.01), 32, budget=0.1) == 2
    assert next_size(1, Line(0.0, 1.0), 32, budget=1.0) is None
    asked: list[int] = []

    def instant(size: int) -> float:
        asked.append(size)
        return 1e-5 * (1 + size)

    assert measured(instant, 1, 32, 1.0).at(32) == pytest.approx(33e-5)
    assert asked == [1, 32]
    asked.clear()
    assert measured(lambda size: instant(size) * 1e5, 2, 64, 0.0).at(64) == pytest.approx(96.0)
    assert asked == [2]  # one measurement is made whatever the budget
