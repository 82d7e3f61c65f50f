"""The census of BatchNormalization: which values have known moments, and which moments.

    training saw   mean[c] = E[x_c],  std[c] = sqrt(Var[x_c] + eps)     over batch and space, x the input of the BN

These are what images are distilled to match (GENIE-D). A folded BN is gone, so the census needs the graph before
`fold_batchnorm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.graph.query import attribute, constant, is_constant


@dataclass(frozen=True)
class BatchNorm:
    """What one BatchNormalization knows of an activation.

    Invariants: `mean` and `std` are float32 [C], finite, std > 0.
    """

    node: str  # name of the node
    value: str  # name of the value whose moments these are: its input (of one that was folded: its output, `match_batchnorm`)
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    measured: bool = True  # False: still as a layer starts, it has never seen data


def batchnorms(model: ir.Model) -> tuple[BatchNorm, ...]:
    """Return the statistics of every BatchNormalization of a normalised model, in topological order.

    One whose input is constant, or whose statistics are computed, not finite or have var + eps <= 0, tells nothing and is
    left out (`check` has named the latter two).
    """
    return tuple(found for node in model.graph if (found := _statistics(node)) is not None)


Moments = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def deployed_statistics(normalised: ir.Model, deploy: ir.Model, known: Sequence[BatchNorm]) -> dict[str, Moments]:
    """Return mean and std [C] of values of `deploy`, the graph with BatchNormalization folded, that `known` statistics tell of.

    What a folded layer writes has, as training saw it, mean beta and deviation |gamma| sqrt(var / (var + eps)).
    """
    nodes = {str(node.name): node for node in normalised.graph}
    values = {str(v.name): v for node in deploy.graph for v in node.outputs}
    found: dict[str, Moments] = {}
    for statistics in known:
        node = nodes.get(statistics.node)
        folded = node is not None and node.op_type == "BatchNormalization" and statistics.value not in values
        if not folded:
            if statistics.value in values:
                found[statistics.value] = statistics.mean, statistics.std
            continue
        assert node is not None
        output, (gamma, beta, _, var) = str(node.outputs[0].name), (constant(v) for v in node.inputs[1:5])
        if output in values and gamma is not None and beta is not None and var is not None:
            share = np.sqrt(np.clip(np.asarray(var, np.float64), 0, None)) / statistics.std
            found[output] = np.asarray(beta, np.float32), np.asarray(np.abs(gamma) * share, np.float32)
    return found


def _statistics(node: ir.Node) -> BatchNorm | None:
    if node.domain != "" or node.op_type != "BatchNormalization":
        return None
    value, mean, var = node.inputs[0], constant(node.inputs[3]), constant(node.inputs[4])
    if value is None or is_constant(value) or mean is None or var is None:
        return None
    mean64, var64 = np.asarray(mean, np.float64), np.asarray(var, np.float64) + attribute(node, "epsilon", 1e-5)
    if not (np.isfinite(mean64).all() and np.isfinite(var64).all() and (var64 > 0).all()):
        return None
    std64 = np.sqrt(var64)
    measured = not never_measured(mean64, std64)
    return BatchNorm(str(node.name), str(value.name), mean64.astype(np.float32), std64.astype(np.float32), measured)


def never_measured(mean: npt.NDArray[np.floating], std: npt.NDArray[np.floating]) -> bool:
    """Whether a layer still has what it starts with, mean 0 and deviation 1 in all channels.

    Some published models do (BatchNorm frozen while training, or folded by hand): it says nothing about images.
    """
    return not (mean.any() or np.abs(std - 1).max() > 0.01)
