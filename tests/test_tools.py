"""The table of tools: its rows hold together, the documentation shows them, and the command line speaks of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from genie_onnx_cli.main import main
from small_bn_net import small_bn_net

from genie_onnx import TARGETS, TOOLS, Tool, advice, unfit_for_portable

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tools") / "net.onnx"
    onnx.save(small_bn_net(), path)
    return path


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_a_row_holds_together(tool: Tool) -> None:
    assert tool.target is None or tool.target in TARGETS
    assert bool(tool.install) == bool(tool.package)
    assert tool.target is not None or tool.lost  # why nothing is for it
    assert tool.codes == "not seen" or (tool.version and re.fullmatch(r"20\d\d-\d\d", tool.date) and tool.how)
    assert re.fullmatch(r"(20\d\d-\d\d)?", tool.date)
    if "genie-onnx[" in tool.install:
        extras = (ROOT / "setup.cfg").read_text(encoding="utf-8")
        assert f"\n{tool.name} =\n" in extras


def test_every_target_that_was_verified_has_a_tool() -> None:
    named = {tool.target for tool in TOOLS.values() if tool.version}
    assert {name for name, row in TARGETS.items() if row.verified} - named <= {"onnxruntime", "int4"}


def test_the_page_has_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "extension"))
    import tool_rows

    page = tool_rows.PAGE.read_text(encoding="utf-8")
    assert page == tool_rows.with_table(page)
    assert page.count("\n| aimet |") == 1


@pytest.mark.parametrize(
    ("tool", "target", "bits", "said"),
    [
        ("onnx2tf", "portable", 4, "for onnx2tf use --target litert, not portable: it converts without a word"),
        ("onnx2tf", "portable", 8, "for onnx2tf use --target litert, not portable"),
        ("mnn", "opencv", 4, "for mnn use --target encodings --format mnn, not opencv"),
        ("quantizeml", "portable", 4, "no target is for quantizeml: 8 bits only"),
        ("onnxruntime", "portable", 4, None),
        ("onnxruntime", "onnxruntime", 4, None),
        ("opencv", "opencv", 4, None),
    ],
)
def test_advice(tool: str, target: str, bits: int, said: str | None) -> None:
    found = advice(TOOLS[tool], target, bits)
    assert found is None if said is None else str(found).startswith(said)
    assert bits < 8 or ":" not in str(found) or tool == "quantizeml"  # a reason that holds below 8 bits alone


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--target", "onnx2tf"], 2, "onnx2tf is a tool, not a target: for it use --target litert"),
        (["--target", "AIMET"], 2, "aimet is a tool, not a target: for it use --target encodings --format aimet"),
        (["--target", "tpu-mlir"], 2, "tpu-mlir is a tool, not a target: none is for it"),
        (["--target", "nothing"], 2, "'nothing' is not one of"),
        (["--for", "nothing"], 2, "'nothing' is not one of"),
        (["--format", "aimet"], 2, "--target portable is none: encodings is"),
        (["--for", "mnn", "--target", "iree"], 0, "note: for mnn use --target encodings --format mnn, not iree"),
        (["--for", "onnx2tf", "--target", "portable"], 0, "wrong numbers"),
        (["--for", "opencv"], 0, ""),
        (["--opset", "12"], 2, "needs opset 13 or later, not 12 (--opset)"),
    ],
)
def test_a_tool_named_on_the_command_line(model: Path, options: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(main, ["quantize", str(model), "--dry-run", "--samples", "8", *options])
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    assert said in result.output
    if not code and options[:2] == ["--for", "opencv"]:
        assert '"name": "opencv"' in result.output
        assert "note: for" not in result.output


def test_inspect_says_what_low_bits_are_not_for() -> None:
    model = ROOT / "examples" / "digits.onnx"
    said = "so not for " + ", ".join(unfit_for_portable())
    assert said in CliRunner().invoke(main, ["inspect", str(model)]).output.replace("\n", "")
    for options in (["--abits", "8"], ["--target", "opencv"]):
        assert "so not for" not in CliRunner().invoke(main, ["inspect", str(model), *options]).output


def test_doctor_prints_what_reads_our_files() -> None:
    text = CliRunner().invoke(main, ["doctor", "--targets"]).output
    rows = json.loads(CliRunner().invoke(main, ["doctor", "--targets", "--json"]).output)
    assert [row["name"] for row in rows] == list(TOOLS)
    assert next(row["installed"] for row in rows if row["name"] == "onnxruntime")
    for tool in TOOLS.values():
        assert tool.install in text
