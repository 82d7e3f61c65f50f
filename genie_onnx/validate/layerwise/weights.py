"""Every weight of a quantised file against the float one: how near it is, and how many of its codes it uses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.validate.compare import cosine, sqnr
from genie_onnx.validate.layerwise.findings import WeightFinding
from genie_onnx.validate.layerwise.pairing import Pairing, RoundedConstant
from genie_onnx.validate.layerwise.qdq_graph import Codes


def weight_findings(reference: ir.Model, pairing: Pairing, blocks: Mapping[str, str]) -> tuple[WeightFinding, ...]:
    """Return a finding for each weight that is stored as codes, the least near first. `blocks`: of each node, by names."""
    nodes = {str(node.name): node for node in query.weighted_nodes(reference)}
    readers: dict[str, list[str]] = {}
    first: dict[str, RoundedConstant] = {}
    for constant in pairing.constants:
        if constant.node in nodes and constant.index == 1 and constant.codes is not None:
            readers.setdefault(constant.constant, []).append(constant.node)
            first.setdefault(constant.constant, constant)
    found = []
    for name, constant in first.items():
        node, codes = nodes[constant.node], constant.codes
        floats = query.constant(query.weight(node))
        assert floats is not None
        assert codes is not None
        relative = channels(codes)
        histogram = np.bincount(relative.ravel())
        found.append(
            WeightFinding(
                weight=name,
                nodes=tuple(readers[name]),
                block=blocks[constant.node],
                operator=f"{'depthwise ' if _is_depthwise(node) else ''}{node.op_type}",
                shape=floats.shape,
                bits=codes.bits,
                abits=max((bits for name in readers[name] if (bits := _input_bits(nodes[name], pairing))), default=None),
                sqnr_db=sqnr(floats, constant.numbers),
                cosine=cosine(floats, constant.numbers),
                levels=2**codes.bits,
                used=int(np.count_nonzero(histogram)),
                used_median=float(np.median([len(np.unique(channel)) for channel in relative])),
                low=float(floats.min()),
                high=float(floats.max()),
                grid_low=codes.low,
                grid_high=codes.high,
                histogram=tuple(int(count) for count in histogram),
            )
        )
    return tuple(sorted(found, key=lambda weight: weight.sqnr_db))


def channels(codes: Codes) -> npt.NDArray[np.int64]:
    """Return the codes as [channels, the rest], each channel's counted from its smallest: grids may differ in zero point."""
    array = codes.codes
    rows = array.reshape(1, -1) if codes.axis is None else np.moveaxis(array, codes.axis, 0).reshape(array.shape[codes.axis], -1)
    return rows - rows.min(axis=1, keepdims=True)


def _input_bits(node: ir.Node, pairing: Pairing) -> int | None:
    value = node.inputs[0]
    rounded = None if value is None else pairing.values.get(str(value.name))
    return None if rounded is None or (str(node.name), 0) in pairing.float_reads else rounded.grid.bits


def _is_depthwise(node: ir.Node) -> bool:
    """Whether each output channel of a convolution reads one input channel of several."""
    shape = query.dims(query.weight(node))
    return node.op_type == "Conv" and query.attribute(node, "group", 1) > 1 and shape is not None and shape[1] == 1
