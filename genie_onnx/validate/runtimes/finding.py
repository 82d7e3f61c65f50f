"""What a runtime made of a file, held against the file computed node by node.

share of the range = |y - reference| / (max reference - min reference), each output for itself
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from genie_onnx.validate.compare import logits
from genie_onnx.validate.kernels import FLOAT_KERNELS
from genie_onnx.validate.runtimes.child import Answer
from genie_onnx.validate.session import Array

# Of the mean error as a share of the range: codes that fall on the other side of a rounding boundary cost about a tenth of
# this in 8-bit networks; an operator computed on other numbers than the file's costs ten times as much.
LIMIT = 0.01

# Convolutions and matrix products: in onnxruntime an operator's name says what it computes in; elsewhere its type does.
_INTEGER_KERNELS = ("QLinearConv", "QGemm", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat")
_RELAX = ("nn.conv1d", "nn.conv2d", "nn.conv3d", "nn.conv1d_transpose", "nn.conv2d_transpose", "matmul")
_HLS4ML = tuple(f"{kind}Conv{rank}D" for kind in ("", "Depthwise", "Pointwise") for rank in (1, 2))
_LITERT = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_ONNX = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
_LAYERS = (*_ONNX, *(f"relax.{name}" for name in _RELAX), *_HLS4ML, "Dense", *_LITERT)
_INTEGER_TYPES = ("u8", "i8", "i32", "uint8", "int8", "int32", "fixed")  # fixed: integers times a power of two


@dataclass(frozen=True, kw_only=True)
class OutputError:
    """One output against the reference. `agreement` is that of the largest class, None where the output has no classes."""

    name: str
    max_error: float
    mean_error: float
    span: float  # the reference's largest value less its smallest
    agreement: float | None

    @property
    def max_share(self) -> float:
        """The largest error as a share of the range."""
        return _share(self.max_error, self.span)

    @property
    def mean_share(self) -> float:
        """The mean error as a share of the range."""
        return _share(self.mean_error, self.span)


@dataclass(frozen=True, kw_only=True)
class MovedCodes:
    """Codes of one value inside, against the reference: how many there are, how many differ, and by how much at most."""

    value: str
    count: int
    moved: int
    largest: int


@dataclass(frozen=True, kw_only=True)
class RuntimeFinding:
    """A runtime's row; `problem` is None exactly when it loads the file and computes what the file says."""

    runtime: str
    version: str | None
    problem: str | None
    outputs: tuple[OutputError, ...] = ()
    integer_layers: int | None = None  # convolutions and matrix products with weights, by the type they compute in ...
    float_layers: int | None = None  # ... None where the runtime does not tell
    milliseconds: float | None = None  # one batch, one thread, shortest of several runs; None in an emulator
    float_milliseconds: float | None = None  # of the float model, in turns with the file
    messages: tuple[str, ...] = ()  # the last lines it wrote to the terminal, where there is a problem
    float_problem: str | None = None  # why the float model has no time, though the file has
    codes: tuple[MovedCodes, ...] = ()  # of values inside, where the runtime shows them
    notes: tuple[str, ...] = ()  # what it says of its own

    @property
    def speedup(self) -> float | None:
        """How many times as fast as the float model."""
        if self.milliseconds is None or self.float_milliseconds is None:
            return None
        return self.float_milliseconds / self.milliseconds

    @property
    def worst(self) -> OutputError | None:
        """The output with the largest mean error as a share of its range."""
        return max(self.outputs, key=lambda output: np.nan_to_num(output.mean_share, nan=np.inf), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        outputs = [{**asdict(o), "max_share": o.max_share, "mean_share": o.mean_share} for o in self.outputs]
        return {**asdict(self), "outputs": outputs, "speedup": self.speedup}


def judge(
    runtime: str,
    answer: Answer,
    reference: Mapping[str, Array],
    weighted: int | None = None,
    codes: Mapping[str, Array] | None = None,
) -> RuntimeFinding:
    """Hold `answer` against `reference`, [batches, n, ...] by output name in the file's order.

    `weighted` is how many layers with weights the file has, where it says so: products of two computed values are none. `codes`
    has those of the file for what the runtime shows inside, by name.
    """
    outputs: tuple[OutputError, ...] = ()
    problem = answer.problem
    if answer.outputs:
        shapes = _shape_problem(answer.outputs, reference)
        if shapes is None:
            pairs = zip(reference.items(), answer.outputs, strict=True)
            outputs = tuple(_compare(name, expected, found) for (name, expected), found in pairs)
        problem = problem or shapes or next((text for text in map(_problem, outputs) if text), None)
    integer, floating = layers(answer.operators) if answer.operators else (None, None)
    if integer is not None and weighted is not None:
        floating = max(weighted - integer, 0)
    return RuntimeFinding(
        runtime=runtime,
        version=answer.version,
        problem=problem,
        outputs=outputs,
        integer_layers=integer,
        float_layers=floating,
        milliseconds=answer.milliseconds,
        float_milliseconds=answer.float_milliseconds,
        messages=answer.messages if problem else (),
        float_problem=answer.float_problem,
        codes=tuple(_moved(name, expected, answer.codes[name]) for name, expected in (codes or {}).items()),
        notes=answer.notes,
    )


def layers(operators: Mapping[str, int]) -> tuple[int, int]:
    """Return how many convolutions and matrix products compute in integers, and how many in floating point.

    `operators` are those of worker.py: "QLinearConv" (onnxruntime, whose integer operators have names of their own),
    "Convolution u8" (OpenVINO) or "relax.nn.conv2d float32" (TVM).
    """
    integer = floating = 0
    for operator, count in operators.items():
        name, _, computed_in = operator.partition(" ")
        if name in _INTEGER_KERNELS or (name in _LAYERS and computed_in in _INTEGER_TYPES):
            integer += count
        elif name in _LAYERS or name in FLOAT_KERNELS:
            floating += count
    return integer, floating


def _moved(name: str, reference: Array, found: Array) -> MovedCodes:
    steps = np.abs(found.astype(np.int64) - reference.astype(np.int64))
    return MovedCodes(value=name, count=steps.size, moved=int((steps > 0).sum()), largest=int(steps.max(initial=0)))


def _compare(name: str, reference: Array, found: Array) -> OutputError:
    error = np.abs(found.astype(np.float64) - reference.astype(np.float64))
    a, b = (logits(array.reshape(-1, *array.shape[2:])) if array.ndim > 2 else None for array in (reference, found))
    return OutputError(
        name=name,
        max_error=float(error.max(initial=0)),
        mean_error=float(error.mean()),
        span=float(np.ptp(reference)),
        agreement=None if a is None or b is None else float((a.argmax(1) == b.argmax(1)).mean()),
    )


def _shape_problem(outputs: tuple[Array, ...], reference: Mapping[str, Array]) -> str | None:
    found = [output.shape[1:] for output in outputs]
    expected = [output.shape[1:] for output in reference.values()]
    return None if found == expected else f"its outputs are {found}, those of the file {expected}"


def _problem(output: OutputError) -> str | None:
    if output.mean_share <= LIMIT:  # false for NaN
        return None
    share = f"{100 * output.mean_share:.3g} % of its range"
    return f"output '{output.name}' is off by {share} on average, which is more than {100 * LIMIT:g} %"


def _share(error: float, span: float) -> float:
    return error / span if span else (0.0 if error == 0 else float("inf"))
