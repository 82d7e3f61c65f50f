"""benchmarks/gpu_once.sh: whatever becomes of its parts, each gets its time and leaves its line."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_once.sh"
PARTS = ["setup", "models", "tests", "zero-shot", "speed-resnet18", "speed-mobilenet_v2"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script")


def run(out: Path, python: str | Path, **environment: str) -> tuple[int, list[str]]:
    """Return the exit status and the lines of the summary."""
    chosen = {**os.environ, "PYTHON": str(python), "DEVICE": "cpu", "TINY": "1", **environment}
    status = subprocess.run([SCRIPT, out], env=chosen, capture_output=True, check=False, timeout=280).returncode
    return status, (out / "summary.txt").read_text(encoding="utf-8").splitlines()


def stub(folder: Path, line: str) -> Path:
    """Return an interpreter that does but this."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def test_a_part_that_fails_ends_no_other(tmp_path: Path) -> None:
    status, lines = run(tmp_path / "out", stub(tmp_path, "echo spoilt; exit 3"))
    assert status == 1
    assert [line.split(" seconds")[0] for line in lines] == [f"{part}: rc=3" for part in PARTS]
    assert (tmp_path / "out" / "tests.log").read_text(encoding="utf-8") == "spoilt\n"


@pytest.mark.slow
def test_the_limit_holds_for_all_parts_together(tmp_path: Path) -> None:
    status, lines = run(tmp_path / "out", stub(tmp_path, "sleep 60"), LIMIT="11")
    assert status == 1
    assert lines[0].startswith("setup: rc=124")
    assert lines[1:] == [f"{part}: left out, no time" for part in PARTS[1:]]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torchvision") is None, reason="its networks are torchvision's")
def test_every_part_on_a_cpu(tmp_path: Path) -> None:
    status, lines = run(tmp_path / "out", sys.executable)
    assert status == 0, lines
    assert [line.split(":")[0] for line in lines] == PARTS
    assert "an iteration" in (tmp_path / "out" / "speed-resnet18.log").read_text(encoding="utf-8")
