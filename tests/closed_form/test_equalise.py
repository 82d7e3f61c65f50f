"""Clips are the best of those tried; factors bring channels to one range without moving the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genie_onnx.closed_form import DENSE, DEPTHWISE, best_clips, factors
from genie_onnx.closed_form.equalise import LARGEST, SHRUNK

NONE = float("inf")


def brute_force(row: np.ndarray, bits: int, signed: bool) -> float:
    """The range among those tried that loses least, as a loop over numbers."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    best = (np.inf, 0.0)
    for ratio in SHRUNK:
        clip = ratio * np.abs(row).max()
        error = sum((min(max(np.rint(v / (clip / high)), low), high) * clip / high - v) ** 2 for v in row) / len(row)
        best = min(best, (error, clip))
    return best[1]


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_clips_are_the_best_of_those_tried(bits: int, signed: bool) -> None:
    """Channels of different ranges, one with an outlier."""
    samples = torch.randn(4, 60, generator=torch.Generator().manual_seed(bits), dtype=torch.float64)
    samples *= torch.tensor([0.1, 1.0, 10.0, 1.0])[:, None]
    samples[3, 0] = 8
    samples = samples if signed else samples.abs()
    expected = [brute_force(row, bits, signed) for row in samples.numpy()]
    assert best_clips(samples, bits).tolist() == pytest.approx(expected, rel=1e-12)


def test_an_outlier_is_cut_off_where_that_costs_less() -> None:
    samples = torch.rand(1, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples[0, 0] = 3
    assert 1 < best_clips(samples, 4).item() < 2.5
    assert best_clips(samples[:, :2], 4).item() > 2.5  # one of two


def test_one_negative_number_makes_the_grid_of_all_channels_signed() -> None:
    samples = torch.rand(2, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples[0, 0] = -0.5
    assert best_clips(samples, 3).tolist() == pytest.approx([brute_force(row, 3, True) for row in samples.numpy()])


def test_dead_channels_have_no_range() -> None:
    samples = torch.stack([torch.zeros(10), torch.full((10,), 1e-38), torch.ones(10)])
    clips = best_clips(samples, 4)
    assert clips[0] == 0
    assert clips.isfinite().all()
    assert clips[2] == 1


def vectors(*rows: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(row) for row in rows]


def test_whole_factors_bring_all_channels_to_the_same_range() -> None:
    clips, alpha, ceilings = vectors([0.5, 1.0, 3.0, 4.0], [DEPTHWISE] * 4, [NONE] * 4)
    found = factors(clips, alpha, ceilings)
    torch.testing.assert_close(found * clips, torch.full((4,), 6**0.25))


@pytest.mark.parametrize("alpha", [DEPTHWISE, DENSE], ids=["depthwise", "dense"])
def test_without_a_ceiling_their_geometric_mean_is_one(alpha: float) -> None:
    clips, exponents, ceilings = vectors([0.5, 1.0, 3.0, 4.0], [alpha] * 4, [NONE] * 4)
    found = factors(clips, exponents, ceilings)
    assert found.log().mean().item() == pytest.approx(0, abs=1e-6)
    assert found.sort(descending=True).indices.tolist() == [0, 1, 2, 3]


def test_a_dense_reader_halves_the_spread() -> None:
    clips, exponents, ceilings = vectors([1.0, 4.0], [DENSE] * 2, [NONE] * 2)
    assert factors(clips, exponents, ceilings).tolist() == pytest.approx([2**0.5, 0.5**0.5])


def test_below_a_ceiling_channels_only_grow() -> None:
    """To the ceiling itself, where nothing else reads them; what reaches beyond stays as it is."""
    clips, exponents, ceilings = vectors([1.5, 3.0, 6.0, 7.0], [DEPTHWISE] * 4, [6.0] * 4)
    assert factors(clips, exponents, ceilings).tolist() == pytest.approx([4.0, 2.0, 1.0, 1.0])


def test_dead_channels_stay_and_do_not_count() -> None:
    clips, exponents, ceilings = vectors([0.0, 2.0, 8.0, 0.0], [DEPTHWISE] * 4, [NONE, NONE, NONE, 6.0])
    assert factors(clips, exponents, ceilings).tolist() == pytest.approx([1.0, 2.0, 0.5, 1.0])
    assert factors(torch.zeros(4), exponents, ceilings).tolist() == [1.0] * 4


@pytest.mark.parametrize("ceiling", [NONE, 6.0])
def test_almost_dead_channels_are_not_blown_up(ceiling: float) -> None:
    clips, exponents, ceilings = vectors([1e-30, 1.0, 1.0, 1e30], [DEPTHWISE] * 4, [ceiling] * 4)
    found = factors(clips, exponents, ceilings)
    assert found[0] == LARGEST
    assert found[3] == (1 / LARGEST if ceiling == NONE else 1)
