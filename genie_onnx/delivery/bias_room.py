"""Weights whose scales are too small for the bias beside them get larger ones, so that INT32 holds every bias.

    bias codes = b / (s_x s_w)        have to stay within ROOM        so        s_w >= |b| / (ROOM s_x)        in each channel

A channel in which that is not so adds next to nothing to its bias: K products of at most 255 x 127 codes, against 2^30 codes.
What the larger scale takes from its weights is below K 2^-22 of the bias, where 8 bits of an output that has the bias in it tell
2^-8; of weights that are smaller still nothing is left, and nothing of them would show. Every form of layer and every target can
hold that, as nothing is left in float. Such are layers scaled down by 1e-5 throughout, and branches that a BatchNormalization
has switched off (a gamma of 1e-8).

A bias on a grid of its own would not do: where both scales are below about 1e-6, onnxruntime (1.31.1) was seen to add its codes
as if they were on s_x s_w.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.placement import Placement, WeightSpec
from genie_onnx.qparams import FloatArray, QTensor, quantize
from genie_onnx.reconstruct import Codes
from genie_onnx.targets import Constraints

ROOM = 2**30  # codes; the other half of INT32 is for the products, which are added up in the same register
LEAST = 1e-34  # of s_x s_w: far enough from float32's smallest normal number for a bias of a few codes


def with_room_for_biases(deploy: ir.Model, placement: Placement, codes: Codes, constraints: Constraints) -> Codes:
    """Return `codes` with larger weight scales where a bias of `deploy`, or of `codes`, overflows INT32 or nearly so.

    Weights are rounded once more there, to the nearest code. Where nothing overflows the result is `codes` itself.
    """
    nodes = {str(node.name): node for node in deploy.graph}
    changed = {}
    for spec in placement.weights:
        weight = codes.weights[spec.value]
        least = _least_scale(spec, [nodes[name] for name in spec.nodes], placement, codes, weight.qparams.scale.shape)
        if (least > weight.qparams.scale).any():
            changed[spec.value] = _coarser(weight, _allowed(np.maximum(weight.qparams.scale, least), constraints))
    return replace(codes, weights={**codes.weights, **changed}) if changed else codes


def _least_scale(
    spec: WeightSpec, nodes: list[ir.Node], placement: Placement, codes: Codes, shape: tuple[int, ...]
) -> FloatArray:
    """Return the smallest scales (of `shape`, [] or [C]) at which the biases of all `nodes` fit; 0 where there are none."""
    least = np.zeros(shape)
    for node in nodes:
        value = query.bias(node)
        floats = None if value is None else codes.biases.get(str(value.name), query.constant(value))
        group = None if node.inputs[0] is None else placement.activation_of(str(node.inputs[0].name))
        if floats is None or group is None or not np.any(floats):
            continue
        input_scale = float(codes.activations[group.name].scale)
        wanted = np.maximum(np.abs(np.asarray(floats, np.float64)) / ROOM, LEAST) / input_scale
        wanted = wanted.reshape(-1, wanted.shape[-1]).max(0) if wanted.ndim else wanted
        least = np.maximum(least, wanted if shape else wanted.max())
    return np.nextafter(least.astype(np.float32), np.float32(np.inf)) if least.any() else np.zeros(shape, np.float32)


def _allowed(scale: FloatArray, constraints: Constraints) -> FloatArray:
    """Return the next larger scales that the target can hold."""
    if constraints.weight_scale == "tensor":
        scale = np.full_like(scale, scale.max())
    if constraints.scales == "power-of-two":
        scale = np.exp2(np.ceil(np.log2(scale.astype(np.float64)))).astype(np.float32)
    return scale


def _coarser(weight: QTensor, scale: FloatArray) -> QTensor:
    return quantize(weight.dequantize(), replace(weight.qparams, scale=scale))
