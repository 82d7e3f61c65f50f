"""benchmarks/coverage.py: rows are judged, kept and shown, and a row that fails ends nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


def run(cache: Path, *arguments: str) -> str:
    command = [sys.executable, SCRIPT, "--cache", cache, "--table", cache / "table.md", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=280).stdout


@pytest.mark.slow
def test_rows(tmp_path: Path) -> None:
    """A green row, and two refused ones, of which the second is a damaged file; what has a result is not judged again."""
    damaged = tmp_path / "styles" / "caffe_style" / "file.onnx"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    patterns = ("styles/paddle/*", "styles/two_inputs/*", "styles/caffe_style/*")
    printed = run(tmp_path, *patterns)
    assert printed.splitlines()[-1] == "1 green, 2 refused"
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| styles/paddle | file | 11 | Nx3x32x32 | 2 | " in table
    assert "| styles/two_inputs/file | the model has 2 inputs" in table
    assert "file.onnx: this is not an ONNX file" in table
    assert run(tmp_path, *patterns) == "1 green, 2 refused\n"


@pytest.mark.slow
def test_time_limit(tmp_path: Path) -> None:
    assert "stopped at the time limit" in run(tmp_path, "styles/paddle/*", "--limit", "0.1")
