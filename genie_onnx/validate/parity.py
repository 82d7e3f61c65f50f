"""Does the file compute what was simulated? Checked on real samples, in the onnxruntime session that a user gets.

Weights are compared exactly: codes and scales. Activations cannot be: floats added up in another order may fall on the other
side of a rounding boundary, and one such flip changes what all later layers read. In an 8-bit network a perturbation of
1e-6 of the input moves a tenth of all codes that way. So the file is run twice.

    layer by layer   every value is computed by the file from the *simulation's* codes of the values before it (probe.py).
                     What differs here arose in this very layer. This decides.
    whole            the file as it is. Flips have spread; they are counted and reported, not judged.

Broken is, layer by layer: a code that is off by more than one step, or by one although the number that was rounded is not
within BOUNDARY of a rounding boundary; more flips than MAX_FLIP_RATE over all values; an output off by more than
OUTPUT_TOLERANCE of its largest magnitude, or, of integers, with more than MAX_FLIP_RATE others; other integer kernels than in
the whole file, for then this would not be about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import numpy_helper

from genie_onnx.errors import ParityError
from genie_onnx.qparams import FloatArray, QParams, QTensor
from genie_onnx.validate.compare import sqnr
from genie_onnx.validate.grids import grid_problems, weight_problems
from genie_onnx.validate.kernels import KernelCounts, integer_kernels
from genie_onnx.validate.probe import Probe, layer_probe
from genie_onnx.validate.qdq_file import QdqFile
from genie_onnx.validate.session import Array, File, Session, as_proto

BOUNDARY = 0.01  # steps from the middle between two codes; float sums of a few thousand terms are right to a tenth of it
TIE = 1e-4  # steps: nearer to the middle, the last bit of a float decides. Many are, where scales are powers of two and weights
# of an interpolation fractions such as 3/8; they are not counted against a file
MAX_FLIP_RATE = 1e-4  # of all codes compared; measured 1e-7 .. 5e-6 over a dozen networks at 4 and 8 bits
MIN_FLIPS = 3  # allowed however few codes there are
OUTPUT_TOLERANCE = 1e-3  # of the largest magnitude: nothing is rounded between the last codes and an output


@dataclass(frozen=True, kw_only=True)
class ValueParity:
    """One quantised value: codes compared and codes that differ, layer by layer and (`whole_`) in the file as it is."""

    name: str
    elements: int
    flips: int
    unexplained: int  # flips that are no matter of a rounding boundary
    max_step: int  # codes
    whole_flips: int
    whole_max_step: int
    ties: int = 0  # flips in the very middle between two codes


@dataclass(frozen=True, kw_only=True)
class OutputParity:
    """One graph output against the simulation's, layer by layer and (`whole_`) in the file as it is."""

    name: str
    magnitude: float  # largest absolute value in the simulation
    max_error: float
    mean_error: float
    whole_max_error: float
    whole_mean_error: float
    whole_sqnr_db: float
    elements: int = 0  # of integers or truth values (an ArgMax, a mask) ...
    differing: int = 0  # ... and how many of them are others: of two numbers that are all but equal, either may be the larger


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
        """Flips that arose in a layer of their own, per code compared."""
        return sum(v.flips for v in self.values) / max(sum(v.elements for v in self.values), 1)

    @property
    def whole_flip_rate(self) -> float:
        """Codes that differ when the file runs as it is, per code compared."""
        return sum(v.whole_flips for v in self.values) / max(sum(v.elements for v in self.values), 1)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"ok": self.ok, "flip_rate": self.flip_rate, "whole_flip_rate": self.whole_flip_rate, **asdict(self)}


def check_parity(
    model: File,
    feeds: Mapping[str, Array],
    weights: Mapping[str, QTensor],
    activations: Mapping[str, QTensor],
    outputs: Mapping[str, FloatArray],
    optimise: bool = True,
) -> Parity:
    """Compare `model` with a simulation of it on `feeds` (float32 [n, ...] by input name).

    `weights` has the codes of every quantised initializer, `activations` the simulated codes [n, ...] of quantised values
    (where one is left out, the layers before and behind it are judged together), `outputs` the simulated outputs; all by
    the names they have in the user's model. `optimise` False runs every node as it is written: for files whose form onnxruntime
    would change by itself, as it rounds float biases. What is found is returned, not raised.
    """
    proto = as_proto(model)
    kernels = integer_kernels(proto)
    try:
        file = QdqFile(proto)
        problems = weight_problems(file, weights) + grid_problems(file, activations)
        probe = layer_probe(proto, file, activations)
    except ParityError as error:
        return Parity(samples=_count(feeds), weights=0, values=(), outputs=(), kernels=kernels, problems=(str(error),))
    tensors = {name: file.codes("activations", name) for name in activations}
    wanted = [*tensors.values(), *outputs]
    single = Session(probe.model, wanted, optimise)({**feeds, **probe.feeds})
    whole = Session(proto, wanted, optimise)(feeds)

    stored = {name: file.stored(name, q) for name, q in activations.items()}
    flipped = [name for name in activations if not np.array_equal(single[tensors[name]], stored[name])]
    before_rounding = _before_rounding(probe, file, feeds, flipped)
    values = tuple(
        _compare_codes(name, stored[name], q.qparams, single[tensors[name]], whole[tensors[name]], before_rounding.get(name))
        for name, q in activations.items()
    )
    ends = tuple(_compare_output(name, y, single[name], whole[name]) for name, y in outputs.items())
    if optimise and integer_kernels(probe.model).integer != kernels.integer:
        problems.append("the layer-by-layer copy runs on other integer kernels than the file")
    problems += _flip_problems(values) + [text for end in ends for text in _output_problems(end)]
    return Parity(
        samples=_count(feeds), weights=len(weights), values=values, outputs=ends, kernels=kernels, problems=tuple(problems)
    )


def check_rounded_weights(
    model: File, feeds: Mapping[str, Array], weights: Mapping[str, QTensor], outputs: Mapping[str, FloatArray]
) -> Parity:
    """Compare a float `model` that has rounded weights with a simulation that rounds nothing else (as `check_parity` does)."""
    proto = as_proto(model)
    found = {t.name: t for t in proto.graph.initializer if t.name in weights}
    problems = [f"weight '{name}' is not in the file" for name in weights if name not in found]
    problems += [
        f"weight '{name}' is not what its codes stand for"
        for name, tensor in found.items()
        if not np.array_equal(numpy_helper.to_array(tensor), weights[name].dequantize())
    ]
    whole = Session(proto, list(outputs))(feeds)
    ends = tuple(_compare_output(name, y, whole[name], whole[name]) for name, y in outputs.items())
    problems += [text for end in ends for text in _output_problems(end)]
    return Parity(
        samples=_count(feeds),
        weights=len(weights),
        values=(),
        outputs=ends,
        kernels=integer_kernels(proto),
        problems=tuple(problems),
    )


def require_parity(parity: Parity) -> None:
    """Raise ParityError with the first findings unless `parity` is ok."""
    if not parity.ok:
        more = f" (and {len(parity.problems) - 3} more)" if len(parity.problems) > 3 else ""
        raise ParityError(f"the exported file does not compute what was simulated: {'; '.join(parity.problems[:3])}{more}")


def _before_rounding(probe: Probe, file: QdqFile, feeds: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
    """Return the floats that the file rounds for each value of `names`, computed node by node as it is written."""
    if not names:
        return {}
    sources = {name: file.quantizer(name).input[0] for name in names}
    found = Session(probe.model, tuple(dict.fromkeys(sources.values())), optimise=False)({**feeds, **probe.feeds})
    return {name: found[source] for name, source in sources.items()}


def _compare_codes(name: str, expected: Array, grid: QParams, single: Array, whole: Array, rounded: Array | None) -> ValueParity:
    steps, whole_steps = (np.abs(codes.astype(np.int16) - expected) for codes in (single, whole))
    unexplained = ties = 0
    if rounded is not None:
        position = rounded.astype(np.float64) / grid.scale
        off_middle = np.abs(position - np.floor(position) - 0.5)
        at_boundary = off_middle <= BOUNDARY
        ties = int(((steps == 1) & (off_middle <= TIE)).sum())
        unexplained = int(((steps > 1) | ((steps == 1) & ~at_boundary)).sum())
    return ValueParity(
        name=name,
        elements=expected.size,
        flips=int((steps > 0).sum()),
        unexplained=unexplained,
        max_step=int(steps.max(initial=0)),
        whole_flips=int((whole_steps > 0).sum()),
        whole_max_step=int(whole_steps.max(initial=0)),
        ties=ties,
    )


def _compare_output(name: str, expected: FloatArray, single: Array, whole: Array) -> OutputParity:
    floats = np.issubdtype(expected.dtype, np.floating)
    error, whole_error = (np.abs(array.astype(np.float64) - expected) for array in (single, whole))
    return OutputParity(
        name=name,
        magnitude=float(np.abs(expected).max(initial=0)),
        max_error=float(error.max(initial=0)),
        mean_error=float(error.mean()),
        whole_max_error=float(whole_error.max(initial=0)),
        whole_mean_error=float(whole_error.mean()),
        whole_sqnr_db=sqnr(expected, whole),
        elements=0 if floats else expected.size,
        differing=0 if floats else int((error > 0).sum()),
    )


def _flip_problems(values: tuple[ValueParity, ...]) -> list[str]:
    problems = [
        f"value '{v.name}': {v.unexplained} of {v.elements} codes differ by up to {v.max_step} and not by rounding alone"
        for v in values
        if v.unexplained
    ]
    flips, elements = sum(v.flips - v.ties for v in values), sum(v.elements for v in values)
    if flips > max(MIN_FLIPS, MAX_FLIP_RATE * elements):
        problems.append(f"{flips} of {elements} codes differ, more than {MAX_FLIP_RATE:.0e} of them")
    return problems


def _output_problems(output: OutputParity) -> list[str]:
    if output.elements:
        if output.differing <= max(MIN_FLIPS, MAX_FLIP_RATE * output.elements):
            return []
        return [f"output '{output.name}' has {output.differing} of {output.elements} integers that differ"]
    if output.max_error <= OUTPUT_TOLERANCE * output.magnitude:  # false for NaN
        return []
    return [f"output '{output.name}' is off by {output.max_error:.3g}, its largest value is {output.magnitude:.3g}"]


def _count(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))
