"""The grids of a float model as AIMET and Qualcomm's converters read them: encodings in JSON, version 1.0.0.

    value = scale * (code + offset),   codes 0 .. 2^bw - 1        so        offset = -zero point

A weight whose zero point is in the middle of its codes is said to be symmetric, which HTP asks of weights of 8 bits; AIMET then
counts signed codes, from the same offset. Biases have no entry: 32 bits, which AIMET leaves in float.

Source: aimet_onnx 2.42.0, _encoding.py (AffineEncoding._from_1_0_0) and quantsim.load_encodings_to_sim, and what it wrote itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genie_onnx.exporter.assemble import Codes
from genie_onnx.placement import Placement
from genie_onnx.qparams import QParams

VERSION = "1.0.0"


def aimet_encodings(placement: Placement, codes: Codes, producer: Mapping[str, str]) -> dict[str, Any]:
    """Return the file's contents; `producer` says who wrote it.

    >>> import numpy as np
    >>> entry("w", QParams(bits=4, scale=np.array([0.5, 1], np.float32), zero_point=np.array([9, 7]), axis=0), symmetric=False)
    ... # doctest: +NORMALIZE_WHITESPACE
    {'name': 'w', 'bw': 4, 'dtype': 'INT', 'enc_type': 'PER_CHANNEL', 'is_sym': False, 'scale': [0.5, 1.0], 'offset': [-9, -7]}
    """
    weights = [(spec.value, codes.weights[spec.value].qparams) for spec in placement.weights]
    values = [(name, codes.activations[spec.name]) for spec in placement.activations for name in spec.values]
    return {
        "version": VERSION,
        "producer": dict(producer),
        "quantizer_args": {
            "activation_bitwidth": max((grid.bits for _, grid in values), default=8),
            "param_bitwidth": max((grid.bits for _, grid in weights), default=8),
            "dtype": "int",
            "is_symmetric": True,
            "per_channel_quantization": any(grid.axis is not None for _, grid in weights),
            "quant_scheme": "min_max",
        },
        "activation_encodings": [entry(name, grid, symmetric=False) for name, grid in values],
        "param_encodings": [entry(name, grid, symmetric=_centred(grid)) for name, grid in weights],
    }


def entry(name: str, grid: QParams, symmetric: bool) -> dict[str, Any]:
    """Return what is said of one tensor; lists have one number, or one a channel."""
    return {
        "name": name,
        "bw": grid.bits,
        "dtype": "INT",
        "enc_type": "PER_TENSOR" if grid.axis is None else "PER_CHANNEL",
        "is_sym": symmetric,
        "scale": [float(scale) for scale in grid.scale.ravel()],
        "offset": [-int(zero_point) for zero_point in grid.zero_point.ravel()],
    }


def _centred(grid: QParams) -> bool:
    return bool((grid.zero_point == 2 ** (grid.bits - 1)).all())
