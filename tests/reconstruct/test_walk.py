"""The walk over blocks: linear in depth, one quantizer a value, tied weights tied, finished blocks not done again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from graphs import Net, graph

from genie_onnx.blocks import partition
from genie_onnx.config import PlacementConfig, ReconstructConfig
from genie_onnx.errors import RunError
from genie_onnx.events import Notice, Step
from genie_onnx.importer import import_graph
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import place
from genie_onnx.qparams import quantize
from genie_onnx.quant import fake_quantize
from genie_onnx.reconstruct import BlockResult, Codes, load, reconstruct, save, simulate, walk
from genie_onnx.reconstruct.student import build, initializer

IMAGES = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Run:
    """A graph at 4 bits, and what its reconstruction told on the way."""

    def __init__(self, deploy: ir.Model, points: str = "full") -> None:
        self.placement = place(deploy, PlacementConfig(points=points))  # type: ignore[arg-type]
        self.blocks = partition(deploy)
        self.network = import_graph(deploy)
        self.events: list[Step | Notice] = []
        self.results: list[BlockResult] = []

    def __call__(self, iterations: int = 3, done: Codes | None = None, headroom: float = 1.0) -> Codes:
        return reconstruct(
            self.network,
            self.placement,
            self.blocks,
            IMAGES,
            ReconstructConfig(iterations=iterations),
            input_range=(-4.0, 4.0),
            headroom=headroom,
            seed=0,
            compute=Compute(torch.device("cpu")),
            progress=self.events.append,
            finished=self.results.append,
            done=done,
        )


def residual(depth: int) -> ir.Model:
    """A network of `depth` residual blocks of two convolutions."""
    net = Net(size=8)
    x = net.conv("stem", "x", 6, k=3)
    for k in range(depth):
        y = net.conv(f"a{k}", x, 6, k=3)
        x = net.op("Relu", net.op("Add", net.conv(f"b{k}", y, 6, k=3, act=""), x))
    return net.model(net.conv("head", x, 4))


def same(a: Codes, b: Codes) -> bool:
    """Whether two sets of codes are equal bit for bit."""
    weights = all(np.array_equal(a.weights[n].codes, b.weights[n].codes) for n in a.weights)
    scales = all(np.array_equal(a.weights[n].qparams.scale, b.weights[n].qparams.scale) for n in a.weights)
    steps = all(np.array_equal(a.activations[n].scale, b.activations[n].scale) for n in a.activations)
    return weights and scales and steps and a.weights.keys() == b.weights.keys() and a.activations.keys() == b.activations.keys()


@pytest.mark.parametrize("depth", [2, 6])
def test_every_block_is_run_once_for_the_teacher_and_once_for_the_student(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Re-running the prefix for each block, as public implementations do, would be quadratic."""
    run = Run(residual(depth))
    calls = []
    original = walk.forward

    def counted(*arguments: object) -> object:
        calls.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(walk, "forward", counted)
    run(iterations=0)
    assert len(calls) == 2 * len(run.blocks) - 1, "nobody reads what the student makes of the last block"


def test_every_weight_and_every_value_gets_its_codes() -> None:
    run = Run(residual(2))
    codes = run()
    assert set(codes.weights) == {spec.value for spec in run.placement.weights}
    assert set(codes.activations) == {spec.name for spec in run.placement.activations}
    learnable = [b for b in run.blocks if b.weights]
    assert [r.block for r in run.results] == [b.name for b in learnable]
    assert {e.count for e in run.events if isinstance(e, Step) and e.stage == "learn"} == {len(learnable)}
    for spec in run.placement.weights:
        assert codes.weights[spec.value].qparams.bits == spec.bits


def test_zero_iterations_are_nearest_rounding() -> None:
    run = Run(residual(1))
    codes = run(iterations=0)
    for spec in run.placement.weights:
        weight = initializer(run.network, spec.value).numpy()
        found = codes.weights[spec.value]
        nearest = quantize(weight, found.qparams)
        scale = found.qparams.along(weight.ndim)[0]
        halves = np.abs(weight / scale - np.floor(weight / scale) - 0.5) < 1e-5  # h(v) rounds halves up, ONNX to even
        assert np.array_equal(found.codes[~halves], nearest.codes[~halves])


def test_finished_blocks_are_taken_over() -> None:
    whole = Run(residual(2))
    codes = whole()
    again = Run(residual(2))
    resumed = again(done=whole.results[0].codes.merged(whole.results[1].codes))
    assert [r.block for r in again.results] == [r.block for r in whole.results[2:]]
    assert same(codes, resumed)


def test_the_input_has_the_range_it_is_told_and_does_not_learn() -> None:
    codes = Run(residual(1))(iterations=5)
    grid = codes.activations["x"]
    assert grid.scale == pytest.approx(8 / 254)  # -4 .. 4 with zero on a code
    assert grid.zero_point == 127


def test_headroom_widens_8_bit_grids_alone() -> None:
    plain, wide = Run(residual(1))(iterations=0), Run(residual(1))(iterations=0, headroom=2.0)
    ratios = {name: (grid.bits, float(wide.activations[name].scale / grid.scale)) for name, grid in plain.activations.items()}
    assert {name for name, (bits, _) in ratios.items() if bits == 8} > {"x"}
    for name, (bits, ratio) in ratios.items():
        assert ratio >= 1.9 if bits == 8 and name != "x" else ratio == 1


def test_a_tied_weight_has_one_set_of_codes() -> None:
    net = Net(size=8)
    weight = net.constant("shared.w", np.random.default_rng(1).standard_normal((6, 6, 3, 3)))
    x = net.conv("stem", "x", 6, k=3)
    for k in range(5):
        x = net.conv(f"tied{k}", x, 6, k=3, weight=weight)
    run = Run(net.model(net.conv("head", x, 4)))
    assert len([b for b in run.blocks if "shared.w" in b.weights]) > 1
    codes = run()
    values = simulate(run.network, run.placement, run.blocks, codes, IMAGES[:2])
    assert sum("shared.w" in r.codes.weights for r in run.results) == 1
    assert all(torch.isfinite(y).all() for y in values.values())


def test_a_value_with_two_readers_is_rounded_once_and_the_same_for_both() -> None:
    deploy = residual(1)
    run = Run(deploy, points="layer-inputs")
    block = next(b for b in run.blocks if len(b.weights) == 2)
    student = build(run.network, block, run.placement, {s.name: 0 for s in run.placement.activations}, None)
    quantizers = [n for n in student.module.graph.nodes if n.op == "call_module" and str(n.target).startswith("quantize_")]
    assert len(quantizers) == len(student.scales) == 2
    entering = next(n for n in quantizers if n.args[0].op == "placeholder")
    assert len(entering.users) == 2  # the convolution and the skip
    x = torch.rand(2, 6, 8, 8)
    zeros = {w: torch.zeros_like(initializer(run.network, w)) for w in student.weights}
    steps = dict.fromkeys(student.scales, torch.tensor(0.25))
    (y,) = student([x], zeros, [initializer(run.network, b.bias) for b in student.biases], steps)
    assert torch.equal(y, fake_quantize(x, torch.tensor(0.25), 0, 15))  # with zero weights the skip alone is left


def test_a_value_that_feeds_no_layer_stays_float_in_the_published_points() -> None:
    run = Run(residual(1), points="layer-inputs")
    assert run.placement.activation_of("x") is None
    assert run.placement.activation_of("b0") is None


def test_codes_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    codes = Run(residual(1))()
    save(codes, path)
    assert same(codes, load(path))
    assert [p.name for p in path.parent.iterdir()] == ["codes.safetensors"]


def test_biases_are_rounded_as_the_file_stores_them() -> None:
    deploy = graph(
        "net (float[N, 3, 8, 8] x, float[16, 3, 1, 1] w1, float[16] b1, float[2, 16, 1, 1] w2) => (float[N, 2, 8, 8] y) "
        "{ a = Conv (x, w1, b1) r = Relu (a) y = Conv (r, w2) }"
    )
    run = Run(deploy)
    codes = run(iterations=0)
    values = simulate(run.network, run.placement, run.blocks, codes, torch.full((1, 3, 8, 8), 0.0))
    step = codes.activations["x"].scale * codes.weights["w1"].qparams.scale
    bias = initializer(run.network, "b1").numpy()
    expected = np.maximum(np.rint(bias / step) * step, 0)
    assert values["r"][0, :, 0, 0].numpy() == pytest.approx(expected, abs=1e-6)
    assert not np.allclose(expected, np.maximum(bias, 0), atol=1e-7)


def test_values_at_the_end_of_float32_are_named() -> None:
    """Finite, but the distance from the lowest to the highest is not."""
    net = Net(size=8)
    x = net.op("Mul", net.conv("c", "x", 6), net.constant("factor", [3e37]))
    with pytest.raises(RunError, match="is not finite"):
        Run(net.model(net.conv("head", x, 4)))()
