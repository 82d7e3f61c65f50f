"""Statistics for a network whose BatchNormalization was folded, from another file of the same network.

    folded (W', b')  =  (s W, s (b - mu) + beta),    s = gamma / sqrt(var + eps)         per output channel

Every Conv, ConvTranspose and Gemm of the model is looked up in the file by its numbers: a layer whose rows are those of W' up to
one factor a channel (which is s), then a BatchNorm with that s and with beta as b' needs it; or the very layer, where nothing was
folded into it. What the BatchNorm measured at its input x then gives the moments of the folded layer's output y, which is
gamma (x - mu) / sqrt(var + eps) + beta:

    E[y] = beta,    Var[y] = gamma^2 var / (var + eps),    std = sqrt(Var[y] + eps)          as in `batchnorms`

Names and the order of layers are not relied on; of several BatchNorms that fit, the nearest behind the layer is taken. A layer
that is not found means another network, or another training of it, whose statistics would be wrong: then nothing is borrowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from genie_onnx.errors import ConfigError
from genie_onnx.graph.batchnorms import BatchNorm, never_measured
from genie_onnx.graph.query import attribute
from genie_onnx.graph.reference import Float32, Float64, Layer, Norm, Reference, layer_of, linear_nodes

# Exporters fold in float32: 2e-7 of a channel's largest weight (measured on two pairs of files). Another training is off by 1.
TOLERANCE = 1e-4  # of the largest number in a channel
FLOOR = 1e-7  # of the largest number of all channels: a channel that is zero for all purposes


@dataclass(frozen=True)
class _Target:
    """A layer of the model: `rows` [O, K] of its weight, `bias` [O], and how far each may be off."""

    node: ir.Node
    shape: tuple[int, ...]
    rows: Float32
    bias: Float64
    tolerance: Float64  # [O], of `rows`


def borrow(model: ir.Model, reference: Reference) -> tuple[BatchNorm, ...]:
    """Return the statistics of the outputs of folded layers of a normalised `model`, in topological order.

    Layers that have their own BatchNormalization, or never had one, get none. Raises ConfigError, in one line, where `reference`
    has no statistics, or is of another network: with the first layer that it does not explain.
    """
    if not reference.norms:
        raise ConfigError(
            f"{reference.name} has no BatchNorm statistics: give an ONNX file with BatchNormalization kept, or a state_dict"
        )
    found: list[BatchNorm] = []
    with np.errstate(over="ignore", invalid="ignore"):  # numbers of a file that may be anything: they fit or they do not
        for node in linear_nodes(model):
            fitting = _find(_target(node), reference)
            if isinstance(fitting, tuple):
                found.append(_statistics(str(node.outputs[0].name), *fitting))
    if not found:
        raise ConfigError(
            f"{reference.name} is of the same network, but no BatchNorm of it is folded in the model: there is nothing to borrow"
        )
    return tuple(found)


def _statistics(value: str, norm: Norm, eps: float) -> BatchNorm:
    """Return what `norm` says of the output `value` of the layer it was folded into."""
    variance = norm.gamma**2 * norm.var / (norm.var + eps)
    std = np.sqrt(np.maximum(variance + eps, np.finfo(np.float32).tiny))
    measured = not never_measured(norm.mean, np.sqrt(norm.var + eps))
    return BatchNorm(norm.name, value, norm.beta.astype(np.float32), std.astype(np.float32), measured)


def _target(node: ir.Node) -> _Target:
    layer = layer_of(node)
    rows = _rows(node, layer.weight)
    tolerance = TOLERANCE * np.abs(rows).max(axis=1, initial=0) + FLOOR * np.abs(rows).max(initial=0)
    return _Target(node, layer.weight.shape, rows, _bias(layer, len(rows)), np.maximum(tolerance, np.finfo(np.float32).tiny))


def _find(target: _Target, reference: Reference) -> tuple[Norm, float] | Layer:
    """Return the BatchNorm in `target`, with its epsilon; or, where none is folded in it, the layer itself."""
    who = f"{target.node.op_type} '{target.node.name}'"
    ask = "give a file of the very network, with the same training, that the model was exported from"
    biases = (None, target.bias.shape)
    alike = [
        a for a in reference.layers if a.weight.shape == target.shape and (None if a.bias is None else a.bias.shape) in biases
    ]
    if not alike:
        raise ConfigError(
            f"{reference.name} is not of the same network: {who} has a weight {list(target.shape)}, and nothing in it has; {ask}"
        )
    nearest: tuple[float, str] = (np.inf, "")
    proportional: list[tuple[Layer, Float32]] = []
    for layer in alike:
        rows = _rows(target.node, layer.weight)
        off = _off(target, rows, _factors(target.rows, rows))
        nearest = min(nearest, (off, layer.name))
        if off <= 1:
            proportional.append((layer, rows))
    if not proportional:
        raise ConfigError(
            f"{reference.name} does not fit the model: the weight of {who} is not that of any layer in it, scaled by channel "
            f"(the nearest, '{nearest[1]}', is off by {nearest[0] * TOLERANCE:.2g} of a channel's largest weight); {ask}"
        )
    for layer, rows in proportional:
        if _is(target, layer, rows):
            return layer
        for norm, eps in _candidates(layer, len(rows), reference):
            if _explains(target, layer, rows, norm, eps):
                return norm, eps
    raise ConfigError(
        f"{reference.name} does not fit the model: {who} has the weight of '{proportional[0][0].name}' in it, but no BatchNorm "
        f"there gives its scale and bias; {ask}"
    )


def _off(target: _Target, rows: Float32, factors: Float64) -> float:
    """Return how far factors [O] x `rows` are from the rows of `target`, 1 being what is tolerated."""
    difference = factors.astype(np.float32)[:, None] * rows
    difference -= target.rows
    return float((np.abs(difference, out=difference).max(axis=1, initial=0) / target.tolerance).max(initial=0))


def _is(target: _Target, layer: Layer, rows: Float32) -> bool:
    """Whether `target` is `layer`, with nothing folded in."""
    bias = _bias(layer, len(rows))
    close = np.abs(bias - target.bias) <= TOLERANCE * np.abs(bias) + FLOOR * np.abs(bias).max(initial=0)
    return bool(close.all()) and _off(target, rows, np.ones(len(rows))) <= 1


def _candidates(layer: Layer, channels: int, reference: Reference) -> Iterator[tuple[Norm, float]]:
    """Yield BatchNorms of as many channels with each epsilon they may have: those behind the layer first, nearest first."""
    fitting = [norm for norm in reference.norms if len(norm.mean) == channels]
    for norm in sorted(fitting, key=lambda n: (n.position < layer.position, abs(n.position - layer.position))):
        for eps in norm.epsilons:
            if (norm.var + eps > 0).all():
                yield norm, eps


def _explains(target: _Target, layer: Layer, rows: Float32, norm: Norm, eps: float) -> bool:
    """Whether `target` is `layer` with `norm` folded in."""
    s = norm.gamma / np.sqrt(norm.var + eps)
    b = _bias(layer, len(rows))
    bias = norm.beta + s * (b - norm.mean)
    scale = np.abs(norm.beta) + np.abs(s) * (np.abs(b) + np.abs(norm.mean))  # what cancels in the sum is lost in float32
    if not (np.abs(bias - target.bias) <= TOLERANCE * scale + FLOOR * scale.max(initial=0)).all():
        return False
    return _off(target, rows, s) <= 1


def _factors(folded: Float32, rows: Float32) -> Float64:
    """Return the factor a channel, [O], by which `rows` [O, K] are nearest to `folded`; 0 for a row of zeros."""
    power = np.einsum("ok,ok->o", rows, rows, dtype=np.float64)
    return np.divide(np.einsum("ok,ok->o", rows, folded, dtype=np.float64), power, out=np.zeros_like(power), where=power > 0)


def _rows(node: ir.Node, W: Float32) -> Float32:
    """Return W (torch's layout) as [O, K]: one row for each output channel of `node`."""
    if node.op_type != "ConvTranspose":
        return W.reshape(len(W), -1)
    groups = attribute(node, "group", 1)
    split = W.reshape(groups, W.shape[0] // groups, W.shape[1], -1)  # [g, I/g, O/g, k]
    return split.transpose(0, 2, 1, 3).reshape(groups * W.shape[1], -1)


def _bias(layer: Layer, channels: int) -> Float64:
    return np.zeros(channels) if layer.bias is None else layer.bias
