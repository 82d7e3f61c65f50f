"""Values whose channels are of too many sizes for one grid: no layer that touches one is rounded there.

    Conv ──▶ v (-81 .. 89) ──▶ x sigmoid(x) ──▶ Conv        channels of a hundredth of that are what the network goes on with

Grids have one scale for all channels. Where what follows commutes with scaling, channels are brought to one size (equalisation);
a SiLU does not. So the layers that read the value compute in float, which every target can have; where none reads it, that
which writes it does.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from genie_onnx.graph.query import WEIGHTED_OPS
from genie_onnx.placement.operators import activations, repeated_inputs


def layers_beside(graph: ir.Model, names: Collection[str], apart: Collection[str] = ()) -> dict[str, str]:
    """Return the layers that stay float for the values `names`, with the reason.

    They are those that read one, or what repeats its numbers, up to values `apart` that have grids of their own; of a value
    that no layer reads so, the one that writes it.
    """
    origin = {value: str(value.name) for node in graph.graph for value in node.outputs if value.name in names}
    writers = {str(value.name): value.producer() for value in origin}
    found, read = {}, set()
    for node in graph.graph:
        data = node.inputs[0] if node.inputs else None
        if node.domain == "" and node.op_type in WEIGHTED_OPS:
            if data in origin:
                found[str(node.name)] = f"it reads '{origin[data]}', whose channels are too different for one grid"
                read.add(origin[data])
        elif (first := next((origin[v] for v in repeated_inputs(node) if v in origin), None)) is not None:
            for value in activations(node.outputs):
                if value.name not in apart:
                    origin.setdefault(value, first)
    for name, writer in writers.items():
        if name not in read and writer is not None and writer.domain == "" and writer.op_type in WEIGHTED_OPS:
            found.setdefault(str(writer.name), f"it writes '{name}', whose channels are too different for one grid")
    return found
