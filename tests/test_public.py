"""The public names: all there, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys

import genie_onnx


def test_every_public_name_is_there() -> None:
    for name in genie_onnx.__all__:
        assert getattr(genie_onnx, name) is not None
    assert sorted(genie_onnx._HOME_OF) == sorted(genie_onnx.__all__)


def test_help_and_option_errors_do_without_torch() -> None:
    script = "import sys, genie_onnx_cli.main, genie_onnx.config; sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
