"""A command with limits of time and memory, and what it took: used by exporters.py."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a command ended. `rc`: its exit status; below 0: the signal; None: stopped at the time limit."""

    rc: int | None
    wall: float  # seconds
    cpu: float  # seconds, all processes of it that it waited for
    mb: float  # largest resident memory of one process

    def __str__(self) -> str:
        if self.rc is None:
            return f"stopped after {self.wall:.0f} s"
        return signal.Signals(-self.rc).name if self.rc < 0 else str(self.rc)


def run(
    command: Sequence[str],
    folder: Path,
    name: str,
    seconds: float,
    memory: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> Ended:
    """Run `command` in `folder`, its output in NAME.out and NAME.err there; with at most `memory` bytes of its own.

    The command and all it started is ended after `seconds`, and when this function is left by an exception.
    """
    started = time.monotonic()
    overdue = threading.Event()
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
        )
        if memory is not None:  # private memory; the libraries themselves are mapped files
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory, memory))

        def stop() -> None:
            overdue.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    rc = None if overdue.is_set() else process.returncode
    return Ended(rc, time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)  # kilobytes, on Linux
