"""How much memory is taken at once: by a Gemm that may have 10^8 weights, and by what is carried from block to block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs import Net
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genie_onnx.blocks import partition
from genie_onnx.config import PlacementConfig, ReconstructConfig
from genie_onnx.importer import import_graph
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.memory import Budget
from genie_onnx.placement import place
from genie_onnx.quant import fake_quantize, ranges, rounding, weight_grid
from genie_onnx.reconstruct import forward, reconstruct
from genie_onnx.reconstruct.learning_loop import BlockData, optimise_block
from genie_onnx.reconstruct.learning_step import Fixed, Weight
from genie_onnx.reconstruct.store import SHARE, ActivationStore, Stored

ROWS, COLUMNS, SAMPLES = 256, 512, 4
BITS = 4


class Peak(TorchDispatchMode):
    """The most bytes that the results of operators in here held together, views of what was there before included.

    Mapped files are not counted: the machine has their pages in memory as long as nothing else needs it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._mapped: set[StorageWeakRef] = set()
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                if func is torch.ops.aten.from_file.default:
                    self._mapped.add(reference)
                if reference not in self._mapped:
                    self._alive[reference] = storage.nbytes()
        self._alive = {storage: size for storage, size in self._alive.items() if not storage.expired()}
        self.bytes = max(self.bytes, sum(self._alive.values()))
        return result


@pytest.fixture
def weight(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Large against what is worked on at once."""
    monkeypatch.setattr(rounding, "PIECE", ROWS * COLUMNS // 32)
    monkeypatch.setattr(ranges, "SEARCHED", ROWS * COLUMNS // 8)
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))


def gemm(
    inputs: Sequence[Tensor], weights: Mapping[str, Tensor], biases: Sequence[Tensor], scales: Mapping[str, Tensor]
) -> tuple[Tensor]:
    return (fake_quantize(inputs[0], scales["x"], 8, 15) @ weights["w"].t(),)


def test_learning_takes_six_copies_of_the_weight(weight: Tensor) -> None:
    """The float weight; v and two moments of Adam; the gradient of w_q, and w_q itself or the gradient of v; 8-bit constants."""
    x = torch.randn(SAMPLES, COLUMNS, generator=torch.Generator().manual_seed(1))
    data = BlockData((Stored(x),), (Stored(x),), (Stored(x @ weight.t()),), (1,))
    learned = Weight("w", weight, 0, BITS, weight_grid(weight, BITS))
    steps = ReconstructConfig(iterations=3, warmup=0.3, batch_size=SAMPLES)
    scale = {"x": torch.tensor(0.3)}
    with Peak() as peak:
        fixed, compute = Fixed({}, [], {}), Compute(torch.device("cpu"))
        result = optimise_block(gemm, data, [learned], fixed, scale, steps, compute, torch.Generator(), lambda *_: None)  # type: ignore[arg-type]
    assert result.codes["w"].shape == weight.shape
    assert peak.bytes < 6.9 * weight.nbytes


def test_the_search_of_step_sizes_takes_none(weight: Tensor) -> None:
    with Peak() as peak:
        weight_grid(weight, BITS)
    assert peak.bytes < 1.5 * weight.nbytes


IMAGES = 64
VALUE = IMAGES * 6 * 32 * 32 * 4  # bytes of what is carried from one block to the next, once


def taken(folder: Path, budget: Budget | None) -> int:
    """Return the most bytes taken while a chain of six convolutions is reconstructed."""
    net = Net(size=32)
    x = "x"
    for k in range(6):
        x = net.conv(f"c{k}", x, 6, k=3)
    deploy = net.model(x)
    parts = import_graph(deploy), place(deploy, PlacementConfig()), partition(deploy)
    images = torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with ActivationStore(torch.device("cpu"), budget, folder) as store, Peak() as peak:
        reconstruct(
            *parts,
            images,
            ReconstructConfig(iterations=1, batch_size=2),
            input_range=(-4.0, 4.0),
            headroom=1.0,
            seed=0,
            compute=Compute(torch.device("cpu")),
            progress=lambda _: None,
            finished=lambda _: None,
            store=store,
        )
    return peak.bytes


def test_what_is_carried_keeps_to_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of teacher and student there are two values each, inputs and outputs of a block: little else with small batches."""
    monkeypatch.setattr(forward, "FORWARD_BATCH", 4)
    for name, value in {"BATCH": 4, "ELEMENTS": 1000}.items():
        monkeypatch.setattr(f"genie_onnx.reconstruct.calibrate.{name}", value)
    assert taken(tmp_path / "a", None) > 3 * VALUE
    assert taken(tmp_path / "a", Budget(int(VALUE / SHARE))) < 2 * VALUE
