"""The runtimes that a file can be tried in: plain data, one row a runtime, and which of them are installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genie_onnx.errors import ConfigError

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A row: `driver` is what worker.py loads."""

    name: str
    driver: Path
    modules: tuple[str, ...]  # that have to be there
    install: str  # what to do where they are not
    timed: bool = True  # an emulator's times say nothing
    takes: str = ""  # what to tell who waits for it
    reads: Literal["onnx", "tflite"] = "onnx"  # tflite: the file beside it, of the same numbers


_OWN_PYTHON = "it wants old versions of other packages, so give it a Python of its own and name that with --python {name}=PATH"

_ROWS = (
    Runtime(
        name="onnxruntime",
        driver=HERE / "onnxruntime_cpu.py",
        modules=("onnxruntime",),
        install="pip install onnxruntime",
    ),
    Runtime(
        name="openvino",
        driver=HERE / "openvino_cpu.py",
        modules=("openvino",),
        install='pip install "genie-onnx[openvino]"',
    ),
    Runtime(
        name="tvm",
        driver=HERE / "tvm_cpu.py",
        modules=("tvm", "onnx"),
        install='pip install "genie-onnx[tvm]"',
    ),
    Runtime(
        name="iree",
        driver=HERE / "iree_cpu.py",
        modules=("iree.compiler", "iree.runtime", "onnx"),
        install='pip install "genie-onnx[iree]"',
    ),
    Runtime(
        name="rknn",
        driver=HERE / "rknn_simulator.py",
        modules=("rknn",),
        install='pip install rknn-toolkit2 "setuptools<81"; ' + _OWN_PYTHON.format(name="rknn"),
        timed=False,
    ),
    Runtime(
        name="qnn",
        driver=HERE / "qnn_htp.py",
        modules=("onnxruntime_qnn", "onnxruntime", "onnx"),
        install="pip install onnxruntime onnxruntime-qnn onnx; " + _OWN_PYTHON.format(name="qnn"),
        timed=False,
    ),
    Runtime(
        name="qonnx",
        driver=HERE / "qonnx_executor.py",
        modules=("qonnx", "onnx"),
        install="pip install qonnx==1.0.0; " + _OWN_PYTHON.format(name="qonnx"),
        timed=False,
    ),
    Runtime(
        name="hls4ml",
        driver=HERE / "hls4ml_cpp.py",
        modules=("hls4ml", "qonnx", "onnx"),
        install="pip install hls4ml==1.3.0 qonnx==1.0.0, and g++; " + _OWN_PYTHON.format(name="hls4ml"),
        timed=False,
        takes="g++ compiles for minutes",
    ),
    Runtime(
        name="litert",
        driver=HERE / "litert_interpreter.py",
        modules=("ai_edge_litert",),
        install="pip install ai-edge-litert==2.3.0; " + _OWN_PYTHON.format(name="litert"),
        reads="tflite",
    ),
    Runtime(
        name="vela",
        driver=HERE / "vela_compiler.py",
        modules=("ethosu.vela",),
        install="pip install ethos-u-vela==5.2.0; " + _OWN_PYTHON.format(name="vela"),
        timed=False,
        reads="tflite",
    ),
)

RUNTIMES: dict[str, Runtime] = {row.name: row for row in _ROWS}

_FIND = "import importlib.util as u, sys; sys.exit(any(u.find_spec(name) is None for name in sys.argv[1:]))"


def is_installed(runtime: Runtime, python: str = sys.executable) -> bool:
    """Return whether the interpreter `python` finds the modules of `runtime`; none is imported.

    Raises ConfigError where there is no such interpreter.
    """
    try:
        found = subprocess.run([python, "-c", _FIND, *runtime.modules], capture_output=True, check=False)  # noqa: S603
    except OSError as error:
        raise ConfigError(f"the Python for {runtime.name}, {python!r}, cannot be run: {error.strerror}") from error
    return found.returncode == 0
