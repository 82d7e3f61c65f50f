"""A quantize run in a process of its own that is killed (SIGKILL) at some moment, or kills itself just before a file appears.

Processes are forked from one that has torch imported, which saves seconds each.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import genie_onnx

POLL = 0.005  # seconds


def killed_after(files: int, seconds: float, model: Path, output: Path, **settings: Any) -> bool:
    """Run quantize and kill it so long after it began, or after so many new files appeared. Return whether it was still going."""
    there = _files(output.parent)
    begun, process = _start(None, model, output, settings)
    begun.wait()
    while process.is_alive() and _files(output.parent) < there + files:
        time.sleep(POLL)
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _files(folder: Path) -> int:
    return sum(path.is_file() and ".part" not in str(path) for path in folder.rglob("*"))


def killed_before_file(number: int, model: Path, output: Path, **settings: Any) -> bool:
    """Run quantize up to the moment when its file `number` (1: the first one) is written but has not got its name.

    Return whether there was such a file: else the run is finished.
    """
    _, process = _start(number, model, output, settings)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == -signal.SIGKILL


def _start(last: int | None, model: Path, output: Path, settings: dict[str, Any]) -> tuple[Event, ForkServerProcess]:
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["genie_onnx.pipeline.quantize", "torch._dynamo"])  # torch's Adam imports the second
    begun = context.Event()
    process: ForkServerProcess = context.Process(target=_quantize, args=(begun, last, model, output, settings))
    process.start()
    return begun, process


def _quantize(begun: Event, last: int | None, model: Path, output: Path, settings: dict[str, Any]) -> None:
    if last is not None:
        left, rename = last, os.replace

        def replace(source: Path, target: Path) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)

        os.replace = replace  # type: ignore[assignment]
    begun.set()
    genie_onnx.quantize(model, output, **settings)
