"""Weights times columns are what the layer computes, at every position, for every geometry that the importer knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from genie_onnx.closed_form import Columns, Rows, Windows, columns, drawn_positions, mean_column
from genie_onnx.importer.conv import Conv, ConvTranspose
from genie_onnx.importer.linear import Gemm, MatMul

Case = tuple[Windows, nn.Module, Tensor, Tensor, Tensor]  # the layer in both forms, x, weight, bias
Make = Callable[[str], Case]
assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)  # float64 sums in another order

# (channels, kernel, spatial size of the input, strides, dilations, pads, groups)
CONV = {
    "1x1": (3, (1, 1), (4, 5), (1, 1), (1, 1), ((0, 0), (0, 0)), 1),
    "3x3 padded": (3, (3, 3), (5, 4), (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    "uneven in every respect": (4, (3, 2), (7, 6), (2, 1), (1, 2), ((1, 1), (0, 2)), 2),
    "asymmetric pads": (2, (3, 3), (6, 6), (2, 2), (1, 1), ((0, 1), (2, 0)), 1),
    "negative pads": (2, (3, 3), (8, 7), (1, 2), (1, 1), ((-1, 0), (1, -2)), 1),
    "depthwise": (4, (3, 3), (5, 5), (1, 1), (1, 1), ((1, 1), (1, 1)), 4),
    "groups of three": (6, (3, 3), (4, 4), (1, 1), (1, 1), ((1, 1), (1, 1)), 2),
    "kernel wider than the input": (2, (5, 5), (2, 3), (1, 1), (1, 1), ((2, 2), (2, 2)), 1),
    "1-D dilated": (3, (3,), (9,), (2,), (3,), ((2, 1),), 1),
    "3-D": (2, (2, 3, 1), (3, 5, 4), (1, 2, 2), (2, 1, 1), ((1, 0), (0, 1), (0, 0)), 2),
}
TRANSPOSED = {
    "doubles": (3, (2, 2), (3, 4), (2, 2), (1, 1), ((0, 0), (0, 0)), 1, (0, 0)),
    "overlaps": (2, (3, 3), (4, 3), (2, 2), (1, 1), ((1, 1), (1, 1)), 1, (1, 0)),
    "asymmetric pads": (2, (4, 3), (4, 5), (3, 2), (1, 1), ((0, 2), (1, 0)), 1, (0, 1)),
    "dilated": (2, (3, 2), (4, 4), (1, 2), (2, 3), ((1, 0), (0, 1)), 1, (1, 0)),
    "gaps between taps": (2, (1, 1), (3, 3), (2, 3), (1, 1), ((0, 0), (0, 0)), 1, (0, 0)),
    "groups": (4, (3, 3), (3, 3), (2, 2), (1, 1), ((1, 1), (0, 1)), 2, (0, 0)),
    "1-D": (2, (3,), (5,), (2,), (1,), ((1, 0),), 1, (1,)),
    "3-D": (2, (2, 1, 3), (2, 3, 2), (2, 1, 1), (1, 1, 2), ((0, 1), (0, 0), (1, 1)), 1, (1, 0, 0)),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everywhere(layer: Columns, x: Tensor) -> Tensor:
    return torch.arange(layer.positions(x)).expand(len(x), -1)


def product(layer: Columns, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """What the layer makes of x, [N, O, P], from its columns at all positions."""
    rows, positions = layer.rows(weight), everywhere(layer, x)
    y = layer.at(x, positions) @ rows.transpose(1, 2)  # [g, N P, R]
    return y.permute(1, 0, 2).reshape(len(x), positions.shape[1], -1).transpose(1, 2) + bias[:, None]


def conv_case(case: str) -> Case:
    channels, kernel, size, stride, dilation, pads, groups = CONV[case]
    layer, module = Windows(kernel, stride, dilation, pads, groups), Conv(stride, pads, dilation, groups)
    return layer, module, normal(2, channels, *size), normal(2 * groups, channels // groups, *kernel, seed=1), normal(2 * groups)


def transposed_case(case: str) -> Case:
    channels, kernel, size, stride, dilation, pads, groups, extra = TRANSPOSED[case]
    layer = Windows(kernel, stride, dilation, pads, groups, True, extra)
    module = ConvTranspose(stride, pads, dilation, groups, extra)
    return layer, module, normal(2, channels, *size), normal(channels, 3, *kernel, seed=1), normal(3 * groups)


CASES = [pytest.param(conv_case, case, id=f"Conv {case}") for case in CONV]
CASES += [pytest.param(transposed_case, case, id=f"ConvTranspose {case}") for case in TRANSPOSED]


@pytest.mark.parametrize(("make", "case"), CASES)
def test_weights_times_columns_are_the_convolution(make: Make, case: str) -> None:
    layer, module, x, weight, bias = make(case)
    expected = module(x, weight, bias)
    assert layer.sizes(x) == list(expected.shape[2:])
    assert_close(product(layer, weight, bias, x), expected.flatten(2))


@pytest.mark.parametrize(("make", "case"), CASES)
def test_a_weight_comes_back_from_its_rows(make: Make, case: str) -> None:
    layer, _, _, weight, _ = make(case)
    assert torch.equal(layer.weight(layer.rows(weight), weight.shape), weight)


@pytest.mark.parametrize(("make", "case"), CASES)
def test_the_mean_column_is_the_mean_of_all(make: Make, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the columns are made a few at a time."""
    layer, _, x, _, _ = make(case)
    expected = layer.at(x, everywhere(layer, x)).mean(1)
    for elements in (columns.MEAN_ELEMENTS, 40):
        monkeypatch.setattr(columns, "MEAN_ELEMENTS", elements)
        assert_close(mean_column(layer, x.mean(0, keepdim=True)), expected)


def test_each_sample_has_positions_of_its_own() -> None:
    layer, _, x, _, _ = conv_case("groups of three")
    every = layer.at(x, everywhere(layer, x)).unflatten(1, (2, -1))
    some = layer.at(x, torch.tensor([[3, 3, 0], [7, 1, 15]])).unflatten(1, (2, -1))
    assert torch.equal(some[:, 0], every[:, 0, [3, 3, 0]])
    assert torch.equal(some[:, 1], every[:, 1, [7, 1, 15]])


def test_memory_format_does_not_matter() -> None:
    layer, _, x, _, _ = conv_case("depthwise")
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer.at(last, everywhere(layer, x)), layer.at(x, everywhere(layer, x)))


@pytest.mark.parametrize("transposed", [True, False], ids=["transB", "plain"])
def test_gemm(transposed: bool) -> None:
    x, weight, bias = normal(5, 4), normal(3, 4, seed=1) if transposed else normal(4, 3, seed=1), normal(3)
    layer = Rows(outputs_first=transposed)
    expected = Gemm(1.0, 1.0, False, transposed)(x, weight, bias)
    assert layer.positions(x) == 1
    assert_close(product(layer, weight, bias, x)[:, :, 0], expected)
    assert torch.equal(layer.weight(layer.rows(weight), weight.shape), weight)
    assert_close(mean_column(layer, x.mean(0, keepdim=True)), x.mean(0)[None])


@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 3, 5, 4)], ids=["tokens", "map with channels last"])
def test_matmul(shape: tuple[int, ...]) -> None:
    x, weight, bias = normal(*shape), normal(4, 3, seed=1), normal(3)
    layer = Rows(outputs_first=False)
    expected = (MatMul()(x, weight) + bias).flatten(1, -2)  # [N, P, O]
    assert_close(product(layer, weight, bias, x), expected.transpose(1, 2))
    assert torch.equal(layer.weight(layer.rows(weight), weight.shape), weight)
    some = torch.tensor([[4, 0], [2, 2]])
    expected = torch.stack([x[k].flatten(0, -2)[some[k]] for k in range(2)]).flatten(0, 1)[None]
    assert torch.equal(layer.at(x, some), expected)


def test_positions_are_drawn_within_range_and_again() -> None:
    first, second = (drawn_positions(50, 40, 20, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (40, 20)
    assert first.dtype == torch.int64
    assert torch.equal(first, second)
    assert set(first.flatten().tolist()) == set(range(50))  # of 800 draws, none is missed but with odds of 1e-5
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, drawn_positions(50, 40, 20, torch.Generator().manual_seed(4)))


@pytest.mark.parametrize("wanted", [6, 7, 1000])
def test_all_positions_are_taken_where_there_are_no_more(wanted: int) -> None:
    assert drawn_positions(6, 2, wanted, torch.Generator()).tolist() == [[0, 1, 2, 3, 4, 5]] * 2
