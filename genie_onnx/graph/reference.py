"""The layers of another file of a network, to borrow BatchNorm statistics from (`match_batchnorm`).

    ONNX with BatchNormalization kept ─┐
    torch state_dict, safetensors ─────┴─▶ Reference: weights and BatchNorm layers, in the file's order

Nothing says here which BatchNorm follows which weight: a state_dict has no graph. Weights are in torch's layout, which is ONNX's
but for a MatMul or an untransposed Gemm: Conv [O, I/g, k...], ConvTranspose [I, O/g, k...], Linear [O, I].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.graph.query import attribute, bias, channel_axis, constant, weight, weighted_nodes

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

LINEAR_OPS = ("Conv", "ConvTranspose", "Gemm")  # what exporters fold BatchNormalization into
# A state_dict has no epsilon. torch's default, TensorFlow's, and others in published models.
EPSILONS = (1e-5, 1e-3, 1e-4, 1e-6, 1e-8, 1e-12, 2e-5, 1e-2)


@dataclass(frozen=True)
class Layer:
    """A linear layer: `weight` in torch's layout (float32, as nothing is gained by more), `bias` [O]; its place in the file."""

    name: str
    weight: Float32
    bias: Float64 | None
    position: int


@dataclass(frozen=True)
class Norm:
    """A BatchNorm layer, float64 [C] each: y = gamma (x - mean) / sqrt(var + eps) + beta, eps one of `epsilons`."""

    name: str
    gamma: Float64
    beta: Float64
    mean: Float64
    var: Float64
    epsilons: tuple[float, ...]
    position: int


@dataclass(frozen=True)
class Reference:
    """`layers` and `norms` of a file called `name`."""

    name: str
    layers: tuple[Layer, ...]
    norms: tuple[Norm, ...]


def layer_of(node: ir.Node, position: int = 0) -> Layer:
    """Return a Conv, ConvTranspose or Gemm with constant weight as a layer; alpha and beta of a Gemm are multiplied in."""
    array = constant(weight(node))
    assert array is not None, f"{node.op_type} '{node.name}' has no constant weight"
    W = np.asarray(array, np.float32)
    b = constant(bias(node))
    B = None if b is None else _wide(b)
    if node.op_type == "Gemm":
        W = (W if channel_axis(node) == 0 else W.T) * np.float32(attribute(node, "alpha", 1.0))
        B = None if B is None else np.broadcast_to(attribute(node, "beta", 1.0) * B.reshape(-1), len(W))
    return Layer(str(node.name), W, B, position)


def linear_nodes(model: ir.Model) -> list[ir.Node]:
    """Return the nodes of a normalised model that a BatchNormalization may have been folded into, in topological order.

    A Gemm whose constant C has a row for each sample is none.
    """
    return [node for node in weighted_nodes(model) if node.op_type in LINEAR_OPS and _one_bias_a_channel(node)]


def graph_reference(model: ir.Model, name: str) -> Reference:
    """Return the layers of a normalised model."""
    linear = set(linear_nodes(model))
    layers: list[Layer] = []
    norms: list[Norm] = []
    for position, node in enumerate(model.graph):
        if node in linear:
            layers.append(layer_of(node, position))
        elif node.domain == "" and node.op_type == "BatchNormalization":
            gamma, beta, mean, var = (constant(value) for value in node.inputs[1:5])
            if gamma is not None and beta is not None and mean is not None and var is not None:
                eps = attribute(node, "epsilon", 1e-5)
                norms.append(Norm(str(node.name), _wide(gamma), _wide(beta), _wide(mean), _wide(var), (eps,), position))
    return Reference(name, tuple(layers), tuple(norms))


def state_reference(tensors: Mapping[str, npt.NDArray[np.floating]], name: str) -> Reference:
    """Return the layers of a torch state_dict: PREFIX.running_mean makes a BatchNorm, any other tensor of rank 2 or more a layer.

    A BatchNorm without weight and bias (affine=False) has gamma 1 and beta 0.
    """
    layers: list[Layer] = []
    norms: list[Norm] = []
    for position, (key, array) in enumerate(tensors.items()):
        prefix, _, kind = key.rpartition(".")
        siblings = {part: tensors.get(f"{prefix}.{part}".lstrip(".")) for part in ("weight", "bias", "running_var")}
        if kind == "running_mean" and siblings["running_var"] is not None:
            mean, var = _wide(array), _wide(siblings["running_var"])
            gamma = np.ones_like(mean) if siblings["weight"] is None else _wide(siblings["weight"])
            beta = np.zeros_like(mean) if siblings["bias"] is None else _wide(siblings["bias"])
            if mean.shape == var.shape == gamma.shape == beta.shape and mean.ndim == 1:
                norms.append(Norm(prefix or key, gamma, beta, mean, var, EPSILONS, position))
        elif array.ndim >= 2:
            b = siblings["bias"] if kind == "weight" else None
            layers.append(Layer(key, np.asarray(array, np.float32), None if b is None else _wide(b), position))
    return Reference(name, tuple(layers), tuple(norms))


def _wide(array: npt.NDArray[np.generic]) -> Float64:
    return np.asarray(array, np.float64)


def _one_bias_a_channel(node: ir.Node) -> bool:
    b = bias(node)
    if b is None:
        return True
    array = constant(b)
    return array is not None and (array.ndim < 2 or array.shape[0] == 1)
