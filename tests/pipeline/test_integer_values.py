"""Integers and truth values that go from block to block, and to the user: no error is taken of them, and nothing stumbles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from integer_nets import NETS, integer_net

from genie_onnx import DistillConfig, QuantizeConfig, ReconstructConfig, compare, quantize
from genie_onnx.config import PlacementConfig
from genie_onnx.preparation.prepare import prepare

QUICK = QuantizeConfig(
    samples=8, images="procedural", distill=DistillConfig(iterations=0), reconstruct=ReconstructConfig(iterations=3, batch_size=4)
)


@pytest.mark.parametrize("name", [name for name in NETS if "user" not in name])
def test_integers_cross_block_borders(name: str) -> None:
    """Else these nets would test nothing; and what is compared are floats."""
    prepared = prepare(integer_net(name), PlacementConfig())
    values = {str(v.name): v for node in prepared.deploy.graph for v in node.outputs}
    read = {v for block in prepared.blocks for v in block.inputs if v in values}
    whole = {v for v in read if not values[v].dtype.is_floating_point()}
    assert whole
    assert all(whole.isdisjoint(block.targets) for block in prepared.blocks)


@pytest.mark.parametrize(
    ("name", "closed_form"),
    [
        *((name, True) for name in NETS),
        *(pytest.param(name, False, marks=[] if number < 2 else pytest.mark.slow) for number, name in enumerate(NETS)),
    ],
)
def test_networks_with_integers_inside_are_quantized_and_compared(name: str, closed_form: bool, tmp_path: Path) -> None:
    model, file = integer_net(name), tmp_path / "net.quant.onnx"
    onnx.save(model, tmp_path / "net.onnx")
    config = QUICK if closed_form else replace(QUICK, closed_form=None)
    result = quantize(tmp_path / "net.onnx", file, config=config)
    assert result.report.parity["ok"]
    assert result.report.parity["weights"] == 9
    assert [v.type.tensor_type.elem_type for v in onnx.load(file).graph.output] == [
        v.type.tensor_type.elem_type for v in model.graph.output
    ]
    np.savez(tmp_path / "images.npz", images=np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32))
    found = compare(tmp_path / "net.onnx", file, data=[tmp_path / "images.npz"])
    assert {output.name for output in found.outputs} == {v.name for v in model.graph.output}
    assert all(np.isfinite(output.sqnr_db) for output in found.outputs)
