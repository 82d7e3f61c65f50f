"""Trials in processes of their own, as few as can be: one goes through a list, and where it hangs or dies another goes on behind.

trials --worker--> verdicts, one after the other;    no verdict within Limits.trial seconds, or no process any more: a problem
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genie_onnx.forms import worker
from genie_onnx.forms.form import Trial
from genie_onnx.forms.verdicts import Verdict

GRACE = 5  # seconds for the parent to end a worker that hangs, before it ends itself
PACE = 0.02  # seconds between two looks at what a worker wrote
JUDGE = f"{worker.__name__}:torch_judge"
# What is freed is overwritten, so that reading it shows (mallopt, M_PERTURB); sizes that are asked for again are mapped again
HARDENED = {"MALLOC_PERTURB_": "165"}


@dataclass(frozen=True)
class Limits:
    """Seconds: for a `trial`, for a process to `start`, for `all` trials together."""

    trial: float = 6.0
    start: float = 60.0
    all: float = 120.0


def tried(
    trials: Sequence[Trial],
    limits: Limits,
    tell: Callable[[int], None] = lambda done: None,
    judge: str = JUDGE,
) -> list[Verdict]:
    """Return the verdicts of the first `trials`: of as many as there is time for; of none where no process can be started.

    `tell` is told how many are made, and may raise. `judge`: "module:function", which returns what makes a trial in the worker.
    """
    verdicts: list[Verdict] = []
    end = time.monotonic() + limits.all
    with contextlib.suppress(OSError):  # no process can be started here, or no file written
        while len(verdicts) < len(trials) and time.monotonic() < end:
            before = len(verdicts)
            with contextlib.closing(_of_one_process(trials[before:], limits, end, judge)) as found:
                for verdict in found:
                    verdicts.append(verdict)
                    tell(len(verdicts))
            if len(verdicts) == before:
                break
    return verdicts


def _of_one_process(trials: Sequence[Trial], limits: Limits, end: float, judge: str) -> Generator[Verdict]:
    """Yield the verdicts of one worker; the last one may be that it hung or died. Nothing where it does not even start."""
    todo = {
        "threads": torch.get_num_threads(),
        "seconds": math.ceil(limits.trial) + GRACE,
        "judge": judge,
        "trials": [worker.packed(trial) for trial in trials],
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        job, answers = Path(folder) / "job", Path(folder) / "answers"
        job.write_text(json.dumps(todo), encoding="utf-8")
        answers.touch()
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", worker.__name__, str(job), str(answers)],
            env={**os.environ, **HARDENED, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with child:
            try:
                yield from _followed(child, answers, len(trials), limits, end)
            finally:
                child.kill()  # nothing to one that has ended


def _followed(child: subprocess.Popen[bytes], answers: Path, count: int, limits: Limits, end: float) -> Generator[Verdict]:
    made = -1  # the first line says that it is ready
    since = time.monotonic()
    while made < count:
        code = child.poll()  # before the lines are read, all of which were written by then
        for line in _lines(answers)[made + 1 :]:
            if made >= 0:
                yield Verdict(**_record(line))
            made, since = made + 1, time.monotonic()
        if made == count:
            return
        if code is not None:
            if made >= 0:
                yield Verdict(None, f"it ends its process ({_how(code)})", died=True)
            return
        now = time.monotonic()
        if made < 0 and now - since > limits.start:
            return
        if made >= 0 and now - since > limits.trial:
            yield Verdict(None, f"it does not return within {limits.trial:g} s")
            return
        if now > end:
            return
        time.sleep(PACE)


def _lines(file: Path) -> list[str]:
    """Return the lines that were written to their ends."""
    return file.read_text(encoding="utf-8").split("\n")[:-1]


def _record(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    return found


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else str(signal.strsignal(-code))
