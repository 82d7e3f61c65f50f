"""What a shell completes, asked in the way that its script asks; and in the shells that are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from genie_onnx_cli.main import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.onnx"


def completions(*words: str) -> list[str]:
    """Return "type,value" of what bash would be offered for the last of `words`."""
    line = " ".join(["genie-onnx", *words])
    env = {"_GENIE_ONNX_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    result = CliRunner().invoke(main, [], env=env, prog_name="genie-onnx")
    assert result.exit_code == 0, result.output
    return result.stdout.split()


def test_commands_options_and_values() -> None:
    assert "plain,quantize" in completions("qu")
    assert "plain,--wbits" in completions("quantize", "model.onnx", "--wb")
    assert completions("quantize", "model.onnx", "--target", "open") == ["plain,openvino", "plain,opencv"]
    assert completions("quantize", "model.onnx", "--device", "cu") == ["plain,cuda"]
    assert completions("quantize", "mod") == ["file,mod"]
    assert completions("status", "run") == ["dir,run"]
    assert completions("completion", "z") == ["plain,zsh"]


def test_nodes_of_the_model_on_the_line() -> None:
    kinds = completions("quantize", str(EXAMPLE), "--keep-float", "")
    assert "plain,Conv" in kinds
    layers = completions("quantize", str(EXAMPLE), "--bits", "")
    assert layers
    assert all(layer.endswith("=8/8") for layer in layers)
    assert {layer.removesuffix("=8/8") for layer in layers} < set(kinds)
    assert completions("quantize", "nothing.onnx", "--bits", "") == []


def test_what_is_named_on_the_line_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named_metric.py").write_text("raise SystemExit('it was run')")
    monkeypatch.chdir(tmp_path)
    assert completions("evaluate", "model.onnx", "--metric", "named_metric:x", "--lim") == ["plain,--limit"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_GENIE_ONNX_COMPLETE={shell}_complete" in result.stdout
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed: its script was not run")
    assert subprocess.run([shell, "-n"], input=result.stdout, text=True, check=False).returncode == 0


def test_bash_asks_and_is_answered(tmp_path: Path) -> None:
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    program = tmp_path / "genie-onnx"
    program.write_text(f"#!{sys.executable}\nfrom genie_onnx_cli.main import main\nmain(prog_name='genie-onnx')\n")
    program.chmod(0o755)
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    asked = 'COMP_WORDS=(genie-onnx targets o); COMP_CWORD=2; _genie_onnx_completion genie-onnx; echo "${COMPREPLY[@]}"'
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{asked}"], env=env, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["onnxruntime", "openvino", "opencv"]


def test_completing_does_without_torch() -> None:
    script = (
        "import sys; from genie_onnx_cli.main import main\ntry: main(prog_name='genie-onnx')\n"
        "except SystemExit: pass\nsys.exit('torch' in sys.modules)"
    )
    line = f"genie-onnx quantize {EXAMPLE} --bits "
    env = {**os.environ, "_GENIE_ONNX_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "4"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"=8/8" in done.stdout


def test_versions_without_torch() -> None:
    script = (
        "import sys; from genie_onnx_cli.main import main\ntry: main(['--version'])\n"
        "except SystemExit: pass\nsys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, *others = done.stdout.splitlines()
    assert first.startswith("genie-onnx ")
    assert {line.split()[0] for line in others} >= {"python", "torch", "onnx", "onnx-ir", "onnxruntime", "numpy", "numba"}
