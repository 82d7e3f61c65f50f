"""The child process: loads a model file in one runtime, runs it, times it, and writes down what it found.

    python worker.py DRIVER FOLDER        (a script: it runs in the runtime's own Python, which has numpy but no genie_onnx)

In: FOLDER/job.json {model, float_model, rounds, seconds} and FOLDER/inputs.npz, float32 [batches, n, C, H, W] by input name.
Out: FOLDER/answer.json {version, problem, ran, operators, notes, codes, milliseconds, float_milliseconds, done},
FOLDER/outputs.npz, [batches, ...] by number of the output, FOLDER/codes.npz likewise by number of the name in `codes`, and
FOLDER/stage, what is being done right now: all that is left to read after a crash.

A driver is a file with a function `version() -> str` and a class

    Model(path, shapes)     loads a file for inputs of these shapes
    Model(...)(feeds)       -> the outputs as a list, in the file's order
    Model(...).operators(feeds)  -> how many of each operator run, as the runtime calls them; {} where it does not tell
    Model(...).codes(feeds)      -> codes of values inside, by their names in the ONNX file; a driver may have no such method
    Model(...).notes()           -> sentences for the user; likewise
"""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

# This folder is first on the path of a script, and a file in it could hide a package of the same name.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402

SECONDS = 5.0  # for timing, at most
WATCHED = 8  # batches of which codes inside are kept: all values of a network


class Model(Protocol):
    """A model file in a runtime."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Load it."""

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Count what runs."""


class Work:
    """The job of one folder, step by step."""

    def __init__(self, driver: Path, folder: Path) -> None:
        """Read the job."""
        self.driver, self.folder = driver, folder
        self.job: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        self.answer: dict[str, Any] = {}
        with np.load(folder / "inputs.npz", allow_pickle=False) as arrays:
            self.inputs = {name: arrays[name] for name in arrays.files}

    def run(self) -> None:
        """Do everything, and write the answer after each step that has one."""
        self._begin("be imported")
        driver = _load(self.driver)
        self.answer["version"] = driver.version()
        self._begin("load the file")
        feeds = [{name: array[i] for name, array in self.inputs.items()} for i in range(len(next(iter(self.inputs.values()))))]
        shapes = {name: array.shape for name, array in feeds[0].items()}
        model: Model = driver.Model(self.job["model"], shapes)
        self._begin("run the file")
        runs = [model(feed) for feed in feeds]
        outputs: dict[str, Any] = {str(k): np.stack(column) for k, column in enumerate(zip(*runs))}  # noqa: B905 - Python 3.9
        np.savez(self.folder / "outputs.npz", **outputs)
        if hasattr(model, "codes"):
            inside = [model.codes(feed) for feed in feeds[:WATCHED]]
            kept: dict[str, Any] = {name: np.stack([codes[name] for codes in inside]) for name in inside[0]}
            np.savez(self.folder / "codes.npz", **{str(k): array for k, array in enumerate(kept.values())})
            self.answer["codes"] = list(kept)
        self.answer["ran"] = True
        self._begin("tell what it runs")
        self.answer["operators"] = model.operators(feeds[0])
        self.answer["notes"] = model.notes() if hasattr(model, "notes") else []
        if not self.job["rounds"]:
            return
        timed = {"milliseconds": model}
        if self.job["float_model"] is not None:
            self._begin("load the float model")
            timed["float_milliseconds"] = driver.Model(self.job["float_model"], shapes)
        self._begin("be timed")
        self.answer.update(best_of(timed, feeds[0], self.job["rounds"]))

    def write(self) -> None:
        """Write the answer as far as it is known; it is whole at any moment."""
        written = self.folder / "answer.json.new"
        written.write_text(json.dumps(self.answer), encoding="utf-8")
        written.replace(self.folder / "answer.json")

    def _begin(self, stage: str) -> None:
        self.write()
        (self.folder / "stage").write_text(stage, encoding="utf-8")


def best_of(models: Mapping[str, Model], feeds: Mapping[str, np.ndarray], rounds: int) -> dict[str, float]:
    """Return the shortest run of each model in ms; they take turns, so that a busy machine slows all of them."""
    best = dict.fromkeys(models, float("inf"))
    end = time.perf_counter() + SECONDS
    for done in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model(feeds)
            taken = 1000 * (time.perf_counter() - start)
            if done:  # the first round warms up
                best[name] = min(best[name], taken)
        if done and time.perf_counter() > end:
            break
    return best


def _one_line(error: Exception) -> str:
    """Return what an error says: its first line, or the last one of a traceback that some runtimes hand on as text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _load(driver: Path) -> Any:
    spec = importlib.util.spec_from_file_location("driver", driver)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(driver: str, folder: str) -> None:
    """Do the job in `folder`; what a runtime raises becomes the answer's problem, in one line."""
    work = Work(Path(driver), Path(folder))
    if hasattr(signal, "alarm"):  # the parent ends this process; where it is gone, the system does
        signal.alarm(work.job["seconds"])
    try:
        work.run()
        work.answer["done"] = True
    except Exception as error:  # whatever a foreign runtime raises
        stage = (work.folder / "stage").read_text(encoding="utf-8")
        work.answer["problem"] = f"cannot {stage}: {_one_line(error)}"
    work.write()


if __name__ == "__main__":
    main(*sys.argv[1:])
