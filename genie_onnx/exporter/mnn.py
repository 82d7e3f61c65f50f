"""The grids of a float model as MNN's converter takes them: compression parameters in JSON (mnnconvert --compressionParamsFile).

A convolution of which input, weight and output all have a grid becomes an integer one, with exactly these codes:

    weight    codes - zero point, which INT8 holds; one scale a channel
    value     codes - offset. Offset = zero point where INT8 holds all codes so, else 128

What has no entry stays float, with the numbers that its codes stand for. Left out on purpose:

    - layers that are no convolution, or a transposed one: MNN takes scales for Conv alone
    - convolutions that read what an Add with a Relu wrote on a grid with a zero point in INT8 (8 bits from 0 on): MNN 3.6.1 adds
      in integers as soon as all three are described, and its Relu cuts at code 0, not at the zero point

`bits` is always 8: it is the width of the container. MNN packs and clips by itself where it reads a smaller number there.

Sources: MNN 3.6.1, MNN_compression.proto and FullQuantAndCoding.cpp, and what was seen in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from genie_onnx.exporter.assemble import Codes
from genie_onnx.placement import Placement, WeightSpec
from genie_onnx.placement.operators import FUSED_ACTIVATIONS, activations, repeated_inputs, sole_reader, written_value
from genie_onnx.qparams import QParams

VERSION = "3.6.1"
INT8 = (-128, 127)


def mnn_parameters(deploy: ir.Model, placement: Placement, codes: Codes) -> dict[str, Any]:
    """Return the file's contents for the convolutions of `deploy`, the graph that the float model has."""
    nodes = {str(node.name): node for node in deploy.graph}
    layers = [
        layer
        for spec in placement.weights
        for name in spec.nodes
        if (layer := _layer(nodes[name], spec, placement, codes)) is not None
    ]
    quantize = {"type": "QUANTIZE", "quantParams": {"roundMode": "ROUND_HALF_TO_EVEN", "layer": layers}}
    return {"version": VERSION, "algo": [quantize]}


def _layer(node: ir.Node, spec: WeightSpec, placement: Placement, codes: Codes) -> dict[str, Any] | None:
    """Return the entry of a convolution, None where it stays float."""
    read, written = node.inputs[0], written_value(node)
    if node.domain != "" or node.op_type != "Conv" or read is None:
        return None
    if len(read.shape or ()) != 4:
        return None  # MNN has integer kernels for pictures alone
    grids = {}
    for value in (read, written):
        group = placement.activation_of(str(value.name))
        if group is None:
            return None
        grids[value] = codes.activations[group.name]
    if _adds_and_cuts(read) and _offset(grids[read]) != int(grids[read].zero_point):
        return None
    weight = codes.weights[spec.value]
    centred = weight.centred()
    entry = {
        "name": spec.value,
        "bits": 8,
        "scales": np.broadcast_to(weight.qparams.scale, centred.shape[:1]).tolist(),
        "clampMin": int(centred.min()),
        "clampMax": int(centred.max()),
    }
    return {
        "opName": str(written.name),
        "input": [_value(str(read.name), grids[read])],
        "weight": [entry],
        "output": [_value(str(written.name), grids[written])],
    }


def _value(name: str, grid: QParams) -> dict[str, Any]:
    offset = _offset(grid)
    return {
        "name": name,
        "bits": 8,
        "scales": [float(grid.scale)],
        "zeroPoint": int(grid.zero_point) - offset,
        "clampMin": -offset,
        "clampMax": grid.qmax - offset,
    }


def _offset(grid: QParams) -> int:
    """Return what is taken from the codes, so that INT8 holds them: the zero point where that does."""
    zero_point = int(grid.zero_point)
    return zero_point if INT8[0] <= -zero_point and grid.qmax - zero_point <= INT8[1] else 128


def _adds_and_cuts(value: ir.Value) -> bool:
    """Whether a Relu behind an Add makes `value`, or what it repeats numbers of."""
    node = value.producer()
    if node is None:
        return False
    if repeated := activations(repeated_inputs(node)):
        return any(_adds_and_cuts(v) for v in repeated)
    if node.op_type not in FUSED_ACTIVATIONS or (made := node.inputs[0]) is None:
        return False
    add = made.producer()
    return add is not None and add.op_type == "Add" and sole_reader(made) is node
