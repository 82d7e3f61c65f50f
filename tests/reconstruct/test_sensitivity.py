"""Damage end to end: that of one block's weights alone, through all that comes after it."""

from __future__ import annotations

import dataclasses
from typing import Any

import onnx_ir as ir
import pytest
import torch
from graphs import Net

from genie_onnx.blocks import partition
from genie_onnx.config import ClosedFormConfig, PlacementConfig, ReconstructConfig
from genie_onnx.importer import import_graph
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import place
from genie_onnx.quant import ANY, fake_quantize
from genie_onnx.reconstruct import (
    Codes,
    damage,
    first_grids,
    learned_blocks,
    log_probabilities,
    reconstruct,
    sensitivities,
    value_sensitivities,
)

IMAGES = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))  # no whole number of batches
CPU = Compute(torch.device("cpu"))
ABOUT: dict[str, Any] = {"input_range": (-4.0, 4.0), "headroom": 1.5, "seed": 0, "compute": CPU}


def residual() -> ir.Model:
    """A stem and two residual blocks; the output is a feature map."""
    net = Net(size=8)
    x = net.conv("stem", "x", 6, k=3)
    for k in range(2):
        y = net.conv(f"b{k}", net.conv(f"a{k}", x, 6, k=3), 6, k=3, act="")
        x = net.op("Relu", net.op("Add", x, y))
    return net.model(x)


def classifier() -> ir.Model:
    """The same size of problem, with class probabilities as output."""
    net = Net(size=8)
    x = net.conv("one", "x", 6, k=3)
    x = net.conv("two", x, 4, k=3, stride=2)
    logits = net.gemm("head", net.op("GlobalAveragePool", x), 4)
    tame = net.op("Mul", logits, net.constant("tame", 0.001))  # or probabilities are lost to rounding
    return net.model(net.op("Softmax", tame, axis=1))


def with_codes(deploy: ir.Model, codes: Codes, weights: tuple[str, ...]) -> ir.Model:
    """The float network with these weights alone rounded."""
    changed = deploy.clone()
    for name in weights:
        changed.graph.initializers[name].const_value = ir.tensor(codes.weights[name].dequantize(), name=name)
    return changed


@pytest.mark.parametrize(("deploy", "scores"), [(residual(), False), (classifier(), True)], ids=["features", "classes"])
def test_it_is_what_the_network_does_with_that_block_alone_rounded(deploy: ir.Model, scores: bool) -> None:
    placement = dataclasses.replace(place(deploy, PlacementConfig()), activations=())
    blocks, network = partition(deploy), import_graph(deploy)
    codes = {}
    for width in (2, 5):
        specs = tuple(dataclasses.replace(spec, bits=width) for spec in placement.weights)
        codes[width] = reconstruct(
            network,
            dataclasses.replace(placement, weights=specs),
            blocks,
            IMAGES,
            ReconstructConfig(iterations=0),
            input_range=(-4.0, 4.0),
            headroom=1.0,
            seed=0,
            compute=CPU,
            progress=lambda event: None,
            finished=lambda result: None,
        )
    output = network.outputs[0]
    told: list[int] = []
    found = sensitivities(network, placement, blocks, codes, IMAGES, output if scores else None, CPU, told.append)
    assert list(found) == learned_blocks(blocks, placement)
    assert told == [16, 20]
    with torch.no_grad():
        y = network({"x": IMAGES})[output].double()
    for block in [block for block in blocks if block.name in found]:
        for width, its in codes.items():
            alone = import_graph(with_codes(deploy, its, block.weights))
            with torch.no_grad():
                z = alone({"x": IMAGES})[output].double()
            a, b = (x.log() - x.log().mean(1, keepdim=True) if scores else x for x in (y, z))
            # batches are weighed by their images
            parts = [(b[k : k + 16] - a[k : k + 16]).square().sum() / a[k : k + 16].square().sum() for k in (0, 16)]
            expected = float(16 * parts[0] + 4 * parts[1]) / 20
            assert found[block.name][width] == pytest.approx(expected, rel=2e-3, abs=1e-6)
        assert found[block.name][2] > 3 * found[block.name][5] > 0


@pytest.mark.parametrize(("deploy", "scores"), [(residual(), False), (classifier(), True)], ids=["features", "classes"])
def test_a_value_is_rounded_alone_wherever_it_is_read(deploy: ir.Model, scores: bool) -> None:
    config = PlacementConfig(first_last_bits=3, abits=3, other_bits=3)
    placement, blocks, network = place(deploy, config), partition(deploy), import_graph(deploy)
    assert {"x"} < {spec.name for spec in placement.activations}
    alone = []
    for spec in placement.activations:
        for bits in (spec.bits, 8):
            its = dataclasses.replace(spec, bits=bits)
            its_placement = dataclasses.replace(placement, weights=(), activations=(its,))
            alone.append((its, first_grids(network, its_placement, IMAGES, constraints=ANY, closed=False, **ABOUT)))
    output = network.outputs[0]
    told: list[int] = []
    found = value_sensitivities(network, placement, blocks, alone, IMAGES, output if scores else None, CPU, told.append)
    assert told == [16, 20]
    for (spec, codes), its in zip(alone, found, strict=True):
        (root,) = spec.roots
        grid = codes.activations[spec.name]
        with torch.no_grad():
            value = network.extract(["x"], [root])({"x": IMAGES})[root]
            rounded = fake_quantize(value, torch.tensor(grid.scale), int(grid.zero_point), 2**spec.bits - 1)
            parts = []
            for k in (slice(0, 16), slice(16, 20)):
                y = network({"x": IMAGES[k]})
                # what is behind the value, and what goes past it: that of the float image, or of the rounded one where it is that
                rest = network.extract(["x", root] if root != "x" else ["x"], [output])
                z = rest({"x": IMAGES[k], root: rounded[k]})
                parts.append(float(damage({output: y[output]}, z, output if scores else None)))
        assert its == pytest.approx((16 * parts[0] + 4 * parts[1]) / 20, rel=1e-4, abs=1e-9)
    narrow, wide = found[::2], found[1::2]
    assert all(a > 3 * b > 0 for a, b in zip(narrow, wide, strict=True))


def test_first_grids_are_those_that_reconstruction_begins_with() -> None:
    deploy = residual()
    placement, blocks, network = place(deploy, PlacementConfig()), partition(deploy), import_graph(deploy)
    for closed in (None, ClosedFormConfig()):
        codes = reconstruct(
            network,
            placement,
            blocks,
            IMAGES,
            ReconstructConfig(iterations=0),
            progress=lambda event: None,
            finished=lambda result: None,
            closed=closed,
            constraints=ANY,
            **ABOUT,
        )
        found = first_grids(network, placement, IMAGES, constraints=ANY, closed=closed is not None, **ABOUT)
        assert found.activations.keys() == codes.activations.keys()
        for name, grid in codes.activations.items():
            assert found.activations[name].scale == grid.scale
            assert found.activations[name].zero_point == grid.zero_point
            assert found.activations[name].bits == grid.bits


def test_scores_count_up_to_what_all_classes_have_in_common() -> None:
    y, z = torch.tensor([[1.0, -1.0], [3.0, 1.0]]), torch.tensor([[1.0, -2.0], [3.0, 1.0]])
    expected = (0.5**2 + 0.5**2) / 4  # 1.5, -1.5 against 1, -1; the other image has no difference
    assert float(damage({"y": y}, {"y": z}, "y")) == pytest.approx(expected)
    assert float(damage({"y": y + 5}, {"y": z - 3}, "y")) == pytest.approx(expected)
    assert float(damage({"y": y.softmax(1)}, {"y": z.softmax(1)}, "y")) == pytest.approx(expected)  # of probabilities as well
    assert float(damage({"y": z}, {"y": y}, "y")) != pytest.approx(expected, rel=0.1)


def test_noise_is_relative_to_each_output() -> None:
    y = {"large": torch.full((2, 3), 100.0), "small": torch.full((2, 1), 0.1)}
    z = {"large": torch.full((2, 3), 110.0), "small": torch.full((2, 1), 0.12)}
    assert float(damage(y, z, None)) == pytest.approx(0.1**2 + 0.2**2, rel=1e-4)
    assert float(damage(z, y, None)) != pytest.approx(0.1**2 + 0.2**2, rel=1e-2)


def test_of_integers_it_is_the_share_that_differs_where_there_is_nothing_else() -> None:
    y, z = torch.tensor([[3, 1], [2, 2]]), torch.tensor([[3, 0], [2, 2]])
    assert float(damage({"y": y}, {"y": z}, None)) == 0.25
    x = {"x": torch.ones(2, 1)}
    assert float(damage({"y": y, **x}, {"y": z, **x}, None)) == 0


def test_probabilities_are_told_from_logits() -> None:
    assert log_probabilities(torch.tensor([[0.25, 0.75]])).exp().tolist() == [[0.25, 0.75]]
    assert log_probabilities(torch.tensor([[0.25, 0.65]])).exp().sum().item() == pytest.approx(1)
    assert log_probabilities(torch.tensor([[[2.0]], [[1.0]]])).shape == (2, 1)
