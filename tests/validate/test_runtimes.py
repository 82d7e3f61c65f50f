"""Files in other runtimes: what a child process answers, whatever becomes of it, and what is made of the answer."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from qdq_net import float_net, qdq_net

from genie_onnx.errors import ConfigError
from genie_onnx.validate import Session
from genie_onnx.validate.runtimes import LIMIT, RUNTIMES, Answer, Runtime, ask, is_installed, judge
from genie_onnx.validate.runtimes.finding import layers

DRIVERS = Path(sys.modules[ask.__module__].__file__ or "").parent
X = np.random.default_rng(1).normal(size=(3, 2, 3, 8, 8)).astype(np.float32)  # three batches of two

DRIVER = """
import os, sys, time
import numpy as np

def version():
    return "1.0"

class Model:
    def __init__(self, path, shapes):
        assert shapes == {"x": (2, 3, 8, 8)}
        self.path = path
        LOAD
    def __call__(self, feeds):
        RUN
        return [feeds["x"].sum((2, 3))]
    def operators(self, feeds):
        return {"Conv": 3}
"""


def fake(folder: Path, load: str = "pass", run: str = "pass") -> Runtime:
    """A runtime that sums its input over the image, and does `load` and `run` before."""
    driver = folder / "driver.py"
    driver.write_text(DRIVER.replace("LOAD", load).replace("RUN", run))
    return Runtime(name="fake", driver=driver, modules=("json",), install="nothing to install")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(qdq_net(), path)
    return path


def test_onnxruntime_answers(model: Path, tmp_path: Path) -> None:
    floats = tmp_path / "float.onnx"
    onnx.save(float_net(), floats)
    answer = ask(RUNTIMES["onnxruntime"], model, {"x": X}, float_model=floats, seconds=60)
    assert answer.problem is None
    assert layers(answer.operators) == (1, 0)
    assert answer.milliseconds is not None
    assert answer.float_milliseconds is not None
    session = Session(model)
    np.testing.assert_array_equal(answer.outputs[0], np.stack([session({"x": batch})["y"] for batch in X]))


@pytest.mark.parametrize("name", ["openvino", "tvm", "iree"])
def test_an_installed_runtime_agrees(name: str, model: Path) -> None:
    if not is_installed(RUNTIMES[name]):
        pytest.skip(f"{name} is not installed")
    answer = ask(RUNTIMES[name], model, {"x": X}, seconds=120)
    session = Session(model, optimise=False)
    finding = judge(name, answer, {"y": np.stack([session({"x": batch})["y"] for batch in X])})
    assert finding.problem is None
    assert finding.outputs[0].mean_share < LIMIT / 10
    if name == "openvino":
        assert (finding.integer_layers, finding.float_layers) == (1, 0)


@pytest.mark.parametrize(
    ("load", "run", "said"),
    [
        ("raise ValueError('no kernel\\nfor this')", "pass", "cannot load the file: no kernel"),
        ("pass", "raise KeyError", "cannot run the file: KeyError"),
        (
            "raise ValueError('Traceback (most recent call last):\\n  here\\nwrong type')",
            "pass",
            "cannot load the file: wrong type",
        ),
        (
            "print('free(): invalid pointer', flush=True); os.abort()",
            "pass",
            "(Aborted) when it was to load the file: free(): inv",
        ),
        ("pass", "os._exit(3)", "its process died (exit code 3) when it was to run the file"),
        ("sys.exit(0)", "pass", "its process ended when it was to load the file"),
    ],
    ids=["raises", "raises without words", "traceback as text", "aborts", "exits", "exits as if done"],
)
def test_what_becomes_of_a_child_is_the_answer(load: str, run: str, said: str, model: Path, tmp_path: Path) -> None:
    answer = ask(fake(tmp_path, load, run), model, {"x": X}, seconds=60)
    assert answer.problem is not None
    assert said in answer.problem
    assert "\n" not in answer.problem
    assert (answer.version, answer.outputs, answer.milliseconds) == ("1.0", (), None)


def test_the_last_messages_of_a_child_are_kept(model: Path, tmp_path: Path) -> None:
    driver = fake(tmp_path, "[print('line', k) for k in range(30)]", "raise ValueError('node 7')")
    answer = ask(driver, model, {"x": X}, seconds=60)
    assert (len(answer.messages), answer.messages[-1]) == (20, "line 29")
    assert judge("fake", answer, {}).messages == answer.messages
    assert judge("fake", ask(fake(tmp_path, "print('hello')"), model, {"x": X}, seconds=60), {"y": X.sum((3, 4))}).messages == ()


def test_the_python_of_a_runtime_may_be_named_from_here(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = Path(sys.executable)
    monkeypatch.chdir(python.parent.parent)
    answer = ask(RUNTIMES["onnxruntime"], model, {"x": X}, python=f"{python.parent.name}/{python.name}", seconds=60)
    assert answer.problem is None


def test_a_child_that_does_not_come_back_is_ended(model: Path, tmp_path: Path) -> None:
    answer = ask(fake(tmp_path, run="time.sleep(60)"), model, {"x": X}, seconds=3)
    assert answer.problem == "its process had to run the file when 3 s were over"


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="the system has no alarm signal")
def test_a_child_outlives_no_parent(tmp_path: Path) -> None:
    job = {"model": "m.onnx", "float_model": None, "rounds": 0, "seconds": 1}
    (tmp_path / "job.json").write_text(json.dumps(job))
    np.savez(tmp_path / "inputs.npz", x=X)
    driver = fake(tmp_path, load="time.sleep(60)").driver
    done = subprocess.run([sys.executable, DRIVERS / "worker.py", driver, tmp_path], check=False, timeout=30)
    assert done.returncode == -signal.SIGALRM


def test_what_was_computed_before_a_crash_is_kept(model: Path, tmp_path: Path) -> None:
    runtime = fake(tmp_path, load="if path.endswith('float.onnx'): os.abort()")
    answer = ask(runtime, model, {"x": X}, float_model=tmp_path / "float.onnx", seconds=60)
    np.testing.assert_array_equal(answer.outputs[0], X.sum((3, 4)))
    assert answer.operators == {"Conv": 3}
    assert answer.problem is not None
    assert "load the float model" in answer.problem


def test_a_driver_that_cannot_be_imported(model: Path, tmp_path: Path) -> None:
    runtime = Runtime(name="none", driver=tmp_path / "driver.py", modules=(), install="")
    runtime.driver.write_text("import no_such_runtime")
    answer = ask(runtime, model, {"x": X}, seconds=60)
    assert answer.problem == "cannot be imported: No module named 'no_such_runtime'"


def answered(*outputs: np.ndarray, problem: str | None = None) -> Answer:
    return Answer(version="1", problem=problem, outputs=outputs, operators={}, milliseconds=2.0, float_milliseconds=3.0)


def test_errors_are_shares_of_the_range() -> None:
    reference = np.float32([[[0, 1, 8]], [[-2, 0, 1]]])  # two batches of one, three classes
    found = reference + np.float32([[[0, 0, 0.06]], [[0, 0, 0]]])
    finding = judge("fake", answered(found), {"y": reference})
    (output,) = finding.outputs
    assert output.span == 10
    assert output.max_share == pytest.approx(0.006, rel=1e-5)
    assert output.mean_share == pytest.approx(0.001, rel=1e-5)
    assert output.agreement == 1
    assert finding.problem is None
    assert finding.speedup == 1.5


def test_too_large_an_error_is_a_problem() -> None:
    reference = np.float32([[[0, 10]], [[10, 0]]])
    finding = judge("fake", answered(reference, reference[:, :, ::-1] * 2), {"a": reference, "b": reference})
    assert finding.problem == "output 'b' is off by 150 % of its range on average, which is more than 1 %"
    assert [output.agreement for output in finding.outputs] == [1, 0]
    assert finding.worst == finding.outputs[1]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (np.full((1, 2, 3), np.nan, np.float32), "off by nan %"),
        (np.ones((1, 2, 4), np.float32), "its outputs are [(2, 4)], those of the file [(2, 3)]"),
    ],
)
def test_nonsense_is_a_problem(found: np.ndarray, said: str) -> None:
    finding = judge("fake", answered(found), {"y": np.arange(6, dtype=np.float32).reshape(1, 2, 3)})
    assert said in str(finding.problem)


def test_a_constant_output_has_to_be_exact() -> None:
    zero = np.zeros((1, 1, 3), np.float32)
    assert judge("fake", answered(zero), {"y": zero}).problem is None
    assert judge("fake", answered(zero + 1), {"y": zero}).problem is not None


@pytest.mark.parametrize(
    ("operators", "counts"),
    [
        ({"QLinearConv": 19, "QGemm": 1, "QLinearAdd": 9, "QuantizeLinear": 1}, (20, 0)),
        ({"FusedConv": 2, "QLinearConv": 1, "MatMul": 3, "Add": 4}, (1, 5)),
        ({"Convolution u8": 5, "Convolution f32": 1, "FullyConnected i8": 1, "Reorder u8": 7}, (6, 1)),
        ({"Conv2D fixed": 5, "DepthwiseConv2D fixed": 2, "Dense fixed": 1, "Activation fixed": 9}, (8, 0)),
        ({"relax.nn.conv2d float32": 5, "relax.matmul int32": 1, "relax.add float32": 2}, (1, 5)),
    ],
)
def test_layers_are_counted_by_what_they_compute_in(operators: dict[str, int], counts: tuple[int, int]) -> None:
    assert layers(operators) == counts


def test_what_is_installed() -> None:
    assert is_installed(RUNTIMES["onnxruntime"])
    for modules in (("json", "no_such_module"), ("no_such_module.inner",)):
        assert not is_installed(Runtime(name="none", driver=Path(), modules=modules, install=""))
    with pytest.raises(ConfigError, match="the Python for onnxruntime, '/no/python', cannot be run"):
        is_installed(RUNTIMES["onnxruntime"], "/no/python")


@pytest.mark.parametrize("script", ["worker.py", *sorted(row.driver.name for row in RUNTIMES.values())])
def test_a_child_needs_no_genie_onnx(script: str) -> None:
    tree = ast.parse((DRIVERS / script).read_text(encoding="utf-8"))
    imports = [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imports += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert [name for name in imports if name.startswith(("genie_onnx", "."))] == []
