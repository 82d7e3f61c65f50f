"""Where values lie, that it changes no bit of them, and that their room is given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genie_onnx.errors import RunError
from genie_onnx.machine.memory import Budget
from genie_onnx.reconstruct import store
from genie_onnx.reconstruct.store import SHARE, ActivationStore, Stored, drawn

CPU = torch.device("cpu")
N, BATCH = 10, 4
SIZE = N * 6 * 4  # bytes of `value()`


def value(seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """[N, 2, 3]."""
    return (4 * torch.randn(N, 2, 3, generator=torch.Generator().manual_seed(seed))).to(dtype)


def batches(*values: Tensor) -> Iterator[list[Tensor]]:
    """All values, BATCH samples at a time."""
    yield from map(list, zip(*(x.split(BATCH) for x in values), strict=True))


def holding(values: int, folder: Path) -> ActivationStore:
    """A store with memory for so many of `value()`."""
    return ActivationStore(CPU, Budget(int(values * SIZE / SHARE)), folder)


def put(into: ActivationStore, x: Tensor) -> Stored:
    (stored,) = into.put(len(x), batches(x))
    return stored


def files(folder: Path) -> int:
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.mark.parametrize("room", [2, 0], ids=["memory", "file"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool], ids=str)
def test_every_bit_is_as_it_was(room: int, dtype: torch.dtype, tmp_path: Path) -> None:
    x = value(dtype=dtype)
    chosen = torch.tensor([7, 0, 7, 3])
    with holding(room * dtype.itemsize, tmp_path / "a") as there:
        stored = put(there, x)
        assert stored.near == (room > 0)
        assert (len(stored), stored.shape, stored.dtype) == (N, x.shape[1:], dtype)
        assert torch.equal(stored.rows(chosen), x[chosen])
        assert torch.equal(stored.slice(3, 9), x[3:9])


def test_memory_is_filled_first_and_freed_room_is_used_again(tmp_path: Path) -> None:
    with holding(2, tmp_path / "a") as there:
        first, second, third = (put(there, value(k)) for k in range(3))
        assert [v.near for v in (first, second, third)] == [True, True, False]
        assert files(tmp_path / "a") == 1
        first.free()
        first.free()
        fourth, fifth = put(there, value(3)), put(there, value(4))
        assert [v.near for v in (fourth, fifth)] == [True, False]
        third.free()
        assert files(tmp_path / "a") == 1
        assert torch.equal(fifth.slice(0, N), value(4))


def test_values_of_one_function_lie_where_each_fits(tmp_path: Path) -> None:
    small, large = torch.arange(N), torch.randn(N, 50)
    with holding(1, tmp_path / "a") as there:
        a, b = there.put(N, batches(large, small))
        assert (a.near, b.near) == (False, True)
        assert torch.equal(a.slice(0, N), large)
        assert torch.equal(b.slice(0, N), small)


def test_samples_without_elements_need_no_file(tmp_path: Path) -> None:
    with holding(0, tmp_path / "a") as there:
        empty = put(there, torch.zeros(N, 0))
        assert empty.rows(torch.tensor([1, 2])).shape == (2, 0)


def test_no_file_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "of a killed run").touch()
    with pytest.raises(ValueError, match="in the middle"), holding(0, folder) as there:  # noqa: PT012
        assert not folder.exists()
        put(there, value())
        assert files(folder) == 1
        raise ValueError("in the middle")
    assert not folder.exists()


def test_what_fails_while_it_is_written_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[list[Tensor]]:
        yield [value()[:BATCH], value()[:BATCH]]
        raise ValueError("in the middle")

    with holding(1, tmp_path / "a") as there:
        with pytest.raises(ValueError, match="in the middle"):
            there.put(N, failing())
        assert files(tmp_path / "a") == 0
        assert put(there, value()).near


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    there = holding(0, tmp_path / "file" / "a")
    with pytest.raises(RunError, match=r"cannot be written to .*--memory-budget"):
        put(there, value())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "000000").symlink_to("/dev/full")
    there = holding(0, tmp_path)
    with pytest.raises(RunError, match=r"No space left on device\. Make room there"):
        put(there, value())
    assert files(tmp_path) == 0


def test_spilling_empties_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOVED", SIZE // 3)
    with holding(2, tmp_path / "a") as there:
        first, second = put(there, value(0)), put(there, value(1))
        first.free()
        there.spill()
        assert not second.near
        assert torch.equal(second.slice(0, N), value(1))
        assert not put(there, value(2)).near
        assert files(tmp_path / "a") == 2


def test_without_a_folder_everything_stays() -> None:
    there = ActivationStore(CPU)
    stored = put(there, value())
    there.spill()
    assert stored.near
    assert put(ActivationStore(CPU, Budget(1)), value()).near


@pytest.mark.parametrize("room", [0, 1, 3], ids=["files", "both", "memory"])
def test_rows_come_in_the_order_of_the_table(room: int, tmp_path: Path) -> None:
    table = torch.tensor([[9, 0], [0, 9], [9, 9], [4, 5], [4, 5]])
    tensors = [value(k) for k in range(3)]
    with holding(room, tmp_path / "a") as there:
        values = [put(there, x) for x in tensors]
        found = list(drawn([values[2], values[0], values[1], values[0]], table))
    assert len(found) == len(table)
    for chosen, (c, a, b, again) in zip(table, found, strict=True):
        assert again is a, "drawn once"
        assert all(torch.equal(part, x[chosen]) for part, x in zip((a, b, c), tensors, strict=True))


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    with holding(0, tmp_path / "a") as there:
        assert list(drawn([put(there, value())], torch.empty(0, 2, dtype=torch.int64))) == []


class Watched(Stored):
    """Notes who reads which row."""

    near = False  # type: ignore[assignment]

    def __init__(self, data: Tensor) -> None:
        super().__init__(data)
        self.read: list[tuple[int, str]] = []
        self.second = threading.Event()

    def rows(self, chosen: Tensor) -> Tensor:
        self.read.append((int(chosen[0]), threading.current_thread().name))
        if len(self.read) == 2:
            self.second.set()
        return self._data.index_select(0, chosen)


def test_one_row_is_read_ahead_by_another_thread() -> None:
    watched = Watched(value())
    rows = drawn([watched], torch.tensor([[5], [6], [7]]))
    next(rows)
    assert watched.second.wait(10), "the second row is read while the first is in use"
    rows.close()
    assert [row for row, _ in watched.read] == [5, 6]
    assert threading.current_thread().name not in {thread for _, thread in watched.read}


def test_what_the_reader_raises_arrives() -> None:
    watched = Watched(value())
    with pytest.raises(IndexError):
        list(drawn([watched], torch.tensor([[1], [N]])))


@pytest.mark.gpu
def test_on_a_gpu_host_memory_comes_before_files(tmp_path: Path) -> None:
    device = torch.device("cuda")
    tensors = [value(k) for k in range(3)]
    budget = Budget(int(SIZE / SHARE), int(SIZE / SHARE))
    with ActivationStore(device, budget, tmp_path / "a") as there:
        values = [put(there, x) for x in tensors]
        assert [v.near for v in values] == [True, False, False]
        assert files(tmp_path / "a") == 1
        table = torch.tensor([[9, 0], [0, 9], [4, 5]], device=device)
        for chosen, found in zip(table.cpu(), drawn(values, table), strict=True):
            assert all(part.is_cuda for part in found)
            assert all(torch.equal(part.cpu(), x[chosen]) for part, x in zip(found, tensors, strict=True))
        there.spill()
        assert not values[0].near
        assert torch.equal(values[0].slice(0, N).cpu(), tensors[0])


def test_a_compact_store_takes_half_of_the_memory_and_keeps_eleven_bits() -> None:
    x = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-7, 1.0, 3e6]).repeat(2)[:, None, None]
    for part in (x[:1], x[1:2], x[2:3]):
        (stored,) = ActivationStore(CPU, compact=True).put(1, [[part]])
        assert stored.nbytes == part.nbytes // 2
        assert stored.slice(0, 1).dtype == torch.float32
        assert float((stored.slice(0, 1) - part).abs().max()) <= 2**-11 * float(part.abs().max())
        assert torch.equal(stored.rows(torch.tensor([0])), stored.slice(0, 1))


def test_a_compact_store_takes_later_batches_that_reach_further_and_lets_infinities_show() -> None:
    first, later = torch.ones(1, 3), torch.tensor([[10.0, -10.0, float("inf")]])
    (stored,) = ActivationStore(CPU, compact=True).put(2, [[first], [later]])
    assert torch.equal(stored.slice(0, 2), torch.cat([first, later]))
    (whole,) = ActivationStore(CPU, compact=True).put(1, [[torch.tensor([[2**40, 3]])]])
    assert torch.equal(whole.slice(0, 1), torch.tensor([[2**40, 3]])), "whole numbers stay as they are"
