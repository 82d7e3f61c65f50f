"""The verdict on an exported file: does it compute what was simulated, and how near is that to the float model?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import torch

from genie_onnx import graph
from genie_onnx.errors import ParityError
from genie_onnx.graph import query
from genie_onnx.images.choice import Kind
from genie_onnx.images.kept import Judges
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.qparams import quantize
from genie_onnx.reconstruct import Codes, simulate
from genie_onnx.requirements import Requirements
from genie_onnx.targets import Target
from genie_onnx.validate import (
    Comparison,
    FloatParts,
    Parity,
    Reference,
    answers,
    check_parity,
    check_rounded_weights,
    compare,
    first_difference,
    run,
    run_both,
)
from genie_onnx.validate.quality import Quality, assess

PARITY_SAMPLES = 8  # every value of the network is compared on these
CHECKS = 4  # valid ONNX, the simulation, parity with it, the float model
FIXED_TOLERANCE = 1e-6  # the same nodes run one by one on the same input


@dataclass(frozen=True)
class Verdict:
    """`parity` of simulation and file; `comparison` of file and float model on the held-back samples of `held_back_kind`;
    `quality`: whether the file is of any use."""

    parity: Parity
    comparison: Comparison
    held_back_kind: Kind
    quality: Quality


def judge(
    prepared: Prepared,
    codes: Codes,
    proto: onnx.ModelProto,
    judges: Judges,
    target: Target,
    requirements: Requirements,
    tell: Callable[[int], None] = lambda done: None,
) -> Verdict:
    """Run the file against the simulation, at onnxruntime's default options where the target's form suits it, else node by node
    as written; then against the float model, and say whether it is of any use. `tell` is told how many of the CHECKS are done,
    also while one is made.

    Raises onnx.checker.ValidationError where the file is not valid ONNX (a defect of the exporter).
    """
    onnx.checker.check_model(proto, full_check=True)
    network = prepared.network.to("cpu")
    # A file of fixed batch is judged on one such batch: inside, a channel shuffle may have [2 N, ...], which cannot be cut.
    fixed = query.input_shape(prepared.user)[0]
    samples = judges.held_back[: PARITY_SAMPLES if fixed is None else fixed]
    form = target.form
    feeds, everything = prepared.feeds(samples), prepared.feeds(judges.held_back)
    placement = prepared.placement
    if form.style == "float":
        placement = dataclasses.replace(placement, activations=())
    rounded = {value for spec in placement.activations for value in spec.values}
    parts = FloatParts(graph.with_constants(prepared.deploy, codes.biases), codes.weights, rounded)

    def simulated(floats: Collection[str]) -> dict[str, np.ndarray]:
        made = simulate(network, placement, prepared.blocks, codes, samples, form, alive=partial(tell, 1), floats=floats)
        return {**{name: _array(value) for name, value in made.items()}, **feeds}  # the image as the file takes it

    def simulated_again(names: Sequence[str]) -> dict[str, np.ndarray]:
        missing = [name for name in names if name not in values]
        values.update(simulated(missing) if missing else {})
        return {name: values[name] for name in names}

    tell(1)
    values = simulated(parts.heads(network.outputs))
    tell(2)
    reference = Reference(parts, simulated_again)
    if form.style == "float":
        outputs = {v: values[v] for v in network.outputs}
        parity = check_rounded_weights(proto, feeds, codes.weights, outputs, reference)
    else:
        activations = {
            value: quantize(values[value], codes.activations[spec.name])
            for spec in placement.activations
            for value in spec.values
        }
        # An output that is itself rounded is compared by its codes.
        ends = [v for v in network.outputs if target.constraints.outputs == "float" or v not in activations]
        outputs = {v: values[v] for v in ends}
        parity = check_parity(proto, feeds, codes.weights, activations, outputs, reference, optimise=form.for_onnxruntime)
    tell(3)
    both = run_both(prepared.reference, proto, everything, alive=partial(tell, 3))
    comparison = compare(both.reference, both.other, both.constants)
    decisive, kind = judges.decisive
    if decisive is not judges.held_back:
        both = run_both(prepared.reference, proto, prepared.feeds(decisive), alive=partial(tell, 3))
    found = answers(both.reference, both.other, both.constants)
    tell(CHECKS)
    return Verdict(parity, comparison, judges.kind, assess(found, kind, requirements, graph.in_chosen_order(prepared.user)))


def require_same(
    prepared: Prepared, judged: onnx.ModelProto, written: onnx.ModelProto, samples: torch.Tensor, otherwise: str
) -> None:
    """Raise ParityError, which says `otherwise`, where `written` computes something else than the file that was `judged`."""
    batch = written.graph.input[0].type.tensor_type.shape.dim[0]
    feeds = prepared.feeds(samples[: batch.dim_value or PARITY_SAMPLES])
    difference = first_difference(run(judged, feeds, optimise=False), run(written, feeds, optimise=False), FIXED_TOLERANCE)
    if difference is not None:
        raise ParityError(f"{otherwise}: {difference}")


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy())
