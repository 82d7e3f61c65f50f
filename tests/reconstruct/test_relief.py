"""Memory that runs out once is dealt with and told; the codes are those of a run in which it did not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
import torch
from graphs import Net
from torch import Tensor

from genie_onnx.blocks import partition
from genie_onnx.config import PlacementConfig, ReconstructConfig
from genie_onnx.events import Notice, Step
from genie_onnx.importer import import_graph
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.memory import Budget
from genie_onnx.placement import place
from genie_onnx.reconstruct import Codes, reconstruct
from genie_onnx.reconstruct.relief import Relief
from genie_onnx.reconstruct.store import ActivationStore, Stored

CPU = torch.device("cpu")
IMAGES = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ERRORS = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()]


class Failing:
    """An action that fails with the errors given to it, one a call, and then returns how often it was called."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


@pytest.mark.parametrize("error", ERRORS, ids=["gpu", "torch", "numpy"])
def test_the_first_error_makes_room_and_is_told(error: Exception, tmp_path: Path) -> None:
    notices: list[Notice] = []
    with ActivationStore(CPU, Budget(10**6), tmp_path / "a") as store:
        (stored,) = store.put(4, [[torch.ones(4, 2)]])
        relief = Relief(store, notices.append)
        assert (relief.pieces, stored.near) == (1, True)
        assert relief(Failing(error)) == 2
        assert (relief.pieces, stored.near) == (2, False)
        with pytest.raises(type(error)):
            relief(Failing(error))
    assert len(notices) == 1
    assert str(error) in notices[0].text


def test_other_errors_pass_at_once() -> None:
    action = Failing(RuntimeError("a shape that does not fit"))
    with pytest.raises(RuntimeError, match="shape"):
        Relief(ActivationStore(CPU), lambda _: None)(action)
    assert action.calls == 1


class Full(ActivationStore):
    """A store whose memory runs out in its `last`-th call, when a value is half written."""

    def __init__(self, last: int, folder: Path) -> None:
        super().__init__(CPU, Budget(10**6), folder)
        self.calls, self.last = 0, last

    def put(self, count: int, batches: Iterable[Sequence[Tensor]]) -> tuple[Stored, ...]:
        self.calls += 1
        return super().put(count, self._until(batches) if self.calls == self.last else batches)

    def _until(self, batches: Iterable[Sequence[Tensor]]) -> Iterable[Sequence[Tensor]]:
        yield next(iter(batches))
        raise torch.OutOfMemoryError("CUDA out of memory")


def codes(progress: Callable[[Step | Notice], None], store: ActivationStore | None = None) -> Codes:
    """Of a network with a residual block, learned in a few steps."""
    net = Net(size=8)
    x = net.conv("stem", "x", 6, k=3)
    x = net.op("Relu", net.op("Add", net.conv("b", net.conv("a", x, 6, k=3), 6, k=3, act=""), x))
    deploy = net.model(net.conv("head", x, 4))
    return reconstruct(
        import_graph(deploy),
        place(deploy, PlacementConfig()),
        partition(deploy),
        IMAGES,
        ReconstructConfig(iterations=5, batch_size=6),
        input_range=(-4.0, 4.0),
        headroom=1.0,
        seed=0,
        compute=Compute(CPU),
        progress=progress,
        finished=lambda _: None,
        store=store,
    )


def same(a: Codes, b: Codes) -> bool:
    weights = all((a.weights[n].codes == b.weights[n].codes).all() for n in a.weights)
    return weights and all(a.activations[n].scale == b.activations[n].scale for n in a.activations)


@pytest.fixture(scope="module")
def plain() -> Codes:
    return codes(lambda _: None)


@pytest.mark.parametrize("room", [0, 20 * 4 * 8 * 8 * 6 * 3], ids=["files", "some"])
def test_where_values_lie_changes_no_code(room: int, plain: Codes, tmp_path: Path) -> None:
    with ActivationStore(CPU, Budget(room), tmp_path / "a") as store:
        assert same(codes(lambda _: None, store), plain)


@pytest.mark.parametrize("last", [2, 3], ids=["teacher", "student"])
def test_a_forward_pass_is_run_again_in_smaller_batches(last: int, plain: Codes, tmp_path: Path) -> None:
    events: list[Step | Notice] = []
    with Full(last, tmp_path / "a") as store:
        assert same(codes(events.append, store), plain)
        assert all(not stored.near for stored in store._stored if stored.nbytes)
    assert sum(isinstance(event, Notice) for event in events) == 1


@pytest.mark.parametrize("stage", ["grids", "learn"])
def test_what_draws_at_random_draws_the_same_again(stage: str, plain: Codes, tmp_path: Path) -> None:
    errors = [torch.OutOfMemoryError("CUDA out of memory")]

    def progress(event: Step | Notice) -> None:
        if isinstance(event, Step) and event.stage == stage and event.iteration and errors:
            raise errors.pop()

    with ActivationStore(CPU, Budget(10**6), tmp_path / "a") as store:
        assert same(codes(progress, store), plain)
    assert not errors
