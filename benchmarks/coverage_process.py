"""A function in a process of its own, whose crash, hang or hunger for memory is a finding and ends nothing else.

The process is forked from one that has torch and onnxruntime imported already, which saves seconds a row.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

Tell = Callable[..., None]
"""How a function in such a process reports: tell(key=value, ...), any number of times."""


@dataclass(frozen=True)
class Outcome:
    """`reports`: what was told before the end. `failure`: what ended it, None where it ended well."""

    reports: list[dict[str, Any]]
    failure: str | None
    seconds: float


def run_apart(function: Callable[..., None], arguments: tuple[Any, ...], limit: float) -> Outcome:
    """Return the outcome of `function(tell, *arguments)` after at most `limit` seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["coverage_judge"])
    receiver, sender = context.Pipe(duplex=False)
    started = time.monotonic()
    process = context.Process(target=_child, args=(function, sender, arguments))
    process.start()
    sender.close()
    reports, failure = _collect(receiver, started + limit)
    if failure is not None:
        process.kill()
    process.join()
    if failure is None and process.exitcode:
        failure = f"the process ended with {process.exitcode}" + (" (a signal)" if process.exitcode < 0 else "")
    failures = [report["failure"] for report in reports if "failure" in report]
    return Outcome([r for r in reports if "failure" not in r], failures[0] if failures else failure, time.monotonic() - started)


def _collect(receiver: Connection, deadline: float) -> tuple[list[dict[str, Any]], str | None]:
    reports = []
    while receiver.poll(max(deadline - time.monotonic(), 0)):
        try:
            reports.append(receiver.recv())
        except EOFError:  # the process has ended
            return reports, None
    return reports, "stopped at the time limit"


def _child(function: Callable[..., None], sender: Connection, arguments: tuple[Any, ...]) -> None:
    def tell(**report: Any) -> None:
        sender.send(report)

    try:
        function(tell, *arguments)
    except Exception as error:  # the row says so, and the table goes on
        traceback.print_exc()
        tell(failure=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
