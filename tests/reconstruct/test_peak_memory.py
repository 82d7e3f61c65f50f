"""A Gemm may have 10^8 weights: how many tensors of that size exist together while one is learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genie_onnx.config import ReconstructConfig
from genie_onnx.quant import fake_quantize, ranges, rounding, weight_grid
from genie_onnx.reconstruct.optimise import BlockData, Weight, optimise_block
from genie_onnx.reconstruct.store import Stored

ROWS, COLUMNS, SAMPLES = 256, 512, 4
BITS = 4


class Peak(TorchDispatchMode):
    """The most bytes that the results of operators in here held together, views of what was there before included."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._alive[StorageWeakRef(storage)] = storage.nbytes()
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
        result = optimise_block(gemm, data, [learned], [], {}, scale, {}, steps, torch.Generator(), lambda *_: None)  # type: ignore[arg-type]
    assert result.codes["w"].shape == weight.shape
    assert peak.bytes < 6.9 * weight.nbytes


def test_the_search_of_step_sizes_takes_none(weight: Tensor) -> None:
    with Peak() as peak:
        weight_grid(weight, BITS)
    assert peak.bytes < 1.5 * weight.nbytes
