"""The ceilings of an equalised network: what they cut off is the file's error, in the block that has the Clip.

    Clip(e x, 0, M)    becomes    Min(Clip(e x, 0), c)        c = e M as in the float network, M as in the file

e > 1 is the factor of a channel (graph.channel_scales). So the network computes what the float one does, and `switch` makes the
file's of it, ceilings included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.graph.channel_scales import Factors
from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.names import fresh_name
from genie_onnx.validate.layerwise.pairing import Pairing, RoundedConstant


def lifted(
    reference: ir.Model, pairing: Pairing, blocks: Mapping[str, str], factors: Mapping[str, Factors]
) -> tuple[ir.Model, Pairing, dict[str, str]]:
    """Return a copy of the scaled float graph with the ceilings of the float network, and `pairing` and `blocks` with its nodes.

    `factors` [C] are those of each value that is scaled; `blocks`: the block of each node, by names.
    """
    model, owner, constants = reference.clone(), dict(blocks), list(pairing.constants)
    for node in [n for n in model.graph if n.domain == "" and n.op_type == "Clip" and n.outputs[0].name in factors]:
        ceiling = query.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if ceiling is None or not float(ceiling.reshape(-1)[0]) < np.finfo(np.float32).max:
            continue
        number, value = np.float32(ceiling.reshape(-1)[0]), node.outputs[0]
        e, dims = factors[str(value.name)], query.dims(value)
        assert dims is not None  # known of every value of a normalised graph whose channels are
        along = (e * number).reshape(-1, *(1,) * (len(dims) - 2))
        name = fresh_name(model.graph, f"{value.name}_ceiling")
        least = ir.node("Min", [value, add_initializer(model.graph, name, along)], name=name)
        result = least.outputs[0]
        result.type, result.shape = value.type, value.shape
        node.resize_inputs(2)
        for reader, index in value.uses():
            if reader is not least:
                reader.replace_input_with(index, result)
        model.graph.insert_after(node, least)
        value.name, result.name = fresh_name(model.graph, f"{value.name}_unlimited"), value.name
        owner[name] = blocks[str(node.name)]
        constants.append(RoundedConstant(node=name, index=1, constant=name, numbers=np.full_like(along, number), codes=None))
    return model, dataclasses.replace(pairing, constants=tuple(constants)), owner
