"""What is done about memory that runs out: once in a run, room is made and what failed is run again, in smaller batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from genie_onnx.events import Notice
from genie_onnx.machine.memory import is_out_of_memory
from genie_onnx.machine.team import ALONE, Team
from genie_onnx.reconstruct.store import ActivationStore

T = TypeVar("T")


class Relief:
    """Runs actions that may be repeated: they draw from generators made inside, and leave nothing behind when they fail.

    In a team none may: the other processes would not know.
    """

    def __init__(self, store: ActivationStore, notice: Callable[[Notice], None], team: Team = ALONE) -> None:
        self._store, self._notice, self._alone = store, notice, team.size == 1
        self._used = False

    def __call__(self, action: Callable[[], T]) -> T:
        """Return what `action` does. The first time that one runs out of memory it is repeated; the second error passes."""
        try:
            return action()
        except Exception as error:  # that of a device has no class in common with that of the machine
            if self._used or not self._alone or not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        self._used = True  # outside of the handler, which keeps the tensors of the failed action alive
        self._store.spill()
        if self._store.device.type == "cuda":
            torch.cuda.empty_cache()
        self._notice(
            Notice(
                "memory ran out once: what is kept between blocks was moved off the device as far as possible, and half as many "
                f"images are run at once from there on ({reason}). A smaller --memory-budget avoids it"
            )
        )
        return action()

    @property
    def pieces(self) -> int:
        """In how many pieces a batch is run."""
        return 2 if self._used else 1
