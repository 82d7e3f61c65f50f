"""Blocks rounded in closed form: nearer at the network's output than nearest rounding, exact in the mean, kept where learning
does not gain, and the same in every process and in a run that goes on."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
import pytest
import torch
from graphs import graph
from team_of_threads import OneMemory, in_threads
from token_nets import CHANNELS_LAST
from torch import Tensor

from genie_onnx.blocks import Block, partition, pieces
from genie_onnx.closed_form import Moments, Solution
from genie_onnx.config import ClosedFormConfig, PlacementConfig, ReconstructConfig
from genie_onnx.events import Notice, Step
from genie_onnx.graph import query, with_own_biases
from genie_onnx.importer import import_graph
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.team import ALONE, Team
from genie_onnx.placement import place
from genie_onnx.qparams import quantize
from genie_onnx.reconstruct import BlockResult, Codes, Twin, closed, reading, reconstruct, simulate
from genie_onnx.reconstruct.final import final_block
from genie_onnx.reconstruct.forward import FORWARD_BATCH
from genie_onnx.reconstruct.student import initializer
from genie_onnx.targets import PORTABLE, TARGETS, Form

T = TypeVar("T")
CONV = """
    net (float[N,3,8,8] x, float[8,3,3,3] w1, float[8] b1, float[8,8,3,3] w2, float[8] b2, float[8,8,3,3] w3, float[5,8,1,1] w4)
        => (float[N,5,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a)
        c = Conv<pads=[1,1,1,1]>(r, w2, b2) s = Relu(c)
        d = Conv<pads=[1,1,1,1]>(s, w3) e = Add(d, r) t = Relu(e)
        y = Conv(t, w4)
    }"""
DEPTHWISE = """
    net (float[N,3,8,8] x, float[8,3,3,3] w1, float[8,1,3,3] w2, float[8] b2, float[12,8,1,1] w3, float[12] b3,
         float[12,1,3,3] w4, float[5,12,1,1] w5) => (float[N,5,8,8] y) <float zero = {0}, float six = {6}> {
        a = Conv<pads=[1,1,1,1]>(x, w1) r = Clip(a, zero, six)
        c = Conv<pads=[1,1,1,1], group=8>(r, w2, b2) s = Clip(c, zero, six)
        d = Conv(s, w3, b3) t = Clip(d, zero, six)
        e = Conv<pads=[1,1,1,1], group=12>(t, w4) u = Clip(e, zero, six)
        y = Conv(u, w5)
    }"""
TRANSPOSED = """
    net (float[N,3,8,8] x, float[8,3,3,3] w1, float[8,6,2,2] w2, float[6] b2, float[6,6,3,3] w3, float[4,6,1,1] w4)
        => (float[N,4,16,16] y) {
        a = Conv<pads=[1,1,1,1], strides=[1,1]>(x, w1) r = Relu(a)
        c = ConvTranspose<strides=[2,2]>(r, w2, b2) s = Relu(c)
        d = Conv<pads=[1,1,1,1]>(s, w3) t = Relu(d)
        y = Conv(t, w4)
    }"""
DENSE = """
    net (float[N,3,8,8] x, float[8,3,3,3] w1, float[8,16] w2, float[16] b2, float[12,16] w3, float[12] b3, float[5,12] w4)
        => (float[N,5] y) {
        a = Conv<strides=[2,2]>(x, w1) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p)
        c = MatMul(f, w2) d = Add(c, b2) s = Relu(d)
        e = Gemm<transB=1, alpha=0.5, beta=2.0>(s, w3, b3) t = Relu(e)
        y = Gemm<transB=1>(t, w4)
    }"""
NETS = {"conv": CONV, "depthwise": DEPTHWISE, "transposed": TRANSPOSED, "dense": DENSE, "tokens": CHANNELS_LAST}


def images(count: int, seed: int) -> Tensor:
    """Smooth enough that inputs of a layer have to do with each other."""
    x = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (x + x.roll(1, 2) + x.roll(1, 3) + x.roll((1, 1), (2, 3))) / 2


HELD = images(64, seed=1)


class Run:
    """A network, and what its reconstruction told on the way."""

    def __init__(self, text: str, wbits: int = 4, abits: int = 4, first_last: int = 4, count: int = 96) -> None:
        deploy = graph(text)
        config = PlacementConfig(wbits=wbits, abits=abits, first_last_bits=first_last, setting="qdrop")
        self.placement = place(deploy, config)
        self.deploy: ir.Model = with_own_biases(deploy, [node for spec in self.placement.weights for node in spec.nodes])
        self.blocks = partition(self.deploy)
        self.pieces = pieces(self.deploy, self.blocks)
        self.network = import_graph(self.deploy)
        self.images = images(count, seed=0)
        self.events: list[Step | Notice] = []
        self.results: list[BlockResult] = []

    def __call__(
        self,
        closed: ClosedFormConfig | None = None,
        learn: ReconstructConfig | None = None,
        done: Codes | None = None,
        team: Team = ALONE,
        twin: Twin | None = None,
    ) -> Codes:
        self.events.clear()
        self.results.clear()
        return reconstruct(
            self.network,
            self.placement,
            self.blocks,
            self.images,
            learn or ReconstructConfig(iterations=0),
            input_range=(-4.0, 4.0),
            headroom=1.0,
            seed=0,
            compute=Compute(torch.device("cpu"), team=team),
            progress=self.events.append,
            finished=self.results.append,
            done=done,
            closed=closed,
            pieces=self.pieces,
            twin=twin,
        )

    def error(self, codes: Codes) -> float:
        """Mean squared error of the output, on images that nothing was fitted to."""
        exact = self.network({"x": HELD})["y"]
        found = simulate(self.network, self.placement, self.blocks, codes, HELD)["y"]
        return float((found - exact).square().mean())


def same(a: Codes, b: Codes) -> bool:
    """Whether two sets of codes are equal bit for bit, biases included."""
    weights = all(
        np.array_equal(w.codes, b.weights[n].codes) and np.array_equal(w.qparams.scale, b.weights[n].qparams.scale)
        for n, w in a.weights.items()
    )
    grids = all(np.array_equal(grid.scale, b.activations[n].scale) for n, grid in a.activations.items())
    biases = all(np.array_equal(bias, b.biases[n]) for n, bias in a.biases.items())
    names = all(getattr(a, kind).keys() == getattr(b, kind).keys() for kind in ("weights", "activations", "biases"))
    return weights and grids and biases and names


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        *((name, 3) for name in NETS),
        ("conv", 4),
        *(pytest.param(name, 4, marks=pytest.mark.slow) for name in NETS if name != "conv"),
    ],
)
def test_it_is_nearer_at_the_output_than_nearest_rounding(name: str, bits: int) -> None:
    """On images held back: weights make good for each other, and for what rounding did to what they read."""
    run = Run(NETS[name], wbits=bits, first_last=bits)
    errors = [run.error(run(closed)) for closed in (None, ClosedFormConfig())]
    assert errors[1] < 0.8 * errors[0], f"{name} at W{bits}A4: {errors[1]:.3g}, nearest {errors[0]:.3g}"


def narrow(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    """Leave so little room that tensors of moments have at most so many numbers."""
    monkeypatch.setattr(reading, "LEAST", 1)
    monkeypatch.setattr(reading, "ROOM", elements * 8 * reading.COPIES)


@pytest.mark.parametrize("name", NETS)
def test_without_room_layers_are_solved_in_parts_and_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Still better than nearest, and nothing is larger than what it was bounded by."""
    run = Run(NETS[name], wbits=3, first_last=3)
    errors = [run.error(run(None))]
    seen: list[int] = []
    whole = closed.solve

    def solve(weight: Tensor, moments: Moments, *rest: Any) -> Solution:
        seen.append(moments.split.count)
        assert max(moments.H.numel(), moments.G.numel()) <= 300
        assert weight.numel() <= 150 or weight.shape[1] == 1
        return whole(weight, moments, *rest)

    monkeypatch.setattr(closed, "solve", solve)
    narrow(monkeypatch, 300)
    errors.append(run.error(run(ClosedFormConfig())))
    assert errors[1] < 0.9 * errors[0]
    assert max(seen) > 1


@pytest.mark.parametrize("name", NETS)
def test_biases_make_the_mean_of_each_layer_that_of_the_teacher(name: str) -> None:
    """On the images of the run, layer by layer, whatever is rounded before; not so if what the two networks read were swapped."""
    run = Run(NETS[name], wbits=3)
    codes = run(ClosedFormConfig())
    layers = {str(node.outputs[0].name): str(node.inputs[0].name) for node in query.weighted_nodes(run.deploy) if node.inputs[0]}
    for product in MATMULS.keys() & layers.keys() if name in ("dense", "tokens") else ():
        layers[MATMULS[product]] = layers.pop(product)  # the bias of a MatMul is what an Add behind it adds
    exact = run.network.extract(run.network.inputs, list(layers))({"x": run.images})
    for value, read in layers.items():
        y, y_q = exact[value], read_as_rounded(run, codes, read, value)
        axes = [axis for axis in range(y.dim()) if axis != (3 if name == "tokens" and value in MATMULS.values() else 1)]
        difference = (y.double().mean(axes) - y_q.double().mean(axes)).abs().max()
        # Sums of up to some hundred float32 terms, over images that were fed through in other batches
        assert float(difference) < 2e-5 * float(y.abs().max()), value
        assert float((y - y_q).abs().max()) > 1e-2 * float(y.abs().max()), f"{value} is not rounded at all"


MATMULS = {"c": "d", "wide": "wide_b", "narrow": "narrow_b"}  # of DENSE and CHANNELS_LAST


def read_as_rounded(run: Run, codes: Codes, read: str, value: str) -> Tensor:
    """What the layer that writes `value` makes of `read` as the quantised network has it, its own bias a float.

    In a file a bias is rounded to INT32: it is no mean any more, by up to half of a step, and what is behind makes good for that.
    """
    found: dict[str, Tensor] = {"x": run.images}
    for block in run.blocks:
        inner = set(run.network.extract(block.inputs, block.outputs).nodes)
        if value in inner:
            break
        found.update(_made(run, codes, block, block.inputs, block.outputs, found, PORTABLE.form))
    if read not in found:
        found.update(_made(run, codes, block, block.inputs, (read,), found, PORTABLE.form))
    return _made(run, codes, block, (read,), (value,), found, TARGETS["tensorrt"].form)[value]


def _made(
    run: Run, codes: Codes, block: Block, inputs: tuple[str, ...], outputs: tuple[str, ...], found: dict[str, Tensor], form: Form
) -> dict[str, Tensor]:
    part = dataclasses.replace(block, inputs=inputs, outputs=outputs)
    function = final_block(run.network, part, run.placement, codes, torch.device("cpu"), form)
    with torch.no_grad():
        return dict(zip(outputs, function(*(found[v] for v in inputs)), strict=True))


def test_making_good_for_what_rounding_did_to_the_input_is_worth_it() -> None:
    """The ablations: without `mismatch`, and without `biases`."""
    run = Run(CONV, wbits=4, abits=4)
    whole, blind, still = (
        run.error(run(ClosedFormConfig(**changes))) for changes in ({}, {"mismatch": False}, {"biases": False})
    )
    assert whole < 0.97 * blind
    assert whole < 0.97 * still


@pytest.mark.parametrize("iterations", [0, 3])
def test_8_bit_weights_are_nearest_and_not_learned(iterations: int) -> None:
    run = Run(CONV, wbits=8, abits=8, first_last=8)
    codes = run(ClosedFormConfig(), ReconstructConfig(iterations=iterations))
    assert set(codes.weights) == {"w1", "w2", "w3", "w4"}
    for name, found in codes.weights.items():
        weight = initializer(run.network, name).numpy()
        scale = found.qparams.along(weight.ndim)[0]
        halves = np.abs(weight / scale - np.floor(weight / scale) - 0.5) < 1e-4  # either side is as near
        assert np.array_equal(found.codes[~halves], quantize(weight, found.qparams).codes[~halves]), name
    assert not any(isinstance(event, Step) and event.stage == "learn" for event in run.events)
    assert set(codes.biases) >= {"b1", "b2"}, "their mean errors are taken all the same"


def test_8_bit_weights_make_good_for_noisy_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(CONV, wbits=8, abits=3, first_last=8)
    solved = run(ClosedFormConfig())
    monkeypatch.setattr("genie_onnx.reconstruct.closed.QUIET", float("inf"))
    nearest = run(ClosedFormConfig())
    np.testing.assert_array_equal(solved.weights["w1"].codes, nearest.weights["w1"].codes)  # the image has 8 bits
    assert not np.array_equal(solved.weights["w3"].codes, nearest.weights["w3"].codes)
    assert run.error(solved) < 0.98 * run.error(nearest)


def test_of_a_block_with_both_only_narrow_weights_are_learned() -> None:
    run = Run(CONV, first_last=8)
    closed, learned = run(ClosedFormConfig()), run(ClosedFormConfig(), ReconstructConfig(iterations=40, rounding_lr=0.05))
    assert any(isinstance(event, Step) and event.stage == "learn" for event in run.events)
    for name in ("w1", "w4"):
        np.testing.assert_array_equal(closed.weights[name].codes, learned.weights[name].codes)


def test_a_block_that_learning_makes_worse_keeps_its_codes() -> None:
    run = Run(CONV)
    closed = run(ClosedFormConfig())
    wrecking = ReconstructConfig(iterations=12, rounding_lr=30.0, weight_scale_lr=1.0, activation_scale_lr=1.0, bias_lr=30.0)
    kept = run(ClosedFormConfig(), wrecking)
    assert any(isinstance(event, Step) and event.stage == "learn" for event in run.events)
    assert all(before == after for before, after in (result.loss for result in run.results))
    assert same(closed, kept)


def test_a_block_that_learning_makes_better_has_learned_codes_and_a_smaller_loss() -> None:
    run = Run(DEPTHWISE, wbits=2, first_last=2, count=192)
    closed = run(ClosedFormConfig())
    first = run.error(closed)
    learned = run(ClosedFormConfig(), ReconstructConfig(iterations=200, rounding_lr=3e-3))
    gained = [result for result in run.results if result.loss[1] < result.loss[0]]
    assert gained
    assert not same(closed, learned)
    assert run.error(learned) < first


WAYS = {"closed": (0, False), "learned": (60, False), "in parts": (0, True)}
QUICK = {("conv", "learned"), ("depthwise", "in parts"), ("tokens", "closed")}


@pytest.mark.parametrize(
    ("name", "iterations", "parts"),
    [
        pytest.param(name, *WAYS[way], id=f"{name}, {way}", marks=[] if (name, way) in QUICK else pytest.mark.slow)
        for name in ("conv", "depthwise", "tokens")
        for way in WAYS
    ],
)
def test_finished_blocks_are_taken_over_bit_for_bit(
    name: str, iterations: int, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether learning gained or not: those behind them see the same values, to the last bit."""
    if parts:
        narrow(monkeypatch, 300)
    run = Run(NETS[name], wbits=2, first_last=2)
    learn = ReconstructConfig(iterations=iterations, rounding_lr=0.02)
    whole = run(ClosedFormConfig(), learn)
    results = list(run.results)
    assert len(results) > 1
    done = Codes()
    for number, result in enumerate(results[:-1]):
        done = done.merged(result.codes)
        assert same(run(ClosedFormConfig(), learn, done=done), whole), f"after block {number}"
        assert [r.block for r in run.results] == [r.block for r in results[number + 1 :]]


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        pytest.param(FORWARD_BATCH // 4, True, id="one batch, in parts"),
        pytest.param(2 * FORWARD_BATCH + 3, False, id="several, whole"),
        pytest.param(FORWARD_BATCH // 4, False, id="one batch, whole", marks=pytest.mark.slow),
        pytest.param(2 * FORWARD_BATCH + 3, True, id="several, in parts", marks=pytest.mark.slow),
    ],
)
def test_every_process_of_a_team_has_the_same_codes(count: int, parts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is a batch for the first of them alone. One process does the same up to the order of sums."""
    if parts:
        narrow(monkeypatch, 700)
    # Its flags are of the whole process: threads would leave those of each other behind.
    monkeypatch.setattr(Compute, "_float32", lambda self: nullcontext())
    alone = Run(CONV, count=count)
    expected = alone(ClosedFormConfig())
    one, other = in_threads(2, lambda team: Run(CONV, count=count)(ClosedFormConfig(), team=team), OneMemory)
    assert same(one, other)
    assert alone.error(one) == pytest.approx(alone.error(expected), rel=0.1)
    for name, weight in expected.weights.items():
        assert np.mean(weight.codes != one.weights[name].codes) < 0.05, name


def test_what_is_added_in_another_block_than_the_matmul_is_not_moved() -> None:
    """The rounded network is simulated block by block, and one without the layer has the model's own constants."""
    run = Run("""
        net (float[N,3,8,8] x, float[4,3,3,3] w1, float[4,2] w2, float[4,4] w3, float[4] b3) => (float[N,2] y, float[N,4] z) {
            a = Conv(x, w1) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p)
            y = MatMul(f, w2) k = MatMul(f, w3) z = Add(k, b3)
        }""")
    owners = {node: block.name for block in run.blocks for node in block.nodes}
    assert owners["k"] != owners["z"], "the graph is cut elsewhere now: another one is needed here"
    assert "b3" not in run(ClosedFormConfig()).biases
