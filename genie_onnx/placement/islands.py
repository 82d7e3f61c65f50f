"""Operators with an integer kernel that stand among floats alone: nothing near them has codes.

    Clip -> Pow 3 -> GlobalAveragePool -> Pow 1/3        (generalised mean pooling: the pool is such an island)

Rounding on both sides of one would buy an integer kernel for it and cost what rounding costs, which can be all there is: cubes
span far more than 256 codes. No layer would run sooner by it.
"""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.placement.layers import Layers
from genie_onnx.placement.operators import FUSED_ACTIVATIONS, activations, computes_in_integers, repeated_inputs


def on_islands(graph: ir.Model, layers: Layers) -> frozenset[ir.Node]:
    """Return the operators with integer kernels that no layer, and no image, is joined with by others of that kind.

    What only repeats numbers, and a Relu or Clip, stands between them as if it were not there.
    """
    codes = {*layers.quantised, *layers.kept}
    passing = {n for n in graph.graph if computes_in_integers(n) or repeated_inputs(n) or n.op_type in FUSED_ACTIVATIONS}
    waiting = [*codes, *(node for image in graph.graph.inputs for node in image.consumers())]
    reached = codes | passing.intersection(waiting)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            continue
        beside = [v.producer() for v in activations(node.inputs)]
        beside += [reader for v in activations(node.outputs) for reader in v.consumers()]
        found = {n for n in beside if n is not None and n in passing and n not in reached}
        reached |= found
        waiting += found
    return frozenset(n for n in graph.graph if n not in reached and computes_in_integers(n))
