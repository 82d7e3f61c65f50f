"""A thousand damaged and hostile files: a clear error or a right result, never a traceback, a crash, a hang or all the memory.

File number n is the same every time: property.mutations.write(n, folder) makes it.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from property.mutations import MUTATIONS, write

pytest.importorskip("resource", reason="memory is limited by POSIX means")

SECONDS = 30  # of the processor, for one file
PATIENCE = 150  # seconds by the clock until a file counts as hung: the machine may be busy with other things
MEGABYTES = 4096
WORKER = Path(__file__).with_name("worker.py")
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """How one file ended: worker.py has the words, "crashed" and "hung" come on top."""

    outcome: str
    text: str
    seconds: float = 0.0  # of the processor
    peak_mb: float = 0.0  # of the process so far


class Worker:
    """A process that tries file after file, and is replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def attempt(self, path: Path) -> Outcome:
        """Return the outcome of one file."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else ""
        if line:
            return Outcome(**json.loads(line))
        self.stop()
        return Outcome("crashed" if ready else "hung", f"the process ended with {process.returncode}")

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )


@contextmanager
def worker() -> Iterator[Worker]:
    """A worker for the time of a test."""
    made = Worker()
    try:
        yield made
    finally:
        made.stop()


def try_files(seeds: Iterable[int], folder: Path) -> Counter[str]:
    """Try the files with these numbers; return how many ended how. Fails with all that ended as none may."""
    counts: Counter[str] = Counter()
    findings = []
    with worker() as process:
        for seed in seeds:
            place = folder / str(seed)
            place.mkdir()
            path, what = write(seed, place)
            found = process.attempt(path)
            counts[found.outcome] += 1
            name = f"file {seed} ({what})"
            if found.outcome not in ("quantized", "refused", "failed"):
                findings.append(f"{name} {found.outcome}: {found.text}")
            elif found.seconds > SECONDS:
                findings.append(f"{name} took {found.seconds:.0f} s")
            elif found.peak_mb > MEGABYTES:
                findings.append(f"{name} took {found.peak_mb:.0f} MB")
                process.stop()  # the next file begins anew
            elif not found.text.strip():
                findings.append(f"{name} was {found.outcome} without a word")
    print(dict(counts))
    assert not findings, "\n\n".join(findings)
    return counts


def test_mutated_files(tmp_path: Path) -> None:
    """Two of each kind; some are refused, some still right."""
    counts = try_files(range(2 * len(MUTATIONS)), tmp_path)
    assert counts["refused"] > 5
    assert counts["quantized"] > 2


def test_the_files_are_the_same_every_time(tmp_path: Path) -> None:
    for seed in range(len(MUTATIONS)):
        places = [tmp_path / f"{seed}_{i}" for i in range(2)]
        for place in places:
            place.mkdir()
        if MUTATIONS[seed].__name__ != "external":  # names the folder it is in
            assert write(seed, places[0])[0].read_bytes() == write(seed, places[1])[0].read_bytes()


@pytest.mark.slow
def test_a_thousand_mutated_files(tmp_path: Path) -> None:
    counts = try_files(range(1000), tmp_path)
    assert counts["refused"] > 300
    assert counts["quantized"] > 100
