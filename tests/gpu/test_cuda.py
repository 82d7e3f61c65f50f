"""On a GPU: captured steps do what eager ones do, nothing waits for the device, and fp32 agrees with the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
import torch
from small_bn_net import SHAPE, imported, small_bn_net
from torch import Tensor

import genie_onnx
from genie_onnx import DistillConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.config import Precision, Start
from genie_onnx.machine.compute import Compute
from genie_onnx.quant import MaskSource, fake_quantize, mix, scaled_difference
from genie_onnx.synthesis.batch import Batch
from genie_onnx.synthesis.bn_loss import targets
from genie_onnx.synthesis.scaling import Scaling
from genie_onnx.synthesis.starts import source
from genie_onnx.synthesis.swing_conv import Shifts
from genie_onnx.synthesis.teacher import teacher

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]

DIGITS = Path(__file__).parents[2] / "examples" / "digits.onnx"


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_fake_quantization_is_that_of_the_cpu() -> None:
    x = torch.randn(4, 8, 17, 17, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    bits = MaskSource(0.5, torch.Generator().manual_seed(1)).draw(x.numel())
    assert bits is not None
    found = []
    for device in ("cpu", "cuda"):
        own, scale = x.to(device).requires_grad_(), torch.tensor(0.2, device=device, requires_grad=True)
        y = fake_quantize(own, scale, 3, 15, bits.to(device))
        y.backward(torch.ones_like(y))
        assert own.grad is not None
        assert scale.grad is not None
        found.append((y.detach().cpu(), own.grad.cpu(), scale.grad.cpu()))
    assert all(torch.allclose(a, b, rtol=1e-4) for a, b in zip(*found, strict=True))


def test_mixing_and_differences_are_those_of_the_cpu() -> None:
    x, y = torch.randn(3, 5, 7, 7), torch.randn(3, 5, 7, 7)
    assert torch.allclose(scaled_difference(x.cuda(), y.cuda(), 2.0).cpu(), scaled_difference(x, y, 2.0))
    mixed = mix(x.cuda(), y.cuda(), MaskSource(0.5, torch.Generator("cuda").manual_seed(0)), x.dtype).cpu()
    assert bool(((mixed == x) | (mixed == y)).all())
    assert 0.3 < (mixed == x).float().mean().item() < 0.7


def batch(start: Start, compute: Compute) -> Batch:
    network, batchnorms = imported(small_bn_net())
    device, config = compute.device, DistillConfig(start=start)
    shifts = Shifts(torch.Generator(device).manual_seed(1))
    return Batch(
        teacher(network, batchnorms, shifts=shifts, device=device),
        targets(batchnorms, device),
        source(8, SHAPE, config, torch.Generator().manual_seed(0)),
        Scaling(torch.zeros(3), torch.ones(3), learn=False),
        config,
        compute,
        shifts=shifts,
    )


@pytest.mark.parametrize("start", ["generator", "leaves"])
def test_captured_distillation_makes_the_images_of_the_eager_one(start: Start) -> None:
    made: list[Tensor] = []
    for graph in (True, False):
        run = batch(start, Compute(torch.device("cuda"), "fp32", graph))
        for _ in range(110):  # over a decay of the generator's rate
            run.step()
        made.append(run.images())
    assert torch.allclose(*made, atol=1e-3)
    assert made[0].std() > 0.1


def test_distillation_never_waits() -> None:
    run = batch("generator", Compute(torch.device("cuda"), "fp32", graph=False))
    run.step()
    with no_waiting():
        for _ in range(3):
            run.step()


def quantized(path: Path, graph: bool, precision: Precision, budget: str | None = None) -> genie_onnx.Result:
    config = QuantizeConfig(
        samples=40,
        images="procedural",
        reconstruct=ReconstructConfig(iterations=40),
        device="cuda",
        cuda_graph=graph,
        precision=precision,
    )
    return genie_onnx.quantize(DIGITS, path, config=config, memory_budget=budget)


def test_captured_reconstruction_gives_the_file_of_the_eager_one(tmp_path: Path) -> None:
    quantized(tmp_path / "graph.onnx", True, "fp32")
    quantized(tmp_path / "eager.onnx", False, "fp32")
    assert without_settings(tmp_path / "graph.onnx") == without_settings(tmp_path / "eager.onnx")


def without_settings(path: Path) -> bytes:
    model = onnx.load(path)
    del model.metadata_props[:]
    return model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_every_precision_ends_in_a_file_that_computes_what_was_simulated(precision: Precision, tmp_path: Path) -> None:
    report = quantized(tmp_path / "net.onnx", True, precision).report
    assert report.parity["ok"]
    assert report.comparison["outputs"][0]["sqnr_db"] > 10


def test_values_beside_the_gpu_change_nothing(tmp_path: Path) -> None:
    quantized(tmp_path / "near.onnx", True, "fp32")
    quantized(tmp_path / "host.onnx", True, "fp32", budget="1MB,1GB")
    quantized(tmp_path / "files.onnx", True, "fp32", budget="1MB,1MB")
    files = [(tmp_path / f"{name}.onnx").read_bytes() for name in ("near", "host", "files")]
    assert files[0] == files[1] == files[2]
