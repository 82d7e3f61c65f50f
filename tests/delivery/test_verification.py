"""`genie-onnx verify`, and the function behind it: samples, what can be asked for, the table, JSON, exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from qdq_net import float_net, qdq_net

import genie_onnx
from genie_onnx.errors import ConfigError, ModelError

MISSING = "qnn"  # needs a Python of its own: not installed where the tests run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.quant.onnx"
    onnx.save(qdq_net(), path)
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def test_a_file_agrees_with_itself_in_onnxruntime(model: Path, tmp_path: Path) -> None:
    onnx.save(float_net(), tmp_path / "float.onnx")
    seen: list[genie_onnx.Step] = []
    found = genie_onnx.verify(
        model, float_model=tmp_path / "float.onnx", runtimes=["onnxruntime"], samples=5, progress=seen.append
    )
    assert found.ok
    assert (found.samples, found.images) == (5, "procedural")
    assert [(step.stage, step.iteration) for step in seen[:2]] == [("reference", 0), ("reference", 5)]
    assert {(step.stage, step.name) for step in seen[2:]} == {("runtimes", "onnxruntime")}
    assert found.bytes == model.stat().st_size
    assert found.float_bytes == (tmp_path / "float.onnx").stat().st_size
    (row,) = found.runtimes
    assert row.problem is None
    assert (row.integer_layers, row.float_layers) == (1, 0)
    assert row.speedup is not None
    assert row.outputs[0].agreement == 1
    assert row.outputs[0].span > 0.5  # images that exercise the file


def test_the_users_images_are_used(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", np.zeros((7, 3, 8, 8), np.float32))
    found = genie_onnx.verify(model, runtimes=["onnxruntime"], data=[tmp_path / "zeros.npy"], samples=4)
    assert (found.samples, found.images) == (4, "data")
    assert found.runtimes[0].outputs[0].span == 0  # all scores are 0


def test_a_fixed_batch_is_kept(tmp_path: Path) -> None:
    onnx.save(qdq_net(batch="4"), tmp_path / "four.onnx")
    found = genie_onnx.verify(tmp_path / "four.onnx", runtimes=["onnxruntime"], samples=11)
    assert found.ok
    assert found.samples == 8
    with pytest.raises(ConfigError, match="takes 4 samples at a time, and there are 3"):
        genie_onnx.verify(tmp_path / "four.onnx", runtimes=["onnxruntime"], samples=3)


def test_an_open_size_is_asked_for(tmp_path: Path) -> None:
    onnx.save(qdq_net(size="S"), tmp_path / "open.onnx")
    with pytest.raises(ModelError, match="--input-size HxW"):
        genie_onnx.verify(tmp_path / "open.onnx", runtimes=["onnxruntime"])
    assert genie_onnx.verify(tmp_path / "open.onnx", runtimes=["onnxruntime"], samples=1, input_size=(6, 9)).ok


def test_the_default_is_what_is_installed(model: Path) -> None:
    found = genie_onnx.verify(model, samples=1, seconds=0.01)  # none gets anywhere
    names = [row.runtime for row in found.runtimes]
    assert "onnxruntime" in names
    assert MISSING not in names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--with", "onnxruntime,ncnn"], "there is no runtime 'ncnn': known are onnxruntime, openvino, tvm"),
        (["--with", MISSING], f"{MISSING} is not installed for {sys.executable}: pip install"),
        (["--python", f"{MISSING}={sys.executable}"], f"{MISSING} is not installed for"),
        (["--python", "rknn"], "'rknn' is not RUNTIME=PATH"),
    ],
)
def test_what_cannot_be_asked_for(arguments: list[str], said: str, model: Path) -> None:
    result = call(model, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_the_table(model: Path) -> None:
    result = call(model, "--with", "onnxruntime", "--python", f"onnxruntime={sys.executable}", "--samples", 3)
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("onnxruntime")]
    assert row.split()[2:] == ["ok", "100.0", "%", "0", "/", "0", "%", "1", "of", "1", row.split()[-1]]
    assert "on 3 procedural images" in result.stdout


def test_a_runtime_that_fails_is_a_row_and_exit_code_1(model: Path) -> None:
    result = call(model, "--with", "onnxruntime", "--seconds", 0.01, "-q", "--json")
    assert result.exit_code == 1
    assert result.stderr == "error: 1 of 1 runtimes cannot use the file: onnxruntime\n"
    found = json.loads(result.stdout)
    assert found["ok"] is False
    assert found["runtimes"][0]["problem"] == "its process had to start when 0.01 s were over"
    table = call(model, "--with", "onnxruntime", "--seconds", 0.01, "-q").stdout
    assert "onnxruntime  fails" in table
