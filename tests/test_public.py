"""The public names: all there, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import genie_onnx

# Every public name, and of functions and classes how they are called. What changes here is a change for users: CHANGELOG.md
# says so, and where something only has another name, the old one goes on working for a release (genie_onnx.spellings).
STORED = Path(__file__).with_name("public_api.json")


def signatures() -> dict[str, list[str]]:
    """Return the parameters of every public name, with their defaults; none for what is not called."""
    found: dict[str, list[str]] = {}
    for name in genie_onnx.__all__:
        named = getattr(genie_onnx, name)
        called = inspect.isfunction(named) or (inspect.isclass(named) and not issubclass(named, Exception))
        found[name] = [
            str(p).partition(":")[0] if p.default is p.empty else f"{p.name}={_text(p.default)}"
            for p in (inspect.signature(named).parameters.values() if called else ())
        ]
    return found


def _text(default: object) -> str:
    if inspect.isfunction(default):
        return "a function"
    return str(default) if default is None or isinstance(default, str | int | float | bool | tuple) else type(default).__name__


def test_the_public_interface_is_the_one_that_is_stored() -> None:
    assert signatures() == json.loads(STORED.read_text(encoding="utf-8"))


def test_every_public_name_is_there() -> None:
    for name in genie_onnx.__all__:
        assert getattr(genie_onnx, name) is not None
    assert sorted(genie_onnx._HOME_OF) == sorted(genie_onnx.__all__)


def test_help_and_option_errors_do_without_torch() -> None:
    script = "import sys, genie_onnx_cli.main, genie_onnx.config; sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
