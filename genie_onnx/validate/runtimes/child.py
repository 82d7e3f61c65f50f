"""Running a file in a runtime, in a process of its own: what it raises, how it dies, or that it never comes back, is an answer.

model file, float32 [batches, n, ...] by input name -> Answer with outputs [batches, ...] in the file's order
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genie_onnx.validate.runtime_errors import explained
from genie_onnx.validate.runtimes.table import Runtime
from genie_onnx.validate.session import Array

WORKER = Path(__file__).parent / "worker.py"
ROUNDS = 50  # timed runs, of which the shortest counts
GRACE = 10  # s, for the parent to end a child in time
PACE = 0.5  # s between two calls of `alive`
LINES = 20  # of its messages that are kept
# One thread wherever the driver has no option for it: times of two models are compared, on a machine that may be busy.
THREADS = {"OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a runtime made of a file; None and empty where it did not come so far, and `problem` is why, in one line."""

    version: str | None
    problem: str | None
    outputs: tuple[Array, ...]  # [batches, ...] each
    operators: Mapping[str, int]  # how many run, as the runtime calls them
    milliseconds: float | None  # shortest run of one batch
    float_milliseconds: float | None
    messages: tuple[str, ...] = ()  # the last lines it wrote to the terminal
    float_problem: str | None = None  # why the float model has no time, though the file has
    codes: Mapping[str, Array] = field(default_factory=dict)  # [few batches, ...] of values inside, by name in the ONNX file
    notes: tuple[str, ...] = ()


def ask(
    runtime: Runtime,
    model: Path,
    inputs: Mapping[str, Array],
    *,
    float_model: Path | None = None,
    python: str = sys.executable,
    seconds: float,
    alive: Callable[[], None] = lambda: None,
) -> Answer:
    """Run `model` on `inputs`, one batch after another, in a child of the interpreter `python`; end it after `seconds`.

    `alive` is called twice a second meanwhile; what it raises ends the child.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = {
            "model": str(model.resolve()),
            "float_model": None if float_model is None else str(float_model.resolve()),
            "rounds": ROUNDS if runtime.timed else 0,
            "seconds": math.ceil(seconds) + GRACE,
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        arrays: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        np.savez(folder / "inputs.npz", **arrays)
        # a venv is known by the link to its Python, so that is not followed
        command = os.path.abspath(python) if os.path.dirname(python) else python
        end = _run([command, str(WORKER), str(runtime.driver.resolve()), str(folder)], folder, seconds, alive)
        answer: dict[str, Any] = _json(folder / "answer.json")
        return Answer(
            version=answer.get("version"),
            problem=_plain(answer.get("problem", None if "done" in answer else end)),
            outputs=_arrays(folder / "outputs.npz") if "ran" in answer else (),
            operators=answer.get("operators", {}),
            milliseconds=answer.get("milliseconds"),
            float_milliseconds=answer.get("float_milliseconds"),
            messages=_messages(folder),
            float_problem=_plain(answer.get("float_problem")),
            codes=dict(zip(answer.get("codes", []), _arrays(folder / "codes.npz"), strict=True)) if "codes" in answer else {},
            notes=tuple(answer.get("notes", [])),
        )


def _plain(problem: str | None) -> str | None:
    """Return a sentence about a problem without what only onnxruntime's developers can read."""
    said, mark, raised = (problem or "").partition("[ONNXRuntimeError]")
    return f"{said}{explained(mark + raised).reason}" if mark else problem


def _run(command: list[str], folder: Path, seconds: float, alive: Callable[[], None]) -> str:
    """Run the child in `folder`, where its messages go as well; return what became of it."""
    with (folder / "messages").open("wb") as messages:
        child = subprocess.Popen(  # noqa: S603
            command,
            cwd=folder,
            env={**os.environ, **THREADS},
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
        )
        with child:
            try:
                code = _ended(child, seconds, alive)
            finally:
                child.kill()  # nothing to one that has ended
    if code is None:
        return f"its process had to {_stage(folder)} when {seconds:g} s were over"
    if code == 0:
        return f"its process ended when it was to {_stage(folder)}"  # of no interest where it wrote that it is done
    how = f"exit code {code}" if code > 0 else str(signal.strsignal(-code))
    last = "".join(f": {line}" for line in _messages(folder)[-1:])
    return f"its process died ({how}) when it was to {_stage(folder)}{last}"


def _ended(child: subprocess.Popen[bytes], seconds: float, alive: Callable[[], None]) -> int | None:
    """Return the exit code of `child`, None where it still runs after `seconds`."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            return child.wait(min(PACE, left))
        except subprocess.TimeoutExpired:
            alive()
    return None


def _stage(folder: Path) -> str:
    stage = folder / "stage"
    return stage.read_text(encoding="utf-8") if stage.exists() else "start"


def _messages(folder: Path) -> tuple[str, ...]:
    lines = (folder / "messages").read_text(encoding="utf-8", errors="replace").split("\n")
    return tuple(line.strip() for line in lines if line.strip())[-LINES:]


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def _arrays(file: Path) -> tuple[Array, ...]:
    with np.load(file, allow_pickle=False) as arrays:
        return tuple(arrays[str(k)] for k in range(len(arrays.files)))
