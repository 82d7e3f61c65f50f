"""Does the file compute what was simulated? Checked on real samples, in the onnxruntime session that a user gets.

Weights are compared exactly: codes and scales. Activations cannot be: floats added up in another order may fall on the other
side of a rounding boundary, and one such flip changes what all later layers read. In an 8-bit network a perturbation of
1e-6 of the input moves a tenth of all codes that way. So the file is run twice.

    layer by layer   every value is computed by the file from the *simulation's* codes of the values before it (probe.py).
                     What differs here arose in this very layer. This decides.
    whole            the file as it is. Flips have spread; they are counted and reported, not judged.

Broken is, layer by layer: a code that is off by more than one step, or by one although the number that was rounded is not
within BOUNDARY of a rounding boundary; more flips than MAX_FLIP_RATE over all values; a head, which is what a layer writes as
floats on the way to an output, off by more than HEAD_TOLERANCE of its largest magnitude; an output off by more than
OUTPUT_TOLERANCE of its own, or, of integers, with more than MAX_FLIP_RATE others; other integer kernels than in the whole file,
for then this would not be about it.

What functions made of floats is judged where it began. A code or an output that is not the simulation's is no fault of the file
where the heads before it are right and onnxruntime makes the same of them in the user's own operators (float_parts.py): then two
libraries differ in a Sigmoid, and the file has that of one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from genie_onnx.errors import ParityError
from genie_onnx.qparams import FloatArray, QParams, QTensor
from genie_onnx.validate.by_operators import Reference, by_operators, present
from genie_onnx.validate.compare import sqnr
from genie_onnx.validate.float_parts import FloatParts
from genie_onnx.validate.grids import grid_problems, weight_problems
from genie_onnx.validate.kernels import integer_kernels
from genie_onnx.validate.parity_findings import HeadParity, OutputParity, Parity, ValueParity
from genie_onnx.validate.probe import Probe, layer_probe
from genie_onnx.validate.qdq_file import QdqFile
from genie_onnx.validate.session import Array, File, Session, as_proto

BOUNDARY = 0.01  # steps from the middle between two codes; float sums of a few thousand terms are right to a tenth of it
TIE = 1e-4  # steps: nearer to the middle, the last bit of a float decides. Many are, where scales are powers of two and weights
# of an interpolation fractions such as 3/8; they are not counted against a file
MAX_FLIP_RATE = 1e-4  # of all codes compared; measured 1e-7 .. 5e-6 over a dozen networks at 4 and 8 bits
MIN_FLIPS = 3  # allowed however few codes there are
OUTPUT_TOLERANCE = 1e-3  # of the largest magnitude: nothing is rounded between the last codes and an output
HEAD_TOLERANCE = 1e-4  # of the largest magnitude: one layer's float sums; what saturates behind it would hide more


def check_parity(
    model: File,
    feeds: Mapping[str, Array],
    weights: Mapping[str, QTensor],
    activations: Mapping[str, QTensor],
    outputs: Mapping[str, FloatArray],
    reference: Reference,
    optimise: bool = True,
) -> Parity:
    """Compare `model` with a simulation of it on `feeds` (float32 [n, ...] by input name).

    `weights` has the codes of every quantised initializer, `activations` the simulated codes [n, ...] of quantised values
    (where one is left out, the layers before and behind it are judged together), `outputs` the simulated outputs; all by
    the names they have in the user's model, as `reference` has them. `optimise` False runs every node as it is written: for files
    whose form onnxruntime would change by itself, as it rounds float biases. What is found is returned, not raised.
    """
    proto, parts = as_proto(model), reference.parts
    kernels = integer_kernels(proto)
    try:
        file = QdqFile(proto)
        problems = weight_problems(file, weights) + grid_problems(file, activations)
        probe = layer_probe(proto, file, activations)
    except ParityError as error:
        return Parity(samples=_count(feeds), weights=0, values=(), outputs=(), heads=(), kernels=kernels, problems=(str(error),))
    tensors = {name: file.codes("activations", name) for name in activations}
    heads, probe_feeds = _heads(proto, outputs, parts), {**feeds, **probe.feeds}
    single = Session(probe.model, _once(*tensors.values(), *outputs, *heads), optimise)(probe_feeds)
    whole = Session(proto, _once(*tensors.values(), *outputs), optimise)(feeds)

    stored = {name: file.stored(name, q) for name, q in activations.items()}
    flipped = [name for name in activations if not np.array_equal(single[tensors[name]], stored[name])]
    before_rounding = _before_rounding(probe, file, feeds, flipped)

    def compared(name: str, right: Array | None = None) -> ValueParity:
        codes, grid = stored[name], activations[name].qparams
        offset = int(file.grid(name).zero_point)
        return _compare_codes(
            name, codes, grid, single[tensors[name]], whole[tensors[name]], before_rounding.get(name), right, offset
        )

    values = tuple(map(compared, activations))
    ends = tuple(_compare_output(name, y, single[name], whole[name]) for name, y in outputs.items())
    tops = _compare_heads(heads, single, reference)
    suspects = [name for name in _suspects(values, ends) if parts.has_function(name)]
    if suspects:
        rounded = {name: q.dequantize() for name, q in activations.items()}
        own = [end.name for end in ends if end.name in suspects]
        computed = by_operators(probe.model, probe_feeds, rounded, suspects, own, parts)
        tops = {**_compare_heads(parts.heads(suspects), computed.found, reference), **tops}
        values = tuple(compared(v.name, computed.values[v.name]) if v.name in computed.values else v for v in values)
        ends = tuple(replace(end, arithmetic=end.name in own and computed.same(end.name)) for end in ends)
    if optimise and integer_kernels(probe.model).integer != kernels.integer:
        problems.append("the layer-by-layer copy runs on other integer kernels than the file")
    problems += _flip_problems(values) + _head_problems(tops, HEAD_TOLERANCE) + _output_problems(ends)
    return Parity(
        samples=_count(feeds),
        weights=len(weights),
        values=values,
        outputs=ends,
        heads=tuple(tops.values()),
        kernels=kernels,
        problems=tuple(problems),
    )


def check_rounded_weights(
    model: File,
    feeds: Mapping[str, Array],
    weights: Mapping[str, QTensor],
    outputs: Mapping[str, FloatArray],
    reference: Reference,
) -> Parity:
    """Compare a float `model` that has rounded weights with a simulation that rounds nothing else (as `check_parity` does)."""
    proto, parts = as_proto(model), reference.parts
    found = {t.name: t for t in proto.graph.initializer if t.name in weights}
    problems = [f"weight '{name}' is not in the file" for name in weights if name not in found]
    problems += [
        f"weight '{name}' is not what its codes stand for"
        for name, tensor in found.items()
        if not np.array_equal(numpy_helper.to_array(tensor), weights[name].dequantize())
    ]
    heads = _heads(proto, outputs, parts)
    whole = Session(proto, _once(*outputs, *heads))(feeds)
    ends = tuple(_compare_output(name, y, whole[name], whole[name]) for name, y in outputs.items())
    suspects = [name for name in _suspects((), ends) if parts.has_function(name)]
    if suspects:
        computed = by_operators(proto, feeds, {}, suspects, suspects, parts)
        ends = tuple(replace(end, arithmetic=end.name in suspects and computed.same(end.name)) for end in ends)
    tops = _compare_heads(heads, whole, reference)
    problems += _head_problems(tops, OUTPUT_TOLERANCE) + _output_problems(ends)  # sums of a whole network
    return Parity(
        samples=_count(feeds),
        weights=len(weights),
        values=(),
        outputs=ends,
        heads=tuple(tops.values()),
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


def _compare_codes(
    name: str,
    expected: Array,
    grid: QParams,
    single: Array,
    whole: Array,
    rounded: Array | None,
    right: Array | None,
    zero_point: int,
) -> ValueParity:
    """Compare codes as the file has them with `expected`, given the floats that the file rounds for them, where there are flips,
    and those that the user's float operators make (`right`), where these were asked. `zero_point` is that of the file's grid."""
    steps, whole_steps = (np.abs(codes.astype(np.int16) - expected) for codes in (single, whole))
    unexplained = ties = arithmetic = 0
    if rounded is not None:
        position = rounded.astype(np.float64) / grid.scale
        off_middle = np.abs(position - np.floor(position) - 0.5)
        at_boundary = off_middle <= BOUNDARY
        tie = (steps == 1) & (off_middle <= TIE)
        by_operators = np.zeros_like(tie)
        if right is not None:
            low = zero_point - int(grid.zero_point)
            codes = np.clip(right.astype(np.float64) / grid.scale + zero_point, low, low + grid.qmax)
            by_operators = (steps > 0) & ~tie & (np.abs(single - codes) <= 0.5 + BOUNDARY)
        ties, arithmetic = int(tie.sum()), int(by_operators.sum())
        unexplained = int((((steps > 1) | ((steps == 1) & ~at_boundary)) & ~by_operators).sum())
    return ValueParity(
        name=name,
        elements=expected.size,
        flips=int((steps > 0).sum()),
        unexplained=unexplained,
        max_step=int(steps.max(initial=0)),
        whole_flips=int((whole_steps > 0).sum()),
        whole_max_step=int(whole_steps.max(initial=0)),
        ties=ties,
        arithmetic=arithmetic,
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


def _heads(proto: onnx.ModelProto, outputs: Collection[str], parts: FloatParts) -> list[str]:
    """Return what layers of the file write as floats on the way to an output; those that are one are judged as such."""
    return present(proto, [name for name in parts.heads(outputs) if name not in outputs])


def _compare_heads(heads: Sequence[str], found: Mapping[str, Array], reference: Reference) -> dict[str, HeadParity]:
    """Hold those of `heads` that were found against the simulation."""
    known = [name for name in heads if name in found]
    expected = reference.simulate(known) if known else {}
    return {
        name: HeadParity(
            name=name,
            magnitude=float(np.abs(expected[name]).max(initial=0)),
            max_error=float(np.abs(found[name].astype(np.float64) - expected[name]).max(initial=0)),
        )
        for name in known
    }


def _suspects(values: Sequence[ValueParity], outputs: Sequence[OutputParity]) -> list[str]:
    """Return the values and outputs that break parity unless float operators are the reason."""
    too_many = bool(_flip_problems([replace(v, unexplained=0) for v in values]))
    return [v.name for v in values if v.unexplained or (too_many and v.flips)] + [
        o.name for o in outputs if _output_problems([o])
    ]


def _flip_problems(values: Sequence[ValueParity]) -> list[str]:
    problems = [
        f"value '{v.name}': {v.unexplained} of {v.elements} codes differ by up to {v.max_step} and not by rounding alone"
        for v in values
        if v.unexplained
    ]
    flips, elements = sum(v.flips - v.ties - v.arithmetic for v in values), sum(v.elements for v in values)
    if flips > max(MIN_FLIPS, MAX_FLIP_RATE * elements):
        problems.append(f"{flips} of {elements} codes differ, more than {MAX_FLIP_RATE:.0e} of them")
    return problems


def _head_problems(heads: Mapping[str, HeadParity], tolerance: float) -> list[str]:
    return [
        f"what a layer writes to '{head.name}' is off by {head.max_error:.3g}, its largest value is {head.magnitude:.3g}"
        for head in heads.values()
        if not head.max_error <= tolerance * head.magnitude  # true for NaN
    ]


def _output_problems(outputs: Iterable[OutputParity]) -> list[str]:
    return [problem for output in outputs if not output.arithmetic and (problem := _output_problem(output))]


def _output_problem(output: OutputParity) -> str:
    """Return what is wrong with `output`, "" where nothing is."""
    if output.elements:
        if output.differing <= max(MIN_FLIPS, MAX_FLIP_RATE * output.elements):
            return ""
        return f"output '{output.name}' has {output.differing} of {output.elements} integers that differ"
    if output.max_error <= OUTPUT_TOLERANCE * output.magnitude:  # false for NaN
        return ""
    return f"output '{output.name}' is off by {output.max_error:.3g}, its largest value is {output.magnitude:.3g}"


def _once(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _count(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))
