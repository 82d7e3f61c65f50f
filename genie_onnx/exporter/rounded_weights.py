"""The float model with already rounded weights, for compilers that take grids from a file beside it (encodings).

w   ->   scale (codes - zero_point)      under the same name, in float32
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from genie_onnx.placement import WeightSpec
from genie_onnx.qparams import QTensor


def round_weights(graph: ir.Graph, specs: tuple[WeightSpec, ...], weights: Mapping[str, QTensor]) -> dict[str, str]:
    """Replace the numbers of every weight in place. Return its name by its name: what is stored is what the codes stand for."""
    for spec in specs:
        graph.initializers[spec.value].const_value = ir.tensor(weights[spec.value].dequantize(), name=spec.value)
    return {spec.value: spec.value for spec in specs}
