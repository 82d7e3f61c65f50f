"""A team of threads of one process: what a team of processes computes, without starting any."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from genie_onnx.machine.team import Team

T = TypeVar("T")


class Threads(Team):
    """One of them."""

    def __init__(self, rank: int, size: int, meeting: threading.Barrier, table: dict[int, object]) -> None:
        self.rank, self.size, self._meeting, self._table = rank, size, meeting, table

    def given(self, source: int, tensors: Sequence[Tensor] | None) -> Sequence[Tensor]:
        """See Team."""
        return self._all(tensors)[source] or ()

    def add_up(self, tensor: Tensor) -> Tensor:
        """See Team."""
        return tensor.copy_(torch.stack(self._all(tensor.clone())).sum(0))

    def _all(self, own: T) -> list[T]:
        self._table[self.rank] = own
        self._meeting.wait(timeout=60)
        found = [self._table[rank] for rank in range(self.size)]
        self._meeting.wait(timeout=60)
        return found  # type: ignore[return-value]


class OneMemory(Threads):
    """One that gets what the first has made as it is: its own way of handing objects over is for processes."""

    def once(self, action):  # type: ignore[no-untyped-def]
        """See Team."""
        return self._all(action() if self.rank == 0 else None)[0]


def in_threads(size: int, action: Callable[[Team], T], member: type[Threads] = Threads) -> list[T]:
    """Return what `action` does in each of a team of threads; where one fails the others do not wait for it."""
    meeting, table = threading.Barrier(size), dict[int, object]()

    def work(rank: int) -> T:
        try:
            return action(member(rank, size, meeting, table))
        except BaseException:
            meeting.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, range(size)))
