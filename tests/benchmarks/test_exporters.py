"""benchmarks/exporters.py without its environments: limits of processes, verdicts, what is kept, and the table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest
from small_bn_net import small_bn_net

if TYPE_CHECKING:
    from exporters_process import Ended

ROOT = Path(__file__).parents[2]
MEMORY = 8 * 2**30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are limited by prlimit")


@pytest.fixture(autouse=True)
def _scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def python(folder: Path, code: str, seconds: float = 60, memory: int | None = None) -> Ended:
    from exporters_process import run

    return run([sys.executable, "-c", code], folder, "code", seconds, memory)


def test_how_a_process_ended(tmp_path: Path) -> None:
    assert str(python(tmp_path, "raise SystemExit(7)")) == "7"
    assert str(python(tmp_path, "import os; os.abort()")) == "SIGABRT"
    assert str(python(tmp_path, "import time; time.sleep(60)", seconds=0.3)).startswith("stopped after")
    assert python(tmp_path, "x = 0\nwhile x < 10**7: x += 1").cpu > 0.1


def test_memory_is_limited(tmp_path: Path) -> None:
    from exporters_build import last_line

    assert python(tmp_path, "bytearray(2**28)", memory=2**31).rc == 0
    assert python(tmp_path, "bytearray(2**32)", memory=2**31).rc == 1
    assert last_line(tmp_path / "code.err") == "MemoryError"


def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    """A child that would write a file after the limit never does."""
    late = tmp_path / "late"
    child = f"import time, pathlib; time.sleep(2); pathlib.Path({str(late)!r}).touch()"
    python(tmp_path, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])", seconds=1)
    python(tmp_path, "import time; time.sleep(2)")
    assert not late.exists()


@pytest.mark.parametrize(
    ("rc", "message", "interface", "wrong"),
    [
        (0, "", "same", ""),
        (3, "", "same", ""),
        (1, "parity fails", "same", "parity fails"),
        (-11, "", None, "no word (SIGSEGV)"),
        (None, "", None, "no word (stopped after 1 s)"),
        (0, "Traceback ... ValueError", "same", "Traceback ... ValueError"),
        (0, "", None, "no file was written"),
        (0, "", "1 inputs and outputs for 2", "interface: 1 inputs and outputs for 2"),
    ],
)
def test_what_is_wrong_with_a_run(rc: int | None, message: str, interface: str | None, wrong: str) -> None:
    from exporters_process import Ended
    from exporters_try import problem_of

    result = {} if interface is None else {"interface": interface}
    assert problem_of(Ended(rc, 1.0, 1.0, 1.0), message, result) == wrong


def test_interfaces_are_compared(tmp_path: Path) -> None:
    import exporters_look

    model = small_bn_net()
    onnx.save(model, tmp_path / "a.onnx")
    assert exporters_look.compared(str(tmp_path / "a.onnx"), str(tmp_path / "a.onnx")) == "same"
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    first.ClearField("dim_param")
    first.dim_value = 1
    onnx.save(model, tmp_path / "b.onnx")
    assert exporters_look.compared(str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")) != "same"


def test_a_dimension_below_zero_is_an_open_one(tmp_path: Path) -> None:
    import exporters_look

    for name, batch in (("a", -1), ("b", None), ("c", 2)):
        model = small_bn_net()
        dims = [batch, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])]
        model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info(model.graph.input[0].name, 1, dims))
        onnx.save(model, tmp_path / f"{name}.onnx")
    a, b, c = (str(tmp_path / f"{name}.onnx") for name in "abc")
    assert exporters_look.compared(a, b) == "same"
    assert exporters_look.compared(a, c) != "same"


def test_recipes_are_sound() -> None:
    """Names are folders and rows: each once. The script is there, every package but helpers is pinned."""
    from exporters_recipes import RECIPES

    names = [f"{recipe.name}/{net.name}" for recipe in RECIPES for net in recipe.nets]
    assert len(names) == len(set(names))
    for recipe in RECIPES:
        assert (ROOT / "benchmarks" / "exporters" / recipe.script).exists()
        assert all("==" in package for package in recipe.packages[:2])
        assert all("/" not in net.name for net in recipe.nets)


def test_the_table(tmp_path: Path) -> None:
    from exporters_table import write

    taken = {"recipe": "timm", "net": "a", "refusal": "", "status": "taken", "message": "", "inspect": "0", "quantize": "0"}
    taken |= {"wall": 9.6, "cpu": 3.2, "mb": 700.4, "integer": 5, "layers": 6, "interface": "same", "opset": 20, "ir": 10}
    results = [
        taken,
        {"recipe": "timm", "net": "b", "refusal": "", "status": "red", "message": "a | b", "inspect": "0", "quantize": "SIGSEGV"},
        {"recipe": "packaged", "net": "c", "refusal": "LSTM", "status": "refused", "message": "LSTM is not read", "inspect": "2"},
        {"recipe": "paddle2onnx", "net": "d", "refusal": "", "status": "absent", "message": "pip ended with 1"},
    ]
    write(results, tmp_path / "table.md", "a machine", waiting=3)
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "4 files: 1 taken, 1 refused rightly, 1 red, 1 not exported; 3 files were not tried yet." in table
    assert "| timm | a | 20 / 10 |  |  |  | 0 | 0 | 10 / 3 | 700 | 5 / 6 |  | same | taken |" in table
    assert "| timm/b | a \\| b |" in table
    assert "| packaged/c | LSTM | LSTM is not read |" in table
    assert "| paddle2onnx/d | pip ended with 1 |" in table


@pytest.mark.slow
def test_files_are_tried(tmp_path: Path) -> None:
    """One is taken; a damaged one is red, but refused where that is right, and its sentence is kept."""
    from exporters_recipes import Net
    from exporters_try import tried

    model, damaged = tmp_path / "net.onnx", tmp_path / "damaged.onnx"
    onnx.save(small_bn_net(), model)
    damaged.write_bytes(b"damaged")
    found = tried(model, Net("net"), tmp_path / "net", 280, MEMORY, keep=False)
    assert (found["status"], found["interface"]) == ("taken", "same"), found
    assert found["integer"] == found["layers"] > 0
    assert not list((tmp_path / "net").glob("*.onnx"))
    assert tried(damaged, Net("damaged"), tmp_path / "damaged", 280, MEMORY, keep=False)["status"] == "red"
    found = tried(damaged, Net("damaged", refusal="damaged"), tmp_path / "damaged", 280, MEMORY, keep=False)
    assert found["status"] == "refused"
    assert "not an ONNX file" in found["message"]


@pytest.mark.slow
def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    """Failures are rows; a file that is there is not exported again; what has a result is not tried again."""
    from exporters_build import file
    from exporters_process import run
    from exporters_recipes import RECIPES

    net = RECIPES[0].nets[0]
    place = tmp_path / "files" / RECIPES[0].name / net.name
    place.mkdir(parents=True)
    (place / "failure.txt").write_text("the exporter raised", encoding="utf-8")
    assert file(tmp_path, RECIPES[0], net) is None
    command = [sys.executable, ROOT / "benchmarks" / "exporters.py", tmp_path, "--table", tmp_path / "table.md"]
    command += ["--only", f"{RECIPES[0].name}/{net.name}"]
    for _ in range(2):
        assert run([str(part) for part in command], tmp_path, "run", 120).rc == 0
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["absent"]
    assert "the exporter raised" in (tmp_path / "table.md").read_text(encoding="utf-8")
