"""Budgets; and what the libraries say where memory runs out becomes one sentence, everything else passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from genie_onnx.errors import ConfigError, RunError
from genie_onnx.machine import device
from genie_onnx.machine.device import memory_budget
from genie_onnx.machine.memory import memory_errors, parse_sizes
from genie_onnx.validate import run

TERABYTES = 2**45
EXPAND = f"""
<ir_version: 8, opset_import: ["" : 17]>
g (float[N] x) => (float[N, {TERABYTES}] y) <int64[2] s = {{1, {TERABYTES}}}> {{ u = Unsqueeze(x, a) y = Expand(u, s) }}
"""


def expand() -> None:
    model = onnx.parser.parse_model(EXPAND)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "a"))
    run(model, {"x": np.zeros(1, np.float32)}, optimise=False)


@pytest.mark.parametrize(
    "take", [lambda: np.empty(TERABYTES), lambda: torch.empty(TERABYTES), expand], ids=["numpy", "torch", "onnxruntime"]
)
def test_every_library_is_understood(take: object) -> None:
    with pytest.raises(RunError, match="not enough memory"), memory_errors():
        take()  # type: ignore[operator]


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory_errors():
        raise RuntimeError("a shape that does not fit")


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("8GB", (8_000_000_000,)),
        ("7.5 gib", (15 * 2**29,)),
        ("512MB", (512_000_000,)),
        ("16GB,8GiB", (16_000_000_000, 2**33)),
    ],
)
def test_sizes(text: str, sizes: tuple[int, ...]) -> None:
    assert parse_sizes(text) == sizes


@pytest.mark.parametrize("text", ["8", "GB", "8 bytes", "-8GB", "0GB", "8GB,", "", "1e3GB"])
def test_what_is_no_size_is_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--memory-budget: '.*' is not a size above 0 such as 8GB"):
        parse_sizes(text)


def test_three_sizes_are_too_many() -> None:
    with pytest.raises(ConfigError, match=r"two for a GPU and the machine \(16GB,8GB\), not 3"):
        parse_sizes("1GB,2GB,3GB")


def sizes_of(text: str | None, device: str) -> tuple[int, int]:
    budget = memory_budget(text, torch.device(device))
    return budget.compute, budget.host


def test_the_cpu_has_one_budget() -> None:
    assert sizes_of("8GB", "cpu") == (8_000_000_000, 0)
    with pytest.raises(ConfigError, match="on the CPU there is only one"):
        memory_budget("8GB,8GB", torch.device("cpu"))


def test_by_default_it_is_a_share_of_what_the_container_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, _ = sizes_of(None, "cpu")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(device, "_LIMITS", (tmp_path / "none", limit))
    limit.write_text("max\n")
    assert sizes_of(None, "cpu")[0] == pytest.approx(free, rel=0.2)
    limit.write_text(f"{2**20}\n")
    assert sizes_of(None, "cpu") == (0, 0), "this process takes more already"


@pytest.mark.gpu
def test_a_gpu_has_a_budget_beside_that_of_the_machine() -> None:
    assert sizes_of("16GB,8GB", "cuda") == (16_000_000_000, 8_000_000_000)
    assert sizes_of("16GB", "cuda")[1] > 0
    assert 0 < sizes_of(None, "cuda")[0] < torch.cuda.mem_get_info()[1]
