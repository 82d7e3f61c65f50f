"""The page on FPGAs, run as it stands: its tools want a Python of their own, which GENIE_ONNX_HLS4ML names.

By hand:

    GENIE_ONNX_HLS4ML=/opt/hls4ml/bin/python python -m pytest -m slow tests/test_fpga_page.py
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

PAGE = ROOT / "docs" / "howto" / "compile-for-an-fpga.md"
PYTHON = os.environ.get("GENIE_ONNX_HLS4ML")
STREAMLINED = """
import sys
import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.extract_conv_bias import ExtractBiasFromConv
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.util.cleanup import cleanup_model

model, x = ModelWrapper(sys.argv[1]), np.load("examples/digits_test.npz")["images"][:1]

def run(model):
    (output,) = execute_onnx(model, {model.graph.input[0].name: x}).values()
    return output

expected = run(model)
steps = InferShapes(), FoldConstants(), cleanup_model, ExtractBiasFromConv(), ConvertToChannelsLastAndClean(), GemmToMatMul()
for step in steps:
    model = step(model) if callable(step) else model.transform(step)
    np.testing.assert_allclose(run(model), expected, rtol=1e-6, atol=1e-6, err_msg=str(step))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="GENIE_ONNX_HLS4ML names no Python with hls4ml and qonnx"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*command: str) -> str:
    """What `command` prints; it has to succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600).stdout


def test_the_page_holds_as_it_stands(folder: Path) -> None:
    assert PYTHON is not None
    for entry in entries(PAGE):
        if entry.file is not None:
            Path(entry.file).write_text(entry.text, encoding="utf-8")
            continue
        program, *arguments = shlex.split(entry.text.replace("/opt/hls4ml/bin/python", PYTHON))
        if "venv" in arguments or "pip" in program:
            continue
        printed = call(*((sys.executable, "-m", "genie_onnx") if program == "genie-onnx" else (program,)), *arguments)
        if arguments[0] == "verify":
            (row,) = [line for line in printed.splitlines() if line.startswith(("qonnx", "hls4ml"))]
            assert row.split()[2:9] == ["ok", "100.0", "%", "0", "/", "0", "%"]
    assert list((folder / "digits_hls" / "firmware").glob("*.so"))


@pytest.mark.parametrize("target", ["qonnx", "hls4ml"])
def test_streamlining_keeps_the_outputs(target: str, folder: Path) -> None:
    assert PYTHON is not None
    quick = ["--samples", "16", "--recon-iters", "0", "--images", "procedural", "-q", "--accept-useless"]
    file = f"{target}.onnx"
    call(sys.executable, "-m", "genie_onnx", "quantize", "examples/digits.onnx", "--target", target, "-o", file, *quick)
    call(PYTHON, "-c", STREAMLINED, file)
