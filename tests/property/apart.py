"""A model file tried in a process of its own, with limits of time and memory: what ends it is an outcome and ends nothing else.

The process is forked from one that has imported everything, which saves seconds a file.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from genie_onnx import DistillConfig, InputError, QuantizeConfig, ReconstructConfig, RunError, inspect, quantize

PATIENCE = 150  # seconds by the clock until a file counts as hung: the machine may be busy with other things
LIMIT = 4 * 2**30  # bytes that can be allocated; asking for more shows as a MemoryError, or the like, of the file that did


@dataclass(frozen=True)
class Outcome:
    """How one file ended.

    quantized, refused (InputError: the file cannot be used), failed (RunError: a run that is not sound);
    and what none may: broken (any other exception, with its traceback), crashed (by a signal, mostly), hung.
    """

    outcome: str
    text: str
    seconds: float = 0.0  # of the processor
    peak_mb: float = 0.0


def attempt(path: Path, patience: float = PATIENCE, tried: Callable[[Path], tuple[str, str]] | None = None) -> Outcome:
    """Return how `tried` ends with the file `path`, in a process of its own; by default it is inspected and quantized.

    `tried` returns an outcome and its text. A process that dies or hangs while it ends counts like one that does so before.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["property.apart", "torch._dynamo"])  # torch's Adam imports the second
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, path, tried or quantized))
    process.start()
    sender.close()
    found = None
    if receiver.poll(patience):
        with suppress(EOFError):  # it died
            found = receiver.recv()
        process.join(patience)
    hung = process.is_alive()
    process.kill()
    process.join()
    if hung:
        return Outcome("hung", f"no end after {patience:.0f} s")
    code = process.exitcode or 0
    if found is None or code:
        return Outcome("crashed", signal.Signals(-code).name if code < 0 else f"the process ended with {code}")
    return Outcome(*found)


def _child(sender: Connection, path: Path, tried: Callable[[Path], tuple[str, str]]) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))  # private memory; the libraries themselves are mapped files
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    started = time.process_time()
    try:
        outcome, text = tried(path)
    except Exception:
        outcome, text = "broken", traceback.format_exc()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes, on Linux
    sender.send((outcome, text, time.process_time() - started, peak))


def quantized(path: Path) -> tuple[str, str]:
    """Inspect and quantize `path` with as little work as possible."""
    config = QuantizeConfig(
        samples=2,
        distill=DistillConfig(iterations=1, refine_iterations=1),
        reconstruct=ReconstructConfig(iterations=1, batch_size=2),
        device="cpu",
    )
    try:
        inspect(path, config=config)
        with tempfile.TemporaryDirectory() as folder:
            result = quantize(path, Path(folder) / "out.onnx", config=config)
            return "quantized", f"{len(result.report.weights)} weights"
    except InputError as error:
        return "refused", str(error)
    except RunError as error:
        return "failed", str(error)
