"""The page on microcontrollers, run as it stands: its tools want a Python of their own, which GENIE_ONNX_LITERT names.

By hand:

    GENIE_ONNX_LITERT=/opt/litert/bin/python python -m pytest -m slow tests/test_microcontroller_page.py
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documented import ROOT, entries

PAGE = ROOT / "docs" / "howto" / "compile-for-a-microcontroller.md"
PYTHON = os.environ.get("GENIE_ONNX_LITERT")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="GENIE_ONNX_LITERT names no Python with ai-edge-litert and ethos-u-vela"),
]


def call(*command: str) -> str:
    """What `command` prints; it has to succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800).stdout


def test_the_page_holds_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PYTHON is not None
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    here = os.path.dirname(PYTHON)
    for entry in entries(PAGE):
        program, *arguments = shlex.split(entry.text.replace("/opt/litert/bin", here))
        if "venv" in arguments or program.endswith("pip"):
            continue
        printed = call(*((sys.executable, "-m", "genie_onnx") if program == "genie-onnx" else (program,)), *arguments)
        if arguments[0] == "verify":
            row = next(line for line in printed.splitlines() if line.startswith("litert"))
            assert row.split()[2:5] == ["ok", "100.0", "%"]
            assert "9 of 9" in row
            assert "12 of 12 operators (100 %)" in printed
    assert "NPU operators = 12 (100.0%)" in printed
    assert (tmp_path / "digits_vela" / "digits_vela.tflite").is_file()
