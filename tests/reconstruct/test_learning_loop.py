"""One block's optimisation: why the method exists, and what must hold at any number of samples."""

import pytest
import torch
from graphs import graph

from genie_onnx.blocks import partition
from genie_onnx.config import PlacementConfig, ReconstructConfig
from genie_onnx.errors import RunError
from genie_onnx.importer import Network, import_graph
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import Placement, place
from genie_onnx.quant import MaskSource, weight_grid
from genie_onnx.reconstruct.calibrate import calibrate
from genie_onnx.reconstruct.layout import to_rows, to_stored
from genie_onnx.reconstruct.learning_loop import BlockData, beta_at, optimise_block, sample_batches
from genie_onnx.reconstruct.learning_step import Fixed, Learned, StepSizes, Weight, error_slopes, reconstruction_error
from genie_onnx.reconstruct.store import Stored
from genie_onnx.reconstruct.student import Student, build, initializer

COMPUTE = Compute(torch.device("cpu"))
TEXT = """net (float[N, 6, 8, 8] x, float[12, 6, 3, 3] w1, float[12] b1, float[6, 12, 3, 3] w2, float[6] b2)
    => (float[N, 6, 8, 8] y) {
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w1, b1)
    r = Relu (a)
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r, w2, b2)
    y = Add (c, x)
}"""


class Case:
    """The residual block above at W2A4 with correlated input, as a teacher and a student."""

    def __init__(self, samples: int = 48, points: str = "layer-inputs", drop: float = 0.5) -> None:
        deploy = graph(TEXT)
        config = PlacementConfig(wbits=2, abits=4, first_last_bits=2, points=points)  # type: ignore[arg-type]
        self.placement: Placement = place(deploy, config)
        self.network: Network = import_graph(deploy)
        (self.block,) = partition(deploy)
        random = torch.Generator().manual_seed(0)
        mixing = torch.randn(6, 6, generator=random)
        x = torch.einsum("oc,nchw->nohw", mixing, torch.randn(samples, 6, 8, 8, generator=random))
        noisy = x + 0.05 * torch.randn(x.shape, generator=random)
        target = self.network.module(x)[0]
        self.data = BlockData(*((Stored(to_stored(value)),) for value in (x, noisy, target)), (1,))
        grids = calibrate(self.network, self.placement, x, random)
        self.scales = {name: grid.scale for name, grid in grids.items()}
        self.zero_points = {name: int(grid.zero_point) for name, grid in grids.items()}
        self.random = random
        self.student: Student = build(self.network, self.block, self.placement, self.zero_points, MaskSource(1 - drop, random))
        self.weights = []
        for spec in self.placement.weights:
            value = initializer(self.network, spec.value)
            self.weights.append(Weight(spec.value, value, 0, spec.bits, weight_grid(to_rows(value, 0), spec.bits)))

    def learn(self, config: ReconstructConfig, seed: int = 1) -> Learned:
        random = torch.Generator().manual_seed(seed)
        masks = MaskSource(1 - config.drop_probability, random)
        student = build(self.network, self.block, self.placement, self.zero_points, masks)
        biases = [initializer(self.network, b.bias) for b in student.biases]
        fixed = Fixed({}, biases, {})
        return optimise_block(student, self.data, self.weights, fixed, self.scales, config, COMPUTE, random, lambda *_: None)

    def errors(self, learned: Learned) -> tuple[float, float]:
        """Return the error of the output with every activation rounded, and the squared error of the weights."""
        student = build(self.network, self.block, self.placement, self.zero_points, None)
        weights = {name: codes * learned.scales[name].view(-1, 1, 1, 1) for name, codes in learned.codes.items()}
        biases = [initializer(self.network, b.bias) for b in student.biases]
        scales = {**self.scales, **learned.activations}
        x, target = (value.slice(0, len(value)).movedim(-1, 1) for (value,) in (self.data.student, self.data.target))
        output = student([x], weights, biases, scales)
        error = torch.nn.functional.mse_loss(output[0], target).item()
        return error, sum(float((weights[w.name] - w.value).square().sum()) for w in self.weights)


def test_learned_rounding_is_worse_on_the_weights_and_better_on_the_output() -> None:
    case = Case()
    nearest = case.learn(ReconstructConfig(iterations=0))
    learned = case.learn(ReconstructConfig(iterations=250, rounding_lr=1e-2))
    (nearest_error, nearest_distance), (learned_error, learned_distance) = case.errors(nearest), case.errors(learned)
    assert learned_error < 0.75 * nearest_error
    assert learned_distance > nearest_distance


def test_a_learned_step_size_fits_better_than_a_fixed_one() -> None:
    """The joint problem of Genie-M contains AdaRound's (fixed s): without noise and rounding term its loss ends lower."""
    case = Case(drop=0.0)
    free = {"iterations": 150, "rounding_lr": 1e-2, "weight_scale_lr": 1e-2, "rounding_weight": 0.0, "drop_probability": 0.0}
    joint = case.learn(ReconstructConfig(**free))  # type: ignore[arg-type]
    adaround = case.learn(ReconstructConfig(**free, learn_weight_scale=False))  # type: ignore[arg-type]
    assert all(torch.equal(adaround.scales[w.name], w.grid.scale) for w in case.weights)
    assert not any(torch.equal(joint.scales[w.name], w.grid.scale) for w in case.weights)
    assert joint.loss[1] < 0.95 * adaround.loss[1]


def test_the_rounding_term_drives_soft_bits_to_0_and_1() -> None:
    """Without it, hardening at the end throws away what was learned."""
    case = Case(drop=0.0)
    settings = {"iterations": 200, "rounding_lr": 1e-1, "drop_probability": 0.0}
    with_term = case.learn(ReconstructConfig(**settings, rounding_weight=30.0))  # type: ignore[arg-type]
    without = case.learn(ReconstructConfig(**settings, rounding_weight=0.0))  # type: ignore[arg-type]
    assert with_term.loss[1] > without.loss[1]  # the soft fit pays for it
    assert case.errors(with_term)[0] < 0.9 * case.errors(without)[0]


@pytest.mark.parametrize("samples", [5, 33, 96])
def test_any_number_of_samples(samples: int) -> None:
    learned = Case(samples).learn(ReconstructConfig(iterations=8))
    assert all(torch.isfinite(codes).all() for codes in learned.codes.values())


def test_a_seed_reproduces_bit_for_bit() -> None:
    config = ReconstructConfig(iterations=12)
    first, again, other = Case().learn(config, 1), Case().learn(config, 1), Case().learn(config, 2)
    assert all(torch.equal(first.scales[name], again.scales[name]) for name in first.scales)
    assert all(torch.equal(first.activations[name], again.activations[name]) for name in first.activations)
    assert any(not torch.equal(first.scales[name], other.scales[name]) for name in first.scales)


def test_activation_steps_learn() -> None:
    case = Case()
    learned = case.learn(ReconstructConfig(iterations=30, activation_scale_lr=1e-2))
    assert set(learned.activations) == set(case.scales)
    assert all(not torch.equal(learned.activations[n], case.scales[n]) for n in case.scales)


def test_infinite_input_is_refused_with_advice() -> None:
    case = Case()
    for (value,) in (case.data.teacher, case.data.student):
        value.slice(0, 1).fill_(torch.inf)
    with pytest.raises(RunError, match="--mean"):
        case.learn(ReconstructConfig(iterations=20))


@pytest.mark.parametrize(("count", "batch", "iterations"), [(1000, 32, 40), (96, 32, 7), (5, 32, 3), (1, 1, 4), (1024, 32, 0)])
def test_batches_are_shuffled_epochs(count: int, batch: int, iterations: int) -> None:
    batches = sample_batches(count, batch, iterations, torch.Generator().manual_seed(0))
    size = min(batch, count)
    assert batches.shape == (iterations, size)
    flat = batches.flatten()
    for epoch in flat[: len(flat) // count * count].view(-1, count):
        assert torch.equal(epoch.sort().values, torch.arange(count))


def test_beta_waits_for_the_warm_up_and_falls_linearly() -> None:
    config = ReconstructConfig(iterations=100)
    assert [beta_at(k, config) for k in (0, 19)] == [0, 0]
    assert beta_at(20, config) == 20
    assert beta_at(60, config) == pytest.approx(11)
    assert beta_at(99, config) == pytest.approx(2 + 18 / 80)


def test_slopes_are_the_gradient_of_the_error() -> None:
    random = torch.Generator().manual_seed(0)
    outputs = [
        torch.randn(4, 3, 5, 5, generator=random, requires_grad=True),
        torch.randn(4, 7, generator=random, requires_grad=True),
        torch.randn(4, 2, 6, generator=random, requires_grad=True),
    ]
    channels = (1, 1, -1)
    targets = [torch.randn(y.shape, generator=random) for y in outputs]
    error = sum(((y - t) ** 2).sum(axis).mean() for y, t, axis in zip(outputs, targets, channels, strict=True))
    assert isinstance(error, torch.Tensor)
    error.backward()
    slopes = error_slopes(outputs, targets, channels)
    for y, slope in zip(outputs, slopes, strict=True):
        assert torch.allclose(y.grad, slope)  # type: ignore[arg-type]
    assert reconstruction_error(slopes, channels).item() == pytest.approx(error.item(), rel=1e-5)


def test_a_tiny_step_survives_the_published_learning_rate() -> None:
    steps = StepSizes(torch.tensor([1e-4, 1.0]), learning_rate=4e-5)
    optimiser = torch.optim.Adam([steps.theta], lr=4e-5)
    for _ in range(300):
        optimiser.zero_grad()
        steps().sum().backward()  # always downhill
        optimiser.step()
    small, large = steps().tolist()
    assert 0 < small < 1e-4
    assert large == pytest.approx(1 - 300 * 4e-5, rel=1e-3)
