"""The tools that read our files: which target is theirs, what arrives, how that was seen, what is lost, how to get the tool.

Plain data, one row a tool. The table of the documentation, the hints of the command line and `doctor --targets` are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

EXACT: Final = "exact"
UNSEEN: Final = "not seen"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A row. `codes`, `values` and `kernels` say what arrives of the file of `target`."""

    name: str  # as users call it
    target: str | None  # the row of TARGETS for it; None: no file of ours is read
    options: str = ""  # that belong to it
    version: str = ""  # that it was seen in; empty: not at hand
    codes: Literal["exact", "not seen"] = "not seen"  # of weights
    values: str = UNSEEN  # how what it computes compares with the file, node by node
    kernels: str = UNSEEN  # what it computes in
    how: str = "documents alone"  # that was seen
    lost: str = ""
    date: str = ""  # year and month
    not_portable: str = ""  # what becomes of the portable file there, where values have fewer than 8 bits
    package: str = ""  # its name on PyPI
    install: str = ""  # the commands that make an environment with it

    @property
    def command(self) -> str:
        """The options that make a file for it; empty where there are none."""
        return "" if self.target is None else f"--target {self.target} {self.options}".strip()


def _beside(extra: str) -> str:
    return f'python -m pip install "genie-onnx[{extra}]"'


def _own(name: str, packages: str, python: str = "python3.12") -> str:
    return f"{python} -m venv env-{name} && env-{name}/bin/python -m pip install {packages}"


_ROWS = (
    Tool(
        name="onnxruntime",
        target="portable",
        version="1.31.1",
        codes=EXACT,
        values="to float rounding; a code in thousands on the boundary",
        kernels="integer",
        how="parity of every value, in every run",
        date="2026-11",
        package="onnxruntime",
        install="python -m pip install onnxruntime",
    ),
    Tool(
        name="openvino",
        target="openvino",
        version="2026.4.1",
        codes=EXACT,
        values="to float rounding",
        kernels="integer; MatMul of two values in float",
        how="verify --with openvino",
        lost="with portable, Q/DQ between a convolution and an Add",
        date="2026-11",
        package="openvino",
        install=_beside("openvino"),
    ),
    Tool(
        name="openvino-npu",
        target=None,
        how="documents alone",
        lost="4-bit weights are compressed for matrix products alone (NNCF keeps convolutions at 8 bits)",
        date="2026-12",
    ),
    Tool(
        name="tvm",
        target="tvm",
        version="0.27.0.post1",
        codes=EXACT,
        values="to float rounding",
        kernels="float",
        how="verify --with tvm",
        date="2026-11",
        package="apache-tvm",
        install=_beside("tvm"),
    ),
    Tool(
        name="iree",
        target="iree",
        version="3.13.0",
        codes=EXACT,
        values="to float rounding",
        kernels="float",
        how="verify --with iree",
        date="2026-11",
        not_portable="its Clip on UINT8 compares codes as signed: wrong numbers",
        package="iree-base-compiler",
        install=_beside("iree"),
    ),
    Tool(
        name="rknn",
        target="rknn",
        version="2.5.0",
        codes=EXACT,
        values="to the simulator's rounding",
        kernels="integer",
        how="verify --with rknn (simulator)",
        date="2026-11",
        not_portable="an integer Clip is not understood",
        package="rknn-toolkit2",
        install=_own("rknn", 'rknn-toolkit2 "setuptools<81"'),
    ),
    Tool(
        name="qnn",
        target="qnn",
        version="2.7.0",
        codes=EXACT,
        values="to the emulator's rounding",
        kernels="integer; 4-bit weights pay in 1x1 convolutions and matrix products (Qualcomm)",
        how="verify --with qnn (HTP emulator)",
        lost="values of 16 bits: grids have 2 to 8 bits here",
        date="2026-11",
        not_portable="a Clip on codes is not taken",
        package="onnxruntime-qnn",
        install=_own("qnn", "onnxruntime onnxruntime-qnn onnx"),
    ),
    Tool(
        name="tensorrt",
        target="tensorrt",
        how="documents, and rules checked in every file",
        not_portable="zero points and INT32 biases are refused",
    ),
    Tool(name="tidl", target="tidl", how="documents, and rules checked in every file"),
    Tool(name="vitis", target="vitis", how="documents, and rules checked in every file"),
    Tool(
        name="stedgeai",
        target="stm32n6",
        how="documents, and rules checked in every file",
        lost="values below 8 bits",
        date="2026-12",
    ),
    Tool(
        name="opencv",
        target="opencv",
        version="4.14.0, 5.0.0",
        codes=EXACT,
        values="within a code",
        kernels="float",
        how="benchmarks/TARGETS.md",
        lost="speed: nothing is computed in integers; the new engine of 5.0 needs --target encodings",
        date="2026-12",
        not_portable="it ends with an error",
        package="opencv-python-headless",
        install=_beside("opencv"),
    ),
    Tool(
        name="aimet",
        target="encodings",
        options="--format aimet",
        version="2.42.0",
        codes=EXACT,
        values="exact on the example, 98 to 100 % of classes on ResNet-20; against the file with float biases",
        kernels="simulated; Qualcomm's converters read the same JSON (not at hand)",
        how="all encodings read back; benchmarks/TARGETS.md",
        lost="biases are float; one grid on both sides of AveragePool, Relu and Resize",
        date="2026-12",
        not_portable="it refuses a Clip between Q and DQ",
        package="aimet-onnx",
        install=_own("aimet", "aimet-onnx==2.42.0", "python3.11"),
    ),
    Tool(
        name="mnn",
        target="encodings",
        options="--format mnn",
        version="3.6.1",
        codes=EXACT,
        values="a convolution alone bit for bit; classes of ResNet-20: 100 % at W8A8, 95 % at W4A4",
        kernels="integer convolutions between rounded values, else float",
        how="scales read back from its file; benchmarks/TARGETS.md",
        lost="rounding of values that no convolution reads; 8-bit values behind Add and Relu stay float; weights take a byte "
        "each; without --compressionParamsFile every channel gets a new grid",
        date="2026-12",
        not_portable="only a float model with NAME.mnn.json keeps the codes",
        package="MNN",
        install=_own("mnn", "MNN==3.6.1"),
    ),
    Tool(
        name="qonnx",
        target="qonnx",
        version="1.0.0",
        codes=EXACT,
        values=EXACT,
        kernels="float (its executor)",
        how="verify --with qonnx",
        date="2026-12",
        not_portable="QCDQToQuant multiplies by scales along the wrong axis: an error, or other numbers",
        package="qonnx",
        install=_own("qonnx", "qonnx==1.0.0"),
    ),
    Tool(
        name="hls4ml",
        target="hls4ml",
        version="1.3.0",
        codes=EXACT,
        values=EXACT,
        kernels="fixed point (C++)",
        how="verify --with hls4ml",
        date="2026-12",
        not_portable="it reads Quant nodes alone",
        package="hls4ml",
        install=_own("hls4ml", "hls4ml==1.3.0 qonnx==1.0.0"),
    ),
    Tool(
        name="finn",
        target="qonnx",
        how="the streamlining steps of qonnx alone; FINN's build needs its Docker image",
        date="2026-12",
        not_portable="it reads Quant nodes alone",
    ),
    Tool(
        name="onnx2tf",
        target="litert",
        version="2.6.9",
        how="a portable file converted, and run by LiteRT",
        lost="everything: --target litert writes the .tflite file itself, so it is not needed",
        date="2026-12",
        not_portable="it converts without a word, and gives wrong numbers: Clip keeps only 0 and the largest code",
        package="onnx2tf",
        install=_own("onnx2tf", "onnx2tf==2.6.9"),
    ),
    Tool(
        name="litert",
        target="litert",
        version="2.3.0",
        codes=EXACT,
        values="same classes; its built-in kernels, as on microcontrollers, move codes (ResNet-20 W4A4: 58 of 60 agree)",
        kernels="integer",
        how="verify --with litert; benchmarks/TARGETS.md",
        date="2026-12",
        not_portable="it reads .tflite alone",
        package="ai-edge-litert",
        install=_own("litert", "ai-edge-litert==2.3.0"),
    ),
    Tool(
        name="vela",
        target="litert",
        version="5.2.0",
        kernels="integer, on the NPU: 12 of 12 operators of the example, 38 of 38 of ResNet-20",
        how="verify --with vela: its own list of operators, cycles and memory; nothing is run",
        lost="it gets the .tflite file that LiteRT ran; what it packs for the NPU was not read back",
        date="2026-12",
        not_portable="it reads .tflite alone",
        package="ethos-u-vela",
        install=_own("vela", "ethos-u-vela==5.2.0"),
    ),
    Tool(name="hailo", target="encodings", lost="it calibrates by itself unless its script sets the ranges of the JSON file"),
    Tool(name="ncnn", target="encodings", lost="its tools are not on PyPI; it calibrates by itself unless given a table"),
    Tool(
        name="quantizeml",
        target=None,
        version="1.2.5",
        how="run once",
        lost="8 bits only, of its own calibration; a QDQ file is refused",
        date="2026-11",
    ),
    Tool(name="tpu-mlir", target=None, version="1.30.2", how="its wheel does not start", lost="not known", date="2026-11"),
    Tool(name="coremltools", target=None, version="9.0", how="looked at", lost="it reads no ONNX", date="2026-11"),
    Tool(name="executorch", target=None, version="1.5.1", how="looked at", lost="it reads no ONNX", date="2026-11"),
)

TOOLS: dict[str, Tool] = {row.name: row for row in _ROWS}


def advice(tool: Tool, target: str, value_bits: int) -> str | None:
    """Say what to do instead, where a file of `target` with values of `value_bits` is not what `tool` takes; None where it is."""
    if tool.target is None:
        return f"no target is for {tool.name}: {tool.lost}"
    if tool.target == target or {tool.target, target} == {"portable", "onnxruntime"}:
        return None
    why = f": {tool.not_portable}" if tool.not_portable and target in ("portable", "onnxruntime") and value_bits < 8 else ""
    return f"for {tool.name} use {tool.command}, not {target}{why}"


def unfit_for_portable() -> list[str]:
    """Return the names of the tools in which a portable file with values below 8 bits ends in an error or in wrong numbers."""
    return sorted(tool.name for tool in TOOLS.values() if tool.not_portable)
