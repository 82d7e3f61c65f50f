"""The verdict on an exported file: does it compute what was simulated, and how near is that to the float model?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch

from genie_onnx.calibration import Calibration
from genie_onnx.choice import Kind
from genie_onnx.graph import query
from genie_onnx.prepare import Prepared
from genie_onnx.qparams import quantize
from genie_onnx.reconstruct import Codes, simulate
from genie_onnx.validate import Comparison, Parity, check_parity, compare_models

PARITY_SAMPLES = 8  # every value of the network is compared on these


@dataclass(frozen=True)
class Verdict:
    """`parity` of simulation and file; `comparison` of file and float model on the held-back samples of `held_back_kind`."""

    parity: Parity
    comparison: Comparison
    held_back_kind: Kind


def judge(prepared: Prepared, codes: Codes, proto: onnx.ModelProto, calibration: Calibration) -> Verdict:
    """Run the file at onnxruntime's default options against the simulation, then against the float model.

    Raises onnx.checker.ValidationError where the file is not valid ONNX (a defect of the exporter).
    """
    onnx.checker.check_model(proto, full_check=True)
    network = prepared.network.to("cpu")
    # A file of fixed batch is judged on one such batch: inside, a channel shuffle may have [2 N, ...], which cannot be cut.
    fixed = query.input_shape(prepared.user)[0]
    samples = calibration.held_back[: PARITY_SAMPLES if fixed is None else fixed]
    values = simulate(network, prepared.placement, prepared.blocks, codes, samples)
    activations = {
        value: quantize(_array(values[value]), codes.activations[spec.name])
        for spec in prepared.placement.activations
        for value in spec.values
    }
    outputs = {name: _array(values[name]) for name in network.outputs}
    name = network.inputs[0]
    parity = check_parity(proto, {name: _array(samples)}, codes.weights, activations, outputs)
    comparison = compare_models(prepared.user, proto, {name: _array(calibration.held_back)})
    return Verdict(parity, comparison, calibration.held_back_kind)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy())
