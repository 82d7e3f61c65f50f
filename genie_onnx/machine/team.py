"""Several processes that work on one run, started by torchrun: who this one is, and how they exchange tensors.

    what is made in batches    process r of R makes batches r, R + r, 2 R + r, ..., and each is given to all
    a step on a batch          each takes its share of the samples; the gradients are added up
    files, terminal            the first process alone, for which the others wait

One process without a launcher is a team of one: nothing is exchanged, and the same code runs.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from genie_onnx.errors import ConfigError, RunError
from genie_onnx.machine.memory import is_out_of_memory

# As long as another process works it is waited for: hours, where it makes the last batch of images alone. That one has ended
# shows at once by its closed connection.
PATIENCE = timedelta(days=7)
ASKING = timedelta(seconds=10)  # for the launcher's answer when all else has failed
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets
ENDED = (
    "another process of this run has ended, or cannot be reached any more. The same command, with torchrun or without it, goes "
    "on from the last finished step"
)

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Samples `start` .. `stop` of a batch of `whole`; at least one."""

    start: int = 0
    stop: int = 1
    whole: int = 1

    @property
    def part(self) -> float:
        """How much of the batch it is, in 0..1."""
        return (self.stop - self.start) / self.whole

    def whole_of(self, count: int) -> int:
        """Return how many elements the whole batch has where the share has `count`."""
        return count * self.whole // (self.stop - self.start)

    def before(self, count: int) -> int:
        """Return how many elements of the batch lie before those of the share, which are `count`; samples are outermost."""
        return count * self.start // (self.stop - self.start)


ALL = Share()


class Team:
    """A process on its own. `rank` of `size` is this one; `place` of `neighbours` among those on the same machine."""

    rank = 0
    size = 1
    place = 0
    neighbours = 1

    def share(self, count: int) -> Share:
        """Return what is this one's of `count` samples. Raises ConfigError where there is not one for each process."""
        if count < self.size:
            raise ConfigError(
                f"{self.size} processes cannot divide steps on {count} samples among them: start fewer (--nproc-per-node), or "
                "take a larger --batch-size and more --samples"
            )
        return Share(self.rank * count // self.size, (self.rank + 1) * count // self.size, count)

    def divided(self, count: int, make: Callable[[int], Sequence[Tensor]]) -> Iterator[Sequence[Tensor]]:
        """Yield make(0) .. make(count - 1) in every process, each made by one of them."""
        for first in range(0, count, self.size):
            mine = first + self.rank
            own = make(mine) if mine < count else None
            for source in range(min(self.size, count - first)):
                yield self.given(source, own)

    def given(self, source: int, tensors: Sequence[Tensor] | None) -> Sequence[Tensor]:
        """Return the `tensors` of process `source`; those of the others are not asked for."""
        assert tensors is not None
        return tensors

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by the sum of those of all processes, the same bits in each, and return it."""
        return tensor

    def once(self, action: Callable[[], T]) -> T:
        """Return what `action` does in the first process; the others wait, and get a copy. For numbers, not for CUDA tensors."""
        return action()


ALONE = Team()


class _Processes(Team):
    """One of several processes, by torch.distributed."""

    def __init__(self, found: Mapping[str, int]) -> None:
        self.rank, self.size = found["RANK"], found["WORLD_SIZE"]
        self.place, self.neighbours = found["LOCAL_RANK"], found["LOCAL_WORLD_SIZE"]

    def given(self, source: int, tensors: Sequence[Tensor] | None) -> Sequence[Tensor]:
        """See Team."""
        described = None if tensors is None else [(x.shape, x.dtype, x.device.type) for x in tensors]
        described = self._from(source, described)
        if self.rank == source and tensors is not None:
            sent = [x.contiguous() for x in tensors]
        else:
            sent = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype, device in described or ()]
        with _reached():
            for x in sent:
                dist.broadcast(x.flatten().view(torch.uint8), source)  # a view: any type of number travels as it is
        return sent

    def add_up(self, tensor: Tensor) -> Tensor:
        """See Team."""
        with _reached():
            dist.all_reduce(tensor)
        return tensor

    def once(self, action: Callable[[], T]) -> T:
        """See Team."""
        return cast(T, self._from(0, action() if self.rank == 0 else None))

    def _from(self, source: int, what: T) -> T:
        envelope = [what]
        with _reached():
            dist.broadcast_object_list(envelope, source, device=torch.device("cpu"))
        return envelope[0]


@contextmanager
def join_team(device: str = "auto") -> Iterator[Team]:
    """Join the processes that torchrun started with this one, until the end of the body; without torchrun there are none.

    device: as in QuantizeConfig. Tensors are exchanged with gloo on a CPU and with nccl between GPUs. When torchrun stops the
    body because another process has ended, it raises RunError.

    Raises ConfigError where a part of torchrun's environment is missing.
    """
    found = launched(os.environ)
    if found["WORLD_SIZE"] == 1:
        yield ALONE
        return
    gpus = device != "cpu" and torch.cuda.is_available()
    with _reached():
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    in_main = threading.current_thread() is threading.main_thread()  # signals are for no other
    before = signal.signal(signal.SIGTERM, _stopped) if in_main else None
    try:
        yield _Processes(found)
    except BaseException:
        # Torchrun stops all processes once one has failed, and this one still has to say why. A group that has lost a member
        # cannot be left in good order; it ends with the process.
        if in_main:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    dist.destroy_process_group()
    if in_main:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)  # None: not set from Python


def launched(environment: Mapping[str, str]) -> dict[str, int]:
    """Return the numbers that torchrun left in `environment`: who of how many this process is; without it the only one.

    Raises ConfigError where some are missing, or make no sense.
    """
    if "WORLD_SIZE" not in environment:
        return {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    if missing := [name for name in LAUNCHER if not environment.get(name)]:
        raise ConfigError(
            f"WORLD_SIZE is set in the environment, and {', '.join(missing)} not: start with torchrun, which sets all of them, "
            "or unset WORLD_SIZE"
        )
    texts = {name: environment[name] for name in LAUNCHER if name != "MASTER_ADDR"}
    if wrong := [f"{name}={text}" for name, text in texts.items() if not text.isdecimal()]:
        raise ConfigError(f"{', '.join(wrong)} in the environment: these are whole numbers that torchrun sets")
    found = {name: int(text) for name, text in texts.items()}
    if found["RANK"] >= found["WORLD_SIZE"] or found["LOCAL_RANK"] >= found["LOCAL_WORLD_SIZE"]:
        given = ", ".join(f"{name}={number}" for name, number in found.items())
        raise ConfigError(f"{given} in the environment: processes are numbered from 0. Start with torchrun")
    return found


def first_to_fail() -> bool:
    """Whether no other process that torchrun started with this one has asked so before: then it is to say why all ends."""
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=ASKING))
        return bool(store.add("genie_onnx/failed", 1) == 1)
    except (RuntimeError, ValueError):  # nobody to ask: said twice is better than not at all
        return True


@contextmanager
def _reached() -> Iterator[None]:
    """Raise RunError where the body finds that another process is not there any more."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise RunError(ENDED) from error


def _stopped(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise RunError(ENDED)
