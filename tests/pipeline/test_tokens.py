"""Dense layers on tokens and channels-last maps, from the file to the verified file: learned, and run in integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from graphs import raw_graph
from token_nets import ATTENTION, BATCH_SECOND, CHANNELS_LAST

import genie_onnx
from genie_onnx import DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import prepare
from genie_onnx.reconstruct import reconstruct

NETS = {"channels last": CHANNELS_LAST, "attention": ATTENTION, "batch second": BATCH_SECOND}
INTEGER = {
    "channels last": {"MatMulIntegerToFloat": 2, "QLinearConv": 2, "QLinearAdd": 1},
    "attention": {"MatMulIntegerToFloat": 4, "QLinearMatMul": 1, "QLinearConv": 1, "QLinearAdd": 1},
    "batch second": {"MatMulIntegerToFloat": 4, "QLinearMatMul": 1, "QLinearConv": 1, "QLinearAdd": 1},
}


@pytest.mark.parametrize("batch", ["N", "2"])
@pytest.mark.parametrize("name", NETS)
def test_products_with_weights_run_in_integer_kernels(name: str, batch: str, tmp_path: Path) -> None:
    config = QuantizeConfig(
        samples=6,
        images="procedural",
        distill=DistillConfig(iterations=1, batch_size=2),
        reconstruct=ReconstructConfig(iterations=3),
    )
    model = ir.to_proto(raw_graph(NETS[name].replace("[N,", f"[{batch},")))
    report = genie_onnx.quantize(model, tmp_path / "net.onnx", config=config).report
    assert report.parity["ok"]
    assert len(report.weights) == (5 if name == "channels last" else 6)
    assert set(report.kept_float) == (set() if name == "channels last" else {"scores", "mixed"})
    assert report.parity["kernels"]["integer"] == INTEGER[name]


@pytest.mark.parametrize("name", NETS)
def test_rounding_and_steps_are_learned(name: str) -> None:
    """The block of dense layers ends nearer to the float network than it began, and by other codes than nearest rounding."""
    prepared = prepare(ir.to_proto(raw_graph(NETS[name])), PlacementConfig(wbits=2, abits=8))
    images = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    block, dense = ("deep", ("w3", "w4")) if name == "channels last" else ("q", ("w4", "w5"))
    losses = {}

    def codes(iterations: int) -> dict[str, np.ndarray]:
        found = reconstruct(
            prepared.network,
            prepared.placement,
            prepared.blocks,
            images,
            ReconstructConfig(iterations=iterations, rounding_lr=0.05, warmup=0.8),
            input_range=(-4.0, 4.0),
            headroom=1.0,
            seed=0,
            compute=Compute(torch.device("cpu")),
            progress=lambda _: None,
            finished=lambda done: losses.update({done.block: done.loss}),
        )
        return {w: found.weights[w].codes for w in dense}

    nearest, learned = codes(0), codes(150)
    start, end = losses[block]
    assert end < 0.9 * start
    assert any((nearest[w] != learned[w]).any() for w in dense)
