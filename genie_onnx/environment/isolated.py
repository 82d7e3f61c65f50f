"""A probe in a Python of its own: what it raises, how it dies or that it never ends, is a finding like its others.

    python -m genie_onnx.environment.isolated MODULE:FUNCTION FILE      writes each finding to FILE as a line of JSON

A library that is broken may take its process along (a missing instruction, two copies of one runtime), which no `except` sees.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from genie_onnx.environment.finding import Finding, problem


@dataclass(frozen=True, kw_only=True)
class Probe:
    """`function`, "module:name", is a generator of findings; `todo` is what helps where it fails, `seconds` its time."""

    topic: str
    function: str
    todo: str
    seconds: float = 120.0


def examine(probe: Probe) -> tuple[Finding, ...]:
    """Return what `probe` finds; where it fails, that comes last."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "findings"
        file.touch()
        try:
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-P", "-m", __name__, probe.function, str(file)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=probe.seconds,
                check=False,
            )
            end = None if done.returncode == 0 else _end(done)
        except subprocess.TimeoutExpired:
            end = f"it did not come back within {probe.seconds:g} s"
        found = tuple(Finding(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines())
    return found if end is None else (*found, problem(probe.topic, end, probe.todo))


def _end(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return why a process ended: the last line it wrote, which is that of its traceback, or its signal."""
    if done.returncode < 0:
        return f"it kills the Python that uses it ({signal.strsignal(-done.returncode)})"
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"it ends the Python that uses it (exit code {done.returncode})"


def main(function: str, file: str) -> None:
    """Write what `function` finds to `file`, each finding at once."""
    module, name = function.split(":")
    probe: Callable[[], Iterator[Finding]] = getattr(import_module(module), name)
    with Path(file).open("a", encoding="utf-8") as findings:
        for finding in probe():
            print(json.dumps(_plain(finding)), file=findings, flush=True)


def _plain(finding: Finding) -> dict[str, Any]:
    return {key: " ".join(value.split()) for key, value in asdict(finding).items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
