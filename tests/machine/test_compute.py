"""Precision: what it touches, that it ends where it should, and what a device is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genie_onnx.config import QuantizeConfig
from genie_onnx.errors import ConfigError
from genie_onnx.machine import compute
from genie_onnx.machine.compute import Compute, choose_compute, choose_precision

CPU = torch.device("cpu")


def flags() -> list[str]:
    return [torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("precision", "inside"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "tf32")])
def test_flags_hold_inside_and_are_put_back(precision: compute.Precision, inside: str) -> None:
    before, seen = flags(), list[str]()

    def fail() -> None:
        with Compute(CPU, precision).products():
            seen.extend(flags())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [inside, inside]
    assert flags() == before


def test_bf16_is_for_products_alone() -> None:
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    with Compute(CPU, "bf16").products():
        y = F.conv2d(x, weight)
        assert y.dtype == torch.bfloat16
        assert (x + x).dtype == torch.float32
    y.sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    with Compute(CPU, "fp32").products():
        assert F.conv2d(x, weight).dtype == torch.float32


@pytest.mark.parametrize(("able", "default"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu_computes_in_bf16_where_it_can(able: bool, default: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": able})
    assert choose_precision(None, CPU) == default
    assert choose_precision("fp32", CPU) == "fp32"
    if not able:
        with pytest.raises(ConfigError, match="neither AMX nor AVX512-BF16"):
            choose_precision("bf16", CPU)


def test_tf32_is_refused_on_a_cpu() -> None:
    with pytest.raises(ConfigError, match="NVIDIA"):
        choose_compute(QuantizeConfig(device="cpu", precision="tf32"))
    with pytest.raises(ConfigError, match="precision must be one of"):
        QuantizeConfig(precision="fp64")  # type: ignore[arg-type]


@pytest.mark.parametrize(("precision", "inside"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "tf32")])
def test_on_a_gpu_all_of_a_step_has_the_precision(precision: compute.Precision, inside: str) -> None:
    """Its backward pass too, which is outside of `products`."""
    before = flags()
    step = Compute(torch.device("cuda"), precision, graph=False).repeated(flags)
    assert step() == [inside, inside]
    assert flags() == before


def test_on_a_cpu_a_step_is_called_as_it_is() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        return x

    assert Compute(CPU).repeated(step) is step
