"""A loop whose steps must not hang: a step that takes FACTOR times as long as the longest before it ends the run.

    the step returns after all      `step` raises RunError
    it does not                     a thread says so on standard error, and ends the process with code 1

A library may hang inside of a call in which Python does nothing, neither raise nor handle a signal; a thread of its own still
runs, as torch and numba let go of the interpreter there. Nothing is lost: what a run has finished was written whole (atomic), and
the lock of its directory ends with the process. Time in which the whole process stands still (stopped, suspended) does not count.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from genie_onnx.errors import RunError

FACTOR = 100.0
LEAST, FIRST = 60.0, 3600.0  # seconds that a step may take whatever was measured; and the first one, of which nothing is known
GRACE = 10.0  # seconds in which a step may still return, so that an exception can be raised
PACE = 1.0  # seconds between two looks at the clock


def end_process(text: str) -> None:
    """Write `text` to standard error and end the process with code 1, whatever it is doing."""
    sys.stderr.write(f"error: {text}\n")
    sys.stderr.flush()
    os._exit(1)


class Watchdog:
    """A context manager around a loop that calls `step` after each of its steps."""

    def __init__(
        self,
        what: str,
        *,
        least: float = LEAST,
        first: float = FIRST,
        grace: float = GRACE,
        pace: float = PACE,
        end: Callable[[str], None] = end_process,
    ) -> None:
        """`what` is done in the loop, for the message: "learning block 'conv1' (layers conv1, conv2)"."""
        self._what, self._least, self._grace, self._pace, self._end = what, least, grace, pace, end
        self._limit = first
        self._longest = 0.0
        self._waited = 0.0  # seconds in this step, written by the thread
        self._steps = 0
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="genie-onnx watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def step(self) -> None:
        """A step is done. Raises RunError where it took too long."""
        now = time.monotonic()
        if self._waited > self._limit:
            raise RunError(self._text())
        self._longest = max(self._longest, now - self._began)
        self._limit = max(self._least, FACTOR * self._longest)
        self._began = now
        self._steps += 1

    def _watch(self) -> None:
        steps, looked = self._steps, time.monotonic()
        while not self._over.wait(self._pace):
            now = time.monotonic()
            # A look that comes late comes from a process that stood still.
            self._waited = min(now - looked, 2 * self._pace) + (self._waited if steps == self._steps else 0.0)
            steps, looked = self._steps, now
            if self._waited > self._limit + self._grace:
                self._end(self._text())
                return

    def _text(self) -> str:
        usual = f"; the longest before it took {self._longest:.3g} s" if self._steps else ""
        return (
            f"step {self._steps + 1} of {self._what} does not return: it has taken {self._waited:.0f} s{usual}. A library "
            "of torch seems to hang. The same command goes on from the last finished part; if it hangs again, use --precision "
            "fp32 and please report it"
        )
