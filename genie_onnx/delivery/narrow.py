"""Weights without the code -128, for kernels that add products of two of them up in 16 bits.

    codes of 8 bits on a symmetric grid:    max(code, -127)

The grid itself spans -127..127 steps (quant.ranges), so that code is met where weights were clipped, or rounded down beyond the
largest one: what changes is one step of 255.
https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from genie_onnx.qparams import QTensor
from genie_onnx.reconstruct import Codes
from genie_onnx.targets import WIDE, Constraints


def with_narrow_weights(codes: Codes, constraints: Constraints) -> Codes:
    """Return `codes` as `constraints.weight_codes` has them; `codes` itself where they are so."""
    if constraints.weight_codes == "all":
        return codes
    changed = {name: _narrowed(w) for name, w in codes.weights.items() if w.qparams.bits == WIDE and not w.codes.all()}
    return replace(codes, weights={**codes.weights, **changed}) if changed else codes


def _narrowed(weight: QTensor) -> QTensor:
    return QTensor(codes=np.maximum(weight.codes, np.uint8(1)), qparams=weight.qparams)
