"""Does a file in QONNX form have what its readers take? Read off its Quant nodes, as qonnx, FINN and hls4ml would.

A weight is what its own Quant node makes of it, to the last bit; nothing is left to an operator's defaults; zero points and
scales are those of the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from genie_onnx.targets import QUANT_DOMAIN, Target

_SPELT_OUT = {
    "Conv": ("kernel_shape", "strides", "dilations", "group", "pads"),
    "ConvTranspose": ("kernel_shape", "strides", "dilations", "group"),
    "Gemm": ("alpha", "beta", "transA", "transB"),
}


def broken_quant_rules(proto: onnx.ModelProto, target: Target) -> list[str]:
    """Return a sentence for everything in `proto` that `target`, which takes QONNX, does not admit."""
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    coded = sorted({node.op_type for node in proto.graph.node} & {"QuantizeLinear", "DequantizeLinear"})
    problems = [f"it has {' and '.join(coded)}; grids have to be in Quant nodes"] if coded else []
    for node in proto.graph.node:
        if node.domain == QUANT_DOMAIN:
            problems += [f"'{node.name}' {said}" for said in _of_quant(node, tensors, target)]
        else:
            problems += [f"{node.op_type} '{node.name}' {said}" for said in _of_operator(node, target)]
    return problems


def _of_quant(node: onnx.NodeProto, tensors: Mapping[str, TensorProto], target: Target) -> Iterator[str]:
    if any(name not in tensors for name in node.input[1:]):
        yield "computes its grid; it has to be constant"
        return
    scale, zero_point, bits = (numpy_helper.to_array(tensors[name]) for name in node.input[1:])
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if given.get("rounding_mode") != b"ROUND" or given.get("narrow") != 0 or given.get("signed") not in (0, 1):
        yield f"says {given}; it has to say signed, narrow=0 and rounding_mode=ROUND"
        return
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        yield "has a scale that is not above 0"
        return
    if bits.size != 1 or float(bits.item()) not in range(2, 9):
        yield f"has {bits.tolist()} bits"
        return
    if target.constraints.scales == "power-of-two" and (np.frexp(scale)[0] != 0.5).any():
        yield "has a scale that is no power of two"
    weight = tensors.get(node.input[0])
    unshifted = target.constraints.value_grid == "unshifted" if weight is None else target.constraints.weight_grid == "symmetric"
    if unshifted and zero_point.any():
        yield f"has a zero point, and target {target.name} takes none"
    if weight is not None:
        numbers = numpy_helper.to_array(weight)
        moved = int((numbers != _quant(numbers, scale, zero_point, int(bits.item()), bool(given["signed"]))).sum())
        if moved:
            yield f"changes {moved} of the {numbers.size} numbers of '{weight.name}'"


def _of_operator(node: onnx.NodeProto, target: Target) -> Iterator[str]:
    given = {a.name for a in node.attribute}
    lacking = [name for name in _SPELT_OUT.get(node.op_type, ()) if node.domain == "" and name not in given]
    if lacking:
        yield f"leaves {', '.join(lacking)} to their defaults"
    if node.op_type == "Gemm" and (len(node.input) < 3 or not node.input[2]):
        yield "has no C"
    if target.form.reader == "hls4ml" and node.op_type in ("AveragePool", "GlobalAveragePool"):
        yield "averages, and hls4ml averages over other numbers"


def _quant(
    x: npt.NDArray[Any], scale: npt.NDArray[Any], zero_point: npt.NDArray[Any], bits: int, signed: bool
) -> npt.NDArray[Any]:
    """Return what a Quant node makes of `x` (the QONNX specification, in float32 as its executor computes)."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    codes = np.rint(np.clip(x / scale + zero_point, low, high))
    return np.asarray((codes - zero_point) * scale)
