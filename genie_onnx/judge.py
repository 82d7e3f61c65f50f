"""The verdict on an exported file: does it compute what was simulated, and how near is that to the float model?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import torch

from genie_onnx.choice import Kind
from genie_onnx.errors import ParityError
from genie_onnx.graph import query
from genie_onnx.prepare import Prepared
from genie_onnx.qparams import quantize
from genie_onnx.reconstruct import Codes, simulate
from genie_onnx.targets import Target
from genie_onnx.validate import Comparison, Parity, check_parity, check_rounded_weights, compare_models, first_difference, run

PARITY_SAMPLES = 8  # every value of the network is compared on these
CHECKS = 4  # valid ONNX, the simulation, parity with it, the float model
FIXED_TOLERANCE = 1e-6  # the same nodes run one by one on the same input


@dataclass(frozen=True)
class Verdict:
    """`parity` of simulation and file; `comparison` of file and float model on the held-back samples of `held_back_kind`."""

    parity: Parity
    comparison: Comparison
    held_back_kind: Kind


def judge(
    prepared: Prepared,
    codes: Codes,
    proto: onnx.ModelProto,
    held_back: torch.Tensor,
    held_back_kind: Kind,
    target: Target,
    tell: Callable[[int], None] = lambda done: None,
) -> Verdict:
    """Run the file against the simulation, at onnxruntime's default options where the target's form suits it, else node by node
    as written; then against the float model. `tell` is told how many of the CHECKS are done, also while one is made.

    Raises onnx.checker.ValidationError where the file is not valid ONNX (a defect of the exporter).
    """
    onnx.checker.check_model(proto, full_check=True)
    network = prepared.network.to("cpu")
    # A file of fixed batch is judged on one such batch: inside, a channel shuffle may have [2 N, ...], which cannot be cut.
    fixed = query.input_shape(prepared.user)[0]
    samples = held_back[: PARITY_SAMPLES if fixed is None else fixed]
    form = target.form
    feeds, everything = prepared.feeds(samples), prepared.feeds(held_back)
    placement = prepared.placement
    if form.style == "float":
        placement = dataclasses.replace(placement, activations=())
    tell(1)
    simulated = simulate(network, placement, prepared.blocks, codes, samples, form, alive=partial(tell, 1))
    values = {**{name: _array(value) for name, value in simulated.items()}, **feeds}
    tell(2)
    if form.style == "float":
        parity = check_rounded_weights(proto, feeds, codes.weights, {v: values[v] for v in network.outputs})
    else:
        activations = {
            value: quantize(values[value], codes.activations[spec.name])
            for spec in placement.activations
            for value in spec.values
        }
        # An output that is itself rounded is compared by its codes.
        ends = [v for v in network.outputs if target.constraints.outputs == "float" or v not in activations]
        outputs = {v: values[v] for v in ends}
        parity = check_parity(proto, feeds, codes.weights, activations, outputs, optimise=form.for_onnxruntime)
    tell(3)
    comparison = compare_models(prepared.user, proto, everything, alive=partial(tell, 3))
    tell(CHECKS)
    return Verdict(parity, comparison, held_back_kind)


def require_same(prepared: Prepared, free: onnx.ModelProto, fixed: onnx.ModelProto, samples: torch.Tensor) -> None:
    """Raise ParityError where a file computes something else once its shapes are `fixed`."""
    shape = fixed.graph.input[0].type.tensor_type.shape.dim
    feeds = prepared.feeds(samples[: shape[0].dim_value])
    difference = first_difference(run(free, feeds, optimise=False), run(fixed, feeds, optimise=False), FIXED_TOLERANCE)
    if difference is not None:
        raise ParityError(f"the file computes something else once its shapes are fixed: {difference}")


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy())
