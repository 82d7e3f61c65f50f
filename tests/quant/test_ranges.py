"""The step-size search against a brute-force transcription of Eq. 6, and on grids that must come back exactly."""

import math
from typing import Literal

import numpy as np
import pytest
import torch

from genie_onnx.quant import Grid, activation_grid, range_grid, ranges, weight_grid
from genie_onnx.targets import Constraints


def brute_force(row: np.ndarray, bits: int) -> tuple[float, float]:
    """Eq. 6 for one channel, as a loop: best scale and its zero point."""
    low, high, qmax = min(row.min(), 0.0), max(row.max(), 0.0), 2**bits - 1
    zero_point = np.clip(np.rint(-low / ((high - low) / qmax)), 0, qmax)
    best = (np.inf, 0.0)
    for k in range(100, 0, -1):
        scale = k / 100 * (high - low) / qmax
        quantised = scale * (np.clip(np.rint(row / scale) + zero_point, 0, qmax) - zero_point)
        best = min(best, (float((np.abs(row - quantised) ** 2.4).mean()), scale))
    return best[1], zero_point


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_weight_grid_is_the_best_of_the_hundred_ratios_of_each_channel(bits: int) -> None:
    weight = torch.randn(5, 60, generator=torch.Generator().manual_seed(bits), dtype=torch.float64) * torch.logspace(
        -3, 1, 5
    ).unsqueeze(1)
    weight[2] = weight[2].abs()  # one-sided channels keep zero on the grid
    scale, zero_point = weight_grid(weight, bits)
    for k, row in enumerate(weight.numpy()):
        expected_scale, expected_zero = brute_force(row, bits)
        assert scale[k].item() == pytest.approx(expected_scale, rel=1e-9)
        assert zero_point[k].item() == expected_zero


@pytest.mark.parametrize("searched", [1, 5 * 60 * 7])
def test_how_many_scales_are_tried_at_once_does_not_matter(searched: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time, or seven, the last time fewer; of scales that are equally good the largest is taken."""
    weight = torch.randn(5, 60, generator=torch.Generator().manual_seed(0))
    weight[4] = 0
    weight[4, 0] = 1.0  # on the grid at every ratio that is one over a whole number
    found = weight_grid(weight, 4)
    monkeypatch.setattr(ranges, "SEARCHED", searched)
    assert all(torch.equal(a, b) for a, b in zip(found, weight_grid(weight, 4), strict=True))
    assert found.scale[4].item() == pytest.approx(1 / 15)


def test_eight_bit_weights_are_symmetric() -> None:
    weight = torch.tensor([[-0.5, 1.27, 0.3]])
    scale, zero_point = weight_grid(weight, 8)
    assert zero_point.tolist() == [128]
    assert scale.item() == pytest.approx(0.01)


def test_values_on_a_grid_lose_nothing() -> None:
    weight = torch.tensor([[-0.2, 0.0, 0.1, 0.1, -0.1]])
    scale, zero_point = weight_grid(weight, 2)
    assert scale.item() == pytest.approx(0.1)
    assert zero_point.item() == 2


def test_dead_channels_have_a_scale_at_which_a_bias_fits() -> None:
    weight = torch.tensor([[0.5, -0.5], [0.0, 0.0], [1e-12, 0.0]])
    scale, _ = weight_grid(weight, 4)
    assert scale[1] == scale[0]
    assert scale[2] == scale[0] * 2**-14
    assert weight_grid(torch.zeros(2, 4), 4).scale.tolist() == [2**-7] * 2


def test_an_outlier_is_clipped_when_that_costs_less() -> None:
    row = torch.cat([torch.linspace(-1, 1, 4000), torch.tensor([4.0])]).unsqueeze(0)
    full = (row.max() - row.min()) / 15
    assert weight_grid(row, 4).scale.item() < 0.9 * full.item()


def test_activation_without_negative_values_is_unsigned() -> None:
    sample = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert activation_grid(sample, sample.min(), sample.max(), 4).zero_point.item() == 0


def test_symmetric_activation_has_a_central_zero_point() -> None:
    sample = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    limit = sample.abs().max()
    assert activation_grid(sample, -limit, limit, 8).zero_point.item() == 128


def test_a_silu_like_range_gets_an_affine_grid() -> None:
    sample = torch.nn.functional.silu(torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 2)
    scale, zero_point = activation_grid(sample, sample.min(), sample.max(), 4)
    assert 0 < zero_point.item() < 4
    symmetric = sample.abs().max() / 7
    assert scale < symmetric


def test_the_range_counts_beyond_the_sample() -> None:
    """A negative value that the sample missed still makes the grid signed."""
    sample = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert activation_grid(sample, torch.tensor(-1.0), torch.tensor(1.0), 8).zero_point.item() > 0


def test_symmetric_weights_have_their_zero_point_in_the_middle() -> None:
    weight = torch.rand(3, 50, generator=torch.Generator().manual_seed(0))
    symmetric = weight_grid(weight, 4, Constraints(weight_grid="symmetric"))
    assert symmetric.zero_point.tolist() == [8, 8, 8]
    assert weight_grid(weight, 4).zero_point.tolist() == [0, 0, 0]


def test_one_scale_a_tensor_is_that_of_the_whole() -> None:
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.1], [1], [3]])
    scale, zero_point = weight_grid(weight, 4, Constraints(weight_scale="tensor"))
    whole = weight_grid(weight.reshape(1, -1), 4)
    assert scale.tolist() == [whole.scale.item()] * 3
    assert zero_point.tolist() == [whole.zero_point.item()] * 3


@pytest.mark.parametrize("bits", [3, 8])
def test_powers_of_two_and_the_best_of_them(bits: int) -> None:
    constraints = Constraints(scales="power-of-two")
    sample = torch.randn(4000, generator=torch.Generator().manual_seed(bits)) * 0.7
    for grid in (
        activation_grid(sample, sample.min(), sample.max(), bits, constraints),
        activation_grid(sample.abs(), torch.tensor(0.0), sample.abs().max(), bits, constraints),
        range_grid(-2.1, 2.6, bits, constraints),
        Grid(*(part[0] for part in weight_grid(sample.reshape(1, -1), bits, constraints))),
    ):
        assert math.log2(grid.scale.item()) == round(math.log2(grid.scale.item()))
    grid = activation_grid(sample.abs(), torch.tensor(0.0), sample.abs().max(), bits, constraints)

    def error(scale: float) -> float:
        rounded = (sample.abs() / scale).round().clamp(0, 2**bits - 1) * scale
        return float((rounded - sample.abs()).abs().pow(2.4).mean())

    assert min((2.0**k for k in range(-20, 4)), key=error) == grid.scale.item()


def test_wide_values_may_have_to_be_symmetric_and_narrow_ones_not() -> None:
    constraints = Constraints(wide_values="symmetric")
    sample = torch.rand(1000, generator=torch.Generator().manual_seed(1))
    ends = torch.tensor(0.0), sample.max()
    assert activation_grid(sample, *ends, 8, constraints).zero_point.item() == 128
    assert activation_grid(sample, *ends, 4, constraints).zero_point.item() == 0
    grid = range_grid(-1.0, 3.0, 8, constraints)
    assert grid.zero_point.item() == 128
    assert grid.scale.item() == pytest.approx(3 / 127)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("scales", ["any", "power-of-two"])
def test_unshifted_values_are_unsigned_or_symmetric(scales: Literal["any", "power-of-two"], bits: int) -> None:
    constraints = Constraints(value_grid="unshifted", scales=scales)
    x = torch.linspace(0, 6, 500)
    for sample, zero_point in ((x, 0), (x - 0.28, 2 ** (bits - 1))):
        found = activation_grid(sample, sample.min(), sample.max(), bits, constraints)
        wide = range_grid(float(sample.min()), float(sample.max()), bits, constraints)
        assert [float(grid.zero_point) for grid in (found, wide)] == [zero_point, zero_point]
    shifted = activation_grid(x - 0.28, (x - 0.28).min(), (x - 0.28).max(), 4, Constraints())
    assert float(shifted.zero_point) not in (0, 8)


def test_pixels_do_not_lie_between_two_codes() -> None:
    pixels = torch.arange(256) / 127.5 - 1
    grid = range_grid(-1.0, 1.0, 8)
    position = pixels / grid.scale + grid.zero_point
    assert len(position.round().unique()) >= 255
    assert position.round().min() >= 0
    assert position.round().max() <= 255
    assert range_grid(0.0, 1.0, 8) == Grid(torch.tensor(1 / 255), torch.tensor(0.0))
    centred = range_grid(-127 / 128, 1.0, 8)
    assert (centred.scale.item(), centred.zero_point.item()) == (1 / 128, 127)


@pytest.mark.parametrize("low", [-0.004, -0.1234, -0.5, -2.0])
def test_the_whole_range_is_on_the_grid(low: float) -> None:
    scale, zero_point = range_grid(low, 1.0, 8)
    assert (0 - zero_point) * scale <= low + scale / 2
    assert (255 - zero_point) * scale >= 1 - scale / 2
