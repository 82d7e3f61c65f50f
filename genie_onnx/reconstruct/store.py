"""The values that are carried from block to block, each where it fits: device, host memory, or a file mapped into memory.

    batches of a value, as they are computed -> Stored [N, ...] -> rows of it on the device, read ahead while others are in use

A value takes memory once: room for all N samples is made at the first batch. Where it lies changes no bit of it. A store that is
`compact` keeps numbers to 11 bits, in half of the memory: far below what rounding to 8 bits does to them.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import torch
from torch import Tensor

from genie_onnx.errors import RunError
from genie_onnx.machine.memory import Budget

SHARE = 0.5  # of a budget, for what is stored; the other half is for what is computed with it
COMPACT_EXPONENT = 12  # the largest number of the first batch is below 2^12 units: later ones may be 16 times as large
MOVED = 2**26  # bytes moved at once from one place to another


class Stored:
    """A tensor [N, ...], laid out as layout.to_stored has it, wherever it lies. `shape` is that of one sample.

    Made by an ActivationStore, or of a tensor that lies on the device already.
    """

    def __init__(
        self, data: Tensor, place: _Place | None = None, device: torch.device | None = None, unit: float | None = None
    ) -> None:
        """`unit`: `data` is float16, in these units."""
        self._data = data
        self._place = place
        self._unit = unit
        self.device = data.device if device is None else device
        self.shape, self.dtype = data.shape[1:], data.dtype if unit is None else torch.float32

    def __len__(self) -> int:
        return len(self._data)

    @property
    def near(self) -> bool:
        """Whether it lies in the memory of the device that computes."""
        return self._place is None or (isinstance(self._place, _Memory) and self._place.device == self.device)

    @property
    def stored_dtype(self) -> torch.dtype:
        """The type that its numbers are kept in."""
        return self._data.dtype

    @property
    def nbytes(self) -> int:
        """Its size, in bytes."""
        return self._data.nbytes

    def rows(self, chosen: Tensor) -> Tensor:
        """Return the samples `chosen` (int64 [B]), in that order, as a new tensor [B, ...] on the device."""
        if self.near:
            return self._numbers(self._data.index_select(0, chosen))
        if self.device.type != "cuda":
            return self._numbers(self._data.index_select(0, chosen.cpu()))
        rows = torch.empty((len(chosen), *self.shape), dtype=self._data.dtype, device=self.device)
        if self._data.is_pinned():
            for row, index in zip(rows, chosen.tolist(), strict=True):
                row.copy_(self._data[index], non_blocking=True)
        else:
            copy = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
            rows.copy_(torch.index_select(self._data, 0, chosen.cpu(), out=copy), non_blocking=True)
        return self._numbers(rows)

    def slice(self, start: int, stop: int) -> Tensor:
        """Return samples `start` to `stop` on the device; where they lie there already, no copy."""
        return self._numbers(self._data[start:stop].to(self.device))

    def _numbers(self, stored: Tensor) -> Tensor:
        return stored if self._unit is None else stored.float().mul_(self._unit)

    def free(self) -> None:
        """Give back its memory, or delete its file; it has no samples any more. Nothing happens the second time."""
        self._data = self._data.new_empty((0, *self.shape), device="cpu")
        if self._place is not None:
            self._place.release()

    def move(self, place: _Place) -> None:
        """Move it to a new, empty `place`."""
        step = max(1, MOVED * len(self) // max(1, self.nbytes))
        for start in range(0, len(self), step):
            place.write(self._data[start : start + step])
        data, old = place.finish(), self._place
        self._data, self._place = data, place
        if old is not None:
            old.release()


@dataclass
class _Room:
    """Bytes of one kind of memory that may still be taken."""

    left: float

    def take(self, size: int) -> bool:
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits


class _Memory:
    """Room for a tensor in the memory of `device`; page-locked where `pinned`, for copies that a GPU makes by itself."""

    def __init__(self, room: _Room, shape: Sequence[int], dtype: torch.dtype, device: torch.device, pinned: bool) -> None:
        self.device = device
        self._room, self._pinned, self._filled = room, pinned, 0
        self._data = torch.empty(tuple(shape), dtype=dtype, device=device)
        self._size, self._address = self._data.nbytes, self._data.data_ptr()
        if pinned:  # of this very size, while torch's own pinned memory is rounded up to a power of two and never given back
            torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(self._address, self._size, 0))

    def write(self, batch: Tensor) -> None:
        """Append [n, ...]."""
        self._data[self._filled : self._filled + len(batch)].copy_(batch)
        self._filled += len(batch)

    def finish(self) -> Tensor:
        """Return the whole."""
        return self._data

    def release(self) -> None:
        """Give the room back."""
        if self._pinned:
            torch.cuda.check_error(torch.cuda.cudart().cudaHostUnregister(self._address))
        self._data = self._data.new_empty(0, device="cpu")
        self._room.left += self._size
        self._size, self._pinned = 0, False


class _File:
    """A file for a tensor. It is written like any file, since writing a mapped one to a full disk would end the process."""

    def __init__(self, path: Path, shape: Sequence[int], dtype: torch.dtype) -> None:
        self._path, self._shape, self._dtype = path, tuple(shape), dtype
        self._file: BinaryIO | None = None
        self._with_file(self._open)

    def write(self, batch: Tensor) -> None:
        """Append [n, ...]."""
        raw = batch.cpu().contiguous().flatten().view(torch.uint8).numpy()
        file = self._file
        assert file is not None
        self._with_file(lambda: file.write(raw.data))

    def finish(self) -> Tensor:
        """Return the whole, mapped."""
        self._with_file(self._close)
        size = math.prod(self._shape)
        return torch.from_file(str(self._path), shared=True, size=size, dtype=self._dtype).view(self._shape)

    def release(self) -> None:
        """Delete the file."""
        with suppress(OSError):  # a full disk has been told of by `write`, and whatever is still to be written is not wanted
            self._close()
        self._path.unlink(missing_ok=True)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb")

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _with_file(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            raise RunError(
                f"values that do not fit into memory cannot be written to {str(self._path.parent)!r}: {error.strerror}. Make "
                "room there, choose another --run-dir, or give more --memory-budget"
            ) from error


_Place = _Memory | _File


class ActivationStore:
    """Puts values where they fit: on `device`, then in host memory (where the device is another), then in files in `folder`.

    A context manager: `folder`, which holds nothing else, is deleted at the beginning and at the end. Without `budget`
    everything stays on the device; without `folder` there are no files, and what exceeds the budget stays on the device, too.
    """

    def __init__(
        self, device: torch.device, budget: Budget | None = None, folder: Path | None = None, compact: bool = False
    ) -> None:
        self.device = device
        self._compact = compact
        self._near = _Room(math.inf if budget is None else SHARE * budget.compute)
        self._host = _Room(0 if budget is None else SHARE * budget.host)
        self._folder = folder
        self._numbers = itertools.count()
        self._stored: set[Stored] = set()

    def __enter__(self) -> ActivationStore:
        self._clear()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for stored in self._stored:
            stored.free()
        self._stored.clear()
        self._clear()

    def put(self, count: int, batches: Iterable[Sequence[Tensor]]) -> tuple[Stored, ...]:
        """Store one or more values of `count` samples, written as `batches` yields them: tensors [n, ...], on any device.

        Raises RunError where a file cannot be written. What `batches` raises passes, and leaves nothing behind.
        """
        places: list[_Place] = []
        units: list[float | None] = []
        try:
            for batch in batches:
                if not places:
                    units.extend(_unit(part) if self._compact else None for part in batch)
                    kept = zip(batch, units, strict=True)
                    places.extend(self._place((count, *x.shape[1:]), x.dtype if u is None else torch.float16) for x, u in kept)
                for place, part, unit in zip(places, batch, units, strict=True):
                    place.write(part if unit is None else _in_units(part, unit))
            values = tuple(Stored(place.finish(), place, self.device, unit) for place, unit in zip(places, units, strict=True))
        except BaseException:
            for place in places:
                place.release()
            raise
        self._stored.update(values)
        return values

    def spill(self) -> None:
        """Clear the memory of the device, as far as there is another place, and store nothing there any more."""
        if self._folder is None and self._host.left <= 0:
            return
        self._near.left = -math.inf
        for stored in self._stored:
            if stored.near and stored.nbytes:
                stored.move(self._place((len(stored), *stored.shape), stored.stored_dtype))

    def _place(self, shape: Sequence[int], dtype: torch.dtype) -> _Place:
        size = math.prod(shape) * dtype.itemsize
        if self._near.take(size) or not size:
            return _Memory(self._near, shape, dtype, self.device, pinned=False)
        if self._host.take(size):
            return _Memory(self._host, shape, dtype, torch.device("cpu"), pinned=self.device.type == "cuda")
        if self._folder is None:
            return _Memory(_Room(0), shape, dtype, self.device, pinned=False)
        return _File(self._folder / f"{next(self._numbers):06d}", shape, dtype)

    def _clear(self) -> None:
        if self._folder is not None and self._folder.exists():
            shutil.rmtree(self._folder)


def _unit(first: Tensor) -> float | None:
    """Return the unit, a power of two, in which float32 numbers like those of a `first` batch fit float16; None for others."""
    if first.dtype != torch.float32:
        return None
    largest = float(first.abs().max()) if first.numel() else 0.0
    if not math.isfinite(largest) or largest == 0:
        return 1.0
    return 2.0 ** (math.frexp(largest)[1] - COMPACT_EXPONENT)


def _in_units(part: Tensor, unit: float) -> Tensor:
    largest = torch.finfo(torch.float16).max
    scaled = part / unit
    return torch.where(scaled.isinf(), scaled, scaled.clamp(-largest, largest)).half()  # what overflowed goes on to show


def drawn(values: Sequence[Stored], batches: Tensor) -> Iterator[list[Tensor]]:
    """Yield, for each row of `batches` (int64 [iterations, B]), those samples of every value: [B, ...] each, on the device.

    What does not lie there is read by a thread, one row ahead. A value given twice is drawn once: the same tensor.
    """
    far = [value for value in dict.fromkeys(values) if not value.near]
    if not far:
        for chosen in batches:
            near = {value: value.rows(chosen) for value in dict.fromkeys(values)}
            yield [near[value] for value in values]
        return
    read, on_host = _reader(values[0].device), batches.cpu()
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(read, far, on_host[0]) if len(batches) else None
        for index, chosen in enumerate(batches):
            assert ahead is not None
            parts = dict(zip(far, ahead.result(), strict=True))
            ahead = thread.submit(read, far, on_host[index + 1]) if index + 1 < len(batches) else None
            for part in parts.values():
                if part.is_cuda:  # made on the thread's stream: not to be reused before this one is done with it
                    part.record_stream(torch.cuda.current_stream(part.device))
            parts |= {value: value.rows(chosen) for value in dict.fromkeys(values) if value.near}
            yield [parts[value] for value in values]


def _reader(device: torch.device) -> Callable[[Sequence[Stored], Tensor], list[Tensor]]:
    """Return a function that draws rows of several values; on CUDA it copies on a stream of its own, and waits for it."""

    def read(values: Sequence[Stored], chosen: Tensor) -> list[Tensor]:
        return [value.rows(chosen) for value in values]

    if device.type != "cuda":
        return read
    stream = torch.cuda.Stream(device)

    def copy(values: Sequence[Stored], chosen: Tensor) -> list[Tensor]:
        with torch.cuda.stream(stream):
            rows = read(values, chosen)
        stream.synchronize()
        return rows

    return copy
