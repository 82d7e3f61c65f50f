"""Nearly dead channels get scales that half precision holds.

    most    = s_w sum |codes| max |x|       of a channel: whatever the image, it adds no more than that to its bias
    error   = K s / 2 max |x|               nor does rounding its K weights in steps of s change more than that
    dead      most <= SEEN times the step that its output is rounded in; or 2^-12 of its bias, which float16 would not show
              codes 0,                      s >= 2^-14 and s_x s >= 2^k,  k = -14 or, where the bias needs finer steps, less
    faint     error <= SEEN times that step, at an s larger than s_w
              codes rounded once more,      s_x s = 2^k,  -23 <= k <= -14

2^-14 is float16's smallest normal number; powers of two down to 2^-24 are exact in it too. Tools that halve a file, and runtimes
that compute it in halves, keep such scales. Before, a channel like that had steps that fit it, and INT32 codes of its bias in
steps of 1e-9: a converter that lifts those to 1e-7 makes the bias wrong by as much.

Other channels keep what they have. The rule depends on the numbers alone, and simulation and file are both made of its result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.placement import Placement, WeightSpec
from genie_onnx.qparams import FloatArray, QTensor, quantize
from genie_onnx.reconstruct import Codes
from genie_onnx.targets import Constraints

SEEN = 1 / 16  # steps of the output: `most` is reached by no image, and less than that moves next to no code
UNSEEN = 2.0**-12  # of a bias: half of the last bit of a float16
NORMAL = -14  # exponent of float16's smallest normal number ...
SMALLEST = -24  # ... and of its smallest number at all
LARGEST = 2.0**15  # below float16's largest number
FINE = 2.0**-8  # of a bias that is seen as a float: the steps it is stored in, where it is alone in its channel

# Operators that hand on a difference of what they read, and make it no larger (the ends of Clip are constants)
_CARRY = frozenset(
    {"Relu", "Clip", "Identity", "Sigmoid", "Tanh", "Add", "Sub", "Concat", "Split", "Slice", "Reshape", "Flatten", "Transpose"}
    | {"Squeeze", "Unsqueeze", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Pad"}
)

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Channels:
    """Of the channels of a weight, [] or [C] each: which are `dead` to a node, the smallest and the largest scale that those
    should have, and the one that the others may have where theirs is finer (0: none)."""

    dead: npt.NDArray[np.bool_]
    floor: Float64
    ceiling: Float64
    faint: Float64


def with_floored_scales(deploy: ir.Model, placement: Placement, codes: Codes, constraints: Constraints) -> Codes:
    """Return `codes` with larger scales for dead and faint channels of weights. Where there are none that is `codes` itself."""
    nodes = {str(node.name): node for node in deploy.graph}
    steps = _Steps(placement, codes)
    changed = {}
    for spec in placement.weights:
        weight = codes.weights[spec.value]
        found = [_channels(nodes[name], spec, weight, placement, codes, steps) for name in spec.nodes]
        known = [channels for channels in found if channels is not None]
        if not known or len(known) < len(found):
            continue
        own = weight.qparams.scale
        ceiling = np.minimum.reduce([channels.ceiling for channels in known])  # no bias of a tied layer may suffer
        floor = _allowed(np.minimum(np.maximum.reduce([channels.floor for channels in known]), ceiling), constraints)
        faint = _allowed(np.minimum.reduce([channels.faint for channels in known]), constraints)
        dead = np.logical_and.reduce([channels.dead for channels in known])
        scale = np.where(dead, np.maximum(own, floor), np.where(2 * own <= faint, faint, own))
        if (scale > own).any():
            changed[spec.value] = _rounded_again(weight, dead & (scale > own), np.asarray(scale, np.float32))
    return replace(codes, weights={**codes.weights, **changed}) if changed else codes


def _channels(
    node: ir.Node, spec: WeightSpec, weight: QTensor, placement: Placement, codes: Codes, steps: _Steps
) -> _Channels | None:
    """Return what `node` makes of its channels; None where it reads floats, of which nobody knows how large they become."""
    source = node.inputs[0]
    group = None if source is None else placement.activation_of(str(source.name))
    if group is None or not placement.from_floats.isdisjoint(str(value.name) for value in node.outputs):
        return None
    grid = codes.activations[group.name]
    input_scale = float(grid.scale)
    largest = input_scale * max(int(grid.zero_point), grid.qmax - int(grid.zero_point))
    axes = tuple(k for k in range(weight.codes.ndim) if k != weight.qparams.axis)
    sums = np.abs(weight.centred()).sum(axis=axes, dtype=np.float64)
    most = weight.qparams.scale.astype(np.float64) * sums * largest * abs(query.attribute(node, "alpha", 1.0))
    bias, step = _bias(node, codes, most.shape), steps.of(node.outputs[0])
    dead = most <= np.maximum(UNSEEN * bias * abs(query.attribute(node, "beta", 1.0)), 0.0 if step is None else SEEN * step)
    fine = FINE * bias if step is None else np.full(most.shape, SEEN * step)
    exponent = np.floor(np.log2(fine, out=np.full(most.shape, np.inf), where=fine > 0)).clip(min=SMALLEST)
    ceiling = np.minimum(np.exp2(exponent) / input_scale, LARGEST)
    floor = np.full(most.shape, max(2.0**NORMAL / input_scale, 2.0**NORMAL))
    features = weight.codes.size / max(sums.size, 1)
    error = 0.0 if step is None else SEEN * step * 2 / (features * max(largest, 1e-300))
    power = np.floor(np.log2(max(error * input_scale, 1e-300)))
    faint = 0.0 if power <= SMALLEST else 2.0 ** min(power, NORMAL) / input_scale
    return _Channels(dead, floor, ceiling, np.full(most.shape, min(faint, LARGEST)))


def _bias(node: ir.Node, codes: Codes, shape: tuple[int, ...]) -> Float64:
    """Return the smallest magnitude of the biases of each channel; 0 without one."""
    value = query.bias(node)
    floats = None if value is None else codes.biases.get(str(value.name), query.constant(value))
    if floats is None:
        return np.zeros(shape)
    magnitudes = np.abs(np.asarray(floats, np.float64))
    if not shape:
        return np.asarray(magnitudes.min(initial=np.inf))
    return _by_channel(magnitudes, shape[0])


def _by_channel(magnitudes: Float64, channels: int) -> Float64:
    """Return the smallest of `magnitudes` [.., C], [.., g C] or of one number, for each of C `channels`."""
    if magnitudes.size == 1 or magnitudes.shape[-1] == 1:
        return np.full(channels, magnitudes.min())
    return np.asarray(magnitudes.reshape(-1, channels).min(0))


class _Steps:
    """The smallest step in which anything is rounded that a value becomes, by value."""

    def __init__(self, placement: Placement, codes: Codes) -> None:
        self._placement, self._codes = placement, codes
        self._known: dict[ir.Value, float | None] = {}

    def of(self, value: ir.Value) -> float | None:
        """Return it; None where `value` is seen as a float, or by what may make a difference larger."""
        if value not in self._known:
            self._known[value] = self._find(value)
        return self._known[value]

    def _find(self, value: ir.Value) -> float | None:
        group = self._placement.activation_of(str(value.name))
        seen = [n for n in value.consumers() if group is None or self._reads_floats(n)]
        found: list[float | None] = [float(self._codes.activations[group.name].scale)] if group is not None else []
        if value.is_graph_output():
            found.append(None)
        for node in seen:
            carried = node.domain == "" and node.op_type in _CARRY
            found += [self.of(output) for output in node.outputs] if carried else [None]
        steps = [step for step in found if step is not None]
        return min(steps) if steps and len(steps) == len(found) else None

    def _reads_floats(self, node: ir.Node) -> bool:
        return not self._placement.from_floats.isdisjoint(str(output.name) for output in node.outputs)


def _allowed(scale: Float64, constraints: Constraints) -> FloatArray:
    """Return scales that the target can hold: a step of float32 above `scale`, so that products do not end a step below a power
    of two; or the next smaller power of two."""
    if constraints.scales == "power-of-two":
        with np.errstate(divide="ignore"):
            return np.asarray(np.exp2(np.floor(np.log2(scale))), np.float32)
    return np.asarray(np.where(scale > 0, np.nextafter(np.float32(scale), np.float32(np.inf)), 0), np.float32)


def _rounded_again(weight: QTensor, dead: npt.NDArray[np.bool_], scale: FloatArray) -> QTensor:
    """Return `weight` on other scales, to the nearest code where they differ, and its dead channels at zero."""
    axis, rank = weight.qparams.axis, weight.codes.ndim
    along = [1 if axis is None or k != axis else -1 for k in range(rank)]
    moved = quantize(weight.dequantize(), replace(weight.qparams, scale=scale))
    zero = weight.qparams.along(rank)[1]
    codes = np.where((scale > weight.qparams.scale).reshape(along), moved.codes, weight.codes)
    return replace(moved, codes=np.where(dead.reshape(along), zero, codes).astype(np.uint8))
