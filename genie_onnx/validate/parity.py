"""Does the file compute what was simulated? Checked on real samples, in the onnxruntime session that a user gets.

Weights are compared exactly: codes and scales. Activations cannot be: a value that lands on a rounding boundary may go
to either side, as two machines add up floats in a different order, and one such flip changes the input of all that
follows. So the file is run in two ways.

    layer by layer   every quantised value is computed by the file from the *simulation's* codes of the values before it
                     (a probe copy, in which each DequantizeLinear reads codes that are fed in). What differs here
                     arose in this very layer. This decides.
    whole            the file as it is. Flips have spread; they are reported, not judged, except that the outputs
                     must be recognisably those of the simulation (MIN_SQNR).

Limits of the first way, for each value: a step of at most one code, at most max(MIN_FLIPS, MAX_FLIP_RATE x elements)
flips; for each output, an error of at most OUTPUT_TOLERANCE of its largest magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx

from genie_onnx.errors import ParityError
from genie_onnx.qparams import FloatArray, QParams, QTensor
from genie_onnx.validate.compare import sqnr
from genie_onnx.validate.kernels import KernelCounts, integer_kernels
from genie_onnx.validate.qdq_file import FileGrid, QdqFile
from genie_onnx.validate.session import Array, Model, Session, as_proto, expose

MAX_FLIP_RATE = 1e-4  # measured on ResNet-20 at 8 bits: 0 .. 1e-4 for each layer, always one step
MIN_FLIPS = 3  # a small value (a pooled vector of a few samples) may well have one or two
OUTPUT_TOLERANCE = 1e-3  # of the largest magnitude; an output in front of which nothing is rounded differs by float rounding
MIN_SQNR = 15.0  # dB of the whole file's outputs against the simulation's


@dataclass(frozen=True, kw_only=True)
class ValueParity:
    """One quantised value: `elements` compared, `flips` that differ and `max_step` in codes; `whole_` for the file as it is."""

    name: str
    elements: int
    flips: int
    max_step: int
    whole_flips: int
    whole_max_step: int


@dataclass(frozen=True, kw_only=True)
class OutputParity:
    """One graph output against the simulation's: layer by layer, then `whole_` for the file as it is."""

    name: str
    magnitude: float  # largest absolute value in the simulation
    max_error: float
    mean_error: float
    whole_max_error: float
    whole_mean_error: float
    whole_sqnr_db: float


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The finding. `problems` is empty exactly when file and simulation agree within the limits."""

    samples: int
    weights: int  # tensors compared, codes and scales exactly
    values: tuple[ValueParity, ...]
    outputs: tuple[OutputParity, ...]
    kernels: KernelCounts
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the file computes what was simulated."""
        return not self.problems

    @property
    def flip_rate(self) -> float:
        """Flips that arose in a layer of their own, per element compared."""
        return sum(v.flips for v in self.values) / max(sum(v.elements for v in self.values), 1)

    @property
    def whole_flip_rate(self) -> float:
        """Codes that differ when the file runs as it is, per element compared."""
        return sum(v.whole_flips for v in self.values) / max(sum(v.elements for v in self.values), 1)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        rates = {"ok": self.ok, "flip_rate": self.flip_rate, "whole_flip_rate": self.whole_flip_rate}
        return {**asdict(self), **rates}


def check_parity(
    model: Model,
    feeds: Mapping[str, Array],
    weights: Mapping[str, QTensor],
    activations: Mapping[str, QTensor],
    outputs: Mapping[str, FloatArray],
) -> Parity:
    """Compare `model` with a simulation of it on `feeds` (float32 [n, ...] by input name).

    `weights` has the codes of every quantised initializer, `activations` the simulated codes [n, ...] of quantised
    values (all of them, or the layers behind a missing one are judged together), `outputs` the simulated outputs; all
    by the names they have in the user's model. Findings are in `problems`; nothing is raised for them.
    """
    proto = as_proto(model)
    try:
        file = QdqFile(proto)
        problems = _weight_problems(file, weights) + _grid_problems(file, activations)
        probe, fed = _probe(proto, file, activations)
    except ParityError as error:
        return _unreadable(proto, feeds, str(error))
    tensors = {name: file.codes("activations", name) for name in activations}
    wanted = [*tensors.values(), *outputs]
    single = Session(probe, wanted)({**feeds, **fed})
    whole = Session(proto, wanted)(feeds)

    values = tuple(_compare_codes(name, q, single[tensors[name]], whole[tensors[name]]) for name, q in activations.items())
    ends = tuple(_compare_output(name, y, single[name], whole[name]) for name, y in outputs.items())
    problems += [text for value in values for text in _value_problems(value)]
    problems += [text for end in ends for text in _output_problems(end)]
    return Parity(
        samples=_samples(feeds),
        weights=len(weights),
        values=values,
        outputs=ends,
        kernels=integer_kernels(proto),
        problems=tuple(problems),
    )


def require_parity(parity: Parity) -> None:
    """Raise ParityError with the first findings unless `parity` is ok."""
    if not parity.ok:
        more = f" (and {len(parity.problems) - 3} more)" if len(parity.problems) > 3 else ""
        raise ParityError(f"the exported file does not compute what was simulated: {'; '.join(parity.problems[:3])}{more}")


def _probe(proto: onnx.ModelProto, file: QdqFile, activations: Mapping[str, QTensor]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return the layer-by-layer copy of `proto` and the codes to feed into it, by input name."""
    probe = expose(proto, [o.name for o in proto.graph.output])
    renamed: dict[str, str] = {}
    fed: dict[str, Array] = {}
    batch = next((d for i in proto.graph.input for d in i.type.tensor_type.shape.dim[:1]), None)
    for name, codes in activations.items():
        tensor = file.codes("activations", name)
        element_type = file.element_type(tensor)
        fixed = batch is not None and batch.HasField("dim_value")
        first: int | str = int(batch.dim_value) if batch is not None and fixed else "samples"
        feed = f"{tensor}_simulated"
        probe.graph.input.append(onnx.helper.make_tensor_value_info(feed, element_type, [first, *codes.codes.shape[1:]]))
        renamed[tensor] = feed
        fed[feed] = codes.codes.astype(onnx.helper.tensor_dtype_to_np_dtype(element_type))
    for node in probe.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in renamed:
            node.input[0] = renamed[node.input[0]]
    return probe, fed


def _weight_problems(file: QdqFile, weights: Mapping[str, QTensor]) -> list[str]:
    problems = []
    for name in sorted(file.names("weights") ^ set(weights)):
        where = "file" if name in weights else "simulation"
        problems.append(f"weight '{name}' is not quantised in the {where}")
    for name in sorted(file.names("weights") & set(weights)):
        found, expected = file.weight(name), weights[name]
        rank = expected.codes.ndim
        if found.stored.shape != expected.codes.shape:
            problems.append(f"weight '{name}' is {found.stored.shape} in the file, {expected.codes.shape} in the simulation")
            continue
        centred = found.stored - _along(found.grid.zero_point, found.grid.axis, rank)
        differing = int((centred != expected.centred()).sum())
        if differing:
            problems.append(f"weight '{name}': {differing} of {centred.size} codes differ")
        if not _same_scale(found.grid, expected.qparams, rank):
            problems.append(f"weight '{name}': the scales differ")
    return problems


def _grid_problems(file: QdqFile, activations: Mapping[str, QTensor]) -> list[str]:
    problems = []
    for name, expected in activations.items():
        found = file.grid(name)
        same_zero_point = np.array_equal(found.zero_point, expected.qparams.zero_point)
        if not (_same_scale(found, expected.qparams, expected.codes.ndim) and same_zero_point):
            problems.append(f"value '{name}': the grid differs (scale {found.scale}, zero point {found.zero_point} in the file)")
    return problems


def _same_scale(found: FileGrid, expected: QParams, rank: int) -> bool:
    return np.array_equal(_along(found.scale, found.axis, rank), expected.along(rank)[0])


def _along(array: Array, axis: int | None, rank: int) -> Array:
    """Return a [] or [C] array shaped to broadcast along `axis`, which may count from the end."""
    if axis is None:
        return array
    shape = [1] * rank
    shape[axis] = -1
    return array.reshape(shape)


def _compare_codes(name: str, expected: QTensor, single: Array, whole: Array) -> ValueParity:
    steps = [np.abs(codes.astype(np.int64) - expected.codes) for codes in (single, whole)]
    return ValueParity(
        name=name,
        elements=expected.codes.size,
        flips=int((steps[0] > 0).sum()),
        max_step=int(steps[0].max(initial=0)),
        whole_flips=int((steps[1] > 0).sum()),
        whole_max_step=int(steps[1].max(initial=0)),
    )


def _compare_output(name: str, expected: FloatArray, single: Array, whole: Array) -> OutputParity:
    errors = [np.abs(array.astype(np.float64) - expected) for array in (single, whole)]
    return OutputParity(
        name=name,
        magnitude=float(np.abs(expected).max(initial=0)),
        max_error=float(errors[0].max(initial=0)),
        mean_error=float(errors[0].mean()),
        whole_max_error=float(errors[1].max(initial=0)),
        whole_mean_error=float(errors[1].mean()),
        whole_sqnr_db=sqnr(expected, whole),
    )


def _value_problems(value: ValueParity) -> list[str]:
    allowed = max(MIN_FLIPS, int(MAX_FLIP_RATE * value.elements))
    if value.flips <= allowed and value.max_step <= 1:
        return []
    return [
        f"value '{value.name}': {value.flips} of {value.elements} codes differ (at most {allowed} may), "
        f"by up to {value.max_step} steps (at most 1)"
    ]


def _output_problems(output: OutputParity) -> list[str]:
    problems = []
    if not output.max_error <= OUTPUT_TOLERANCE * max(output.magnitude, 1e-6):
        problems.append(f"output '{output.name}' is off by {output.max_error:.3g} (largest value {output.magnitude:.3g})")
    if not output.whole_sqnr_db >= MIN_SQNR:
        problems.append(f"output '{output.name}' of the whole file is only {output.whole_sqnr_db:.1f} dB near the simulation")
    return problems


def _unreadable(proto: onnx.ModelProto, feeds: Mapping[str, Array], problem: str) -> Parity:
    return Parity(samples=_samples(feeds), weights=0, values=(), outputs=(), kernels=integer_kernels(proto), problems=(problem,))


def _samples(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))
