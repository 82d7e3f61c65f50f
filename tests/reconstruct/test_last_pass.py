"""The last pass: it moves what it may, repairs what can be repaired, and leaves alone what it would harm."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from graphs import graph
from team_of_threads import OneMemory, in_threads
from torch import Tensor

from genie_onnx.blocks import partition, pieces
from genie_onnx.config import ClosedFormConfig, PlacementConfig, ReconstructConfig
from genie_onnx.events import Notice, Step
from genie_onnx.graph import with_own_biases
from genie_onnx.importer import import_graph
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.memory import Budget
from genie_onnx.machine.team import Team
from genie_onnx.placement import place
from genie_onnx.quant import ANY
from genie_onnx.reconstruct import Codes, Twin, reconstruct, simulate
from genie_onnx.reconstruct.last_pass import LastPass, last_pass
from genie_onnx.reconstruct.whole import Whole, image_bytes
from genie_onnx.targets import TARGETS, Constraints

CONV = """
    net (float[N,3,8,8] x, float[8,3,3,3] w1, float[8] b1, float[8,8,3,3] w2, float[8] b2, float[8,8,3,3] w3, float[5,8,1,1] w4)
        => (float[N,5,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a)
        c = Conv<pads=[1,1,1,1]>(r, w2, b2) s = Relu(c)
        d = Conv<pads=[1,1,1,1]>(s, w3) e = Add(d, r) t = Relu(e)
        y = Conv(t, w4)
    }"""
CLASSES = """
    net (float[N,3,8,8] x, float[8,3,3,3] w1, float[8] b1, float[16,8,3,3] w2, float[16] b2, float[6,16] w3, float[6] b3)
        => (float[N,6] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a)
        c = Conv<pads=[1,1,1,1]>(r, w2, b2) s = Relu(c)
        p = GlobalAveragePool(s) f = Flatten(p)
        y = Gemm<transB=1>(f, w3, b3)
    }"""
CPU = Compute(torch.device("cpu"))


def images(count: int, seed: int) -> Tensor:
    """Noise with some smoothness."""
    x = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (x + x.roll(1, 2) + x.roll(1, 3) + x.roll((1, 1), (2, 3))) / 2


OTHERS = images(64, seed=1)


class Run:
    """A network, its codes in closed form at 4 bits, and what the pass makes of them."""

    def __init__(self, text: str = CONV, constraints: Constraints = ANY, bits: int = 4, closed: bool = True) -> None:
        deploy = graph(text)
        config = PlacementConfig(wbits=bits, abits=bits, first_last_bits=bits, setting="qdrop", other_bits=8)
        self.placement = place(deploy, config, constraints)
        deploy = with_own_biases(deploy, [node for spec in self.placement.weights for node in spec.nodes])
        self.blocks = partition(deploy)
        self.network = import_graph(deploy)
        self.constraints = constraints
        self.images = images(96, seed=0)
        self.events: list[Step | Notice] = []
        self.codes = reconstruct(
            self.network,
            self.placement,
            self.blocks,
            self.images,
            ReconstructConfig(iterations=0),
            input_range=(-4.0, 4.0),
            headroom=1.0,
            seed=0,
            compute=CPU,
            progress=lambda event: None,
            finished=lambda result: None,
            constraints=constraints,
            closed=ClosedFormConfig() if closed else None,
            pieces=pieces(deploy, self.blocks),
        )

    def disturbed(self) -> Codes:
        """The codes with biases that are off."""
        biases = {name: bias + np.float32(0.6) * np.abs(bias).max() for name, bias in self.codes.biases.items()}
        return dataclasses.replace(self.codes, biases=biases)

    def __call__(self, codes: Codes, epochs: int = 4, rate: float = 0.02, **given: Any) -> LastPass:
        self.events.clear()
        given = {"scores": None, "seed": 0, "compute": CPU, "constraints": self.constraints, "batch_size": 16, **given}
        return last_pass(
            self.network,
            self.placement,
            self.blocks,
            codes,
            self.images,
            epochs=epochs,
            rate=rate,
            progress=self.events.append,
            **given,
        )

    def error(self, codes: Codes) -> float:
        """Mean squared error of the output, on images that the pass never saw."""
        exact = self.network({"x": OTHERS})["y"]
        found = simulate(self.network, self.placement, self.blocks, codes, OTHERS)["y"]
        return float((found - exact).square().mean())


@pytest.fixture(scope="module")
def run() -> Run:
    """The network without classes."""
    return Run()


def same(a: Codes, b: Codes) -> bool:
    """Whether two sets of codes are equal bit for bit."""
    parts = [
        [(w.codes, w.qparams.scale, w.qparams.zero_point) for w in (one.weights[n] for n in sorted(one.weights))]
        + [(g.scale, g.zero_point) for g in (one.activations[n] for n in sorted(one.activations))]
        + [(one.biases[n],) for n in sorted(one.biases)]
        for one in (a, b)
    ]
    return len(parts[0]) == len(parts[1]) and all(
        np.array_equal(x, y) for one, other in zip(*parts, strict=True) for x, y in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(("text", "scores"), [(CONV, None), (CLASSES, "y")])
def test_disturbed_biases_are_repaired_on_images_that_it_never_saw(text: str, scores: str | None) -> None:
    run = Run(text)
    codes = run.disturbed()
    found = run(codes, epochs=8, scores=scores)
    assert found.kept, str(found)
    assert found.after.values < found.before.values
    assert found.after.outputs < 0.6 * found.before.outputs
    assert run.error(found.codes) < 0.6 * run.error(codes)
    assert "is kept: on 24 images held back" in str(found)


def test_codes_zero_points_and_the_grid_of_the_input_stay(run: Run) -> None:
    codes = run.disturbed()
    found = run(codes).codes
    for name, weight in codes.weights.items():
        assert np.array_equal(weight.codes, found.weights[name].codes)
        assert np.array_equal(weight.qparams.zero_point, found.weights[name].qparams.zero_point)
        assert not np.array_equal(weight.qparams.scale, found.weights[name].qparams.scale), "nothing was learned"
    for name, grid in codes.activations.items():
        assert grid.zero_point == found.activations[name].zero_point
        assert (grid.scale == found.activations[name].scale) == (name == "x"), name
    assert found.biases.keys() == codes.biases.keys()


def test_biases_that_closed_form_left_alone_do_not_move() -> None:
    run = Run(closed=False)
    assert not run.codes.biases
    short = {n: dataclasses.replace(g, scale=np.asarray(g.scale * np.float32(0.4))) for n, g in run.codes.activations.items()}
    codes = dataclasses.replace(run.codes, activations=short)
    found = run(codes, epochs=6)
    assert found.kept, str(found)
    assert not found.codes.biases


@pytest.mark.parametrize("rate", [3.0, 1e30])
def test_what_only_harms_is_not_kept(run: Run, rate: float) -> None:
    found = run(run.codes, epochs=2, rate=rate)
    assert not found.kept
    assert found.codes == Codes()
    assert same(run.codes.merged(found.codes), run.codes)
    assert "is not kept" in str(found)


def test_on_noise_alone_a_gain_is_not_believed(run: Run) -> None:
    """A rate of nothing: the errors before and after are the same."""
    found = run(run.codes, epochs=1, rate=1e-12)
    assert not found.kept
    assert found.after.outputs == pytest.approx(found.before.outputs, rel=1e-6)


def test_it_is_the_float_network_that_is_imitated_and_not_the_other_way(run: Run) -> None:
    """With the disturbed network as teacher of a student that is right, the student would be ruined."""
    wrong = import_graph(graph(CONV.replace("s = Relu(c)", "s = Neg(c)")))
    codes = run.disturbed()
    right, ruined = run(codes, epochs=6), run(codes, epochs=6, twin=Twin(wrong))
    assert right.kept
    assert ruined.before.values > 2 * right.before.values
    assert run.error(codes.merged(ruined.codes)) > run.error(right.codes)


def test_an_equalised_student_is_compared_at_its_own_scale(run: Run) -> None:
    """teacher(x) = e_y f(x / e_x): a twin that says the output is twice as large makes an error of a quarter."""
    found = run(run.codes, epochs=1, rate=1e-9, twin=Twin(run.network, {"y": torch.full((5,), 2.0)}))
    assert found.before.outputs == pytest.approx(0.25, rel=0.2)  # the other way round 1


@pytest.mark.parametrize("name", ["vitis", "portable"])
def test_targets_keep_their_constraints(name: str) -> None:
    constraints = dataclasses.replace(TARGETS[name].constraints, value_bits=(2, 8))
    run = Run(constraints=constraints, bits=8)
    codes = run.disturbed()
    found = run(codes, epochs=6)
    assert found.kept, str(found)
    for of, grids in (
        ("weight", {n: (w.qparams, found.codes.weights[n].qparams) for n, w in codes.weights.items()}),
        ("value", {n: (g, found.codes.activations[n]) for n, g in codes.activations.items()}),
    ):
        for before, after in grids.values():
            assert after.axis == before.axis
            assert after.scale.shape == before.scale.shape
            if name == "vitis":
                assert np.array_equal(before.scale, after.scale), of
                assert (np.frexp(after.scale)[0] == 0.5).all()


def test_one_scale_for_a_tensor_stays_one_and_learns() -> None:
    run = Run(constraints=Constraints(weight_scale="tensor"))
    found = run(run.disturbed(), epochs=6)
    assert found.kept, str(found)
    for name, weight in run.codes.weights.items():
        now = found.codes.weights[name].qparams
        assert (now.axis, now.scale.shape) == (None, ())
        assert now.scale != weight.qparams.scale


def test_the_same_seed_gives_the_same_bits(run: Run) -> None:
    one, again, other = (run(run.disturbed(), seed=seed) for seed in (0, 0, 1))
    assert same(one.codes, again.codes)
    assert (one.before, one.after) == (again.before, again.after)
    assert not same(one.codes, other.codes)


def test_pieces_of_a_batch_add_up_to_it(run: Run) -> None:
    whole = Whole(run.network, run.placement, run.blocks, run.codes, ANY, torch.device("cpu"))
    one = image_bytes(whole, run.images[:1])
    tight = dataclasses.replace(CPU, budget=Budget(10**9, step=3 * one))
    plain, cut = run(run.disturbed(), epochs=2), run(run.disturbed(), epochs=2, compute=tight)
    assert cut.kept
    assert cut.after.outputs == pytest.approx(plain.after.outputs, rel=1e-2)
    for name, grid in plain.codes.activations.items():
        assert cut.codes.activations[name].scale == pytest.approx(grid.scale, rel=1e-2), name


def test_the_best_epoch_is_kept_and_not_the_last(run: Run) -> None:
    """More epochs than one: what is kept has the errors that are told, at the codes that are deployed."""
    found = run(run.disturbed(), epochs=5)
    held = run.images[-found.held :]
    exact = run.network({"x": held})["y"]
    power = run.network({"x": run.images})["y"].square().sum() / len(run.images)
    made = simulate(run.network, run.placement, run.blocks, found.codes, held)["y"]
    assert found.after.outputs == pytest.approx(float((made - exact).square().sum() / power / len(held)), rel=1e-4)


def test_a_single_image_and_nothing_to_move_are_no_reason_to_fail() -> None:
    run = Run()
    run.images = run.images[:1]
    assert "nothing to learn" in str(run(run.codes))
    run = Run(constraints=Constraints(scales="power-of-two"), closed=False)
    assert "nothing to learn" in str(run(run.codes))


def test_steps_are_told(run: Run) -> None:
    run(run.codes, epochs=2)
    steps = [event for event in run.events if isinstance(event, Step)]
    assert {step.stage for step in steps} == {"last-pass"}
    assert (steps[0].iteration, steps[-1].iteration, steps[-1].iterations) == (0, 8, 8)  # 72 images in batches of 16, twice


def test_memory_that_runs_out_once_is_dealt_with(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = Whole.__call__, []

    def short(self: Whole, batch: Tensor) -> dict[str, Tensor]:
        calls.append(len(batch))
        if len(calls) == 3:
            raise MemoryError
        return original(self, batch)

    monkeypatch.setattr(Whole, "__call__", short)
    found = run(run.disturbed(), epochs=2)
    assert found.kept
    assert any(isinstance(event, Notice) and "memory ran out" in event.text for event in run.events)


def test_every_process_of_a_team_has_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And they are those of one process, up to the order of sums."""
    # Its flags are of the whole process: threads would leave those of each other behind.
    monkeypatch.setattr(Compute, "_float32", lambda self: nullcontext())
    alone = Run()
    expected = alone(alone.disturbed(), epochs=2)

    def work(team: Team) -> LastPass:
        run = Run()
        return run(run.disturbed(), epochs=2, compute=dataclasses.replace(CPU, team=team))

    one, other = in_threads(2, work, OneMemory)
    assert one.kept
    assert same(one.codes, other.codes)
    assert (one.before, one.after) == (other.before, other.after)
    assert one.after.outputs == pytest.approx(expected.after.outputs, rel=1e-2)
