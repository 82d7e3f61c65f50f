"""Resize: nearest, linear and cubic, for every coordinate mode but tf_crop_and_resize.

Resizing is separable. Along one axis, output pixel i lies at coordinate c(i) of the input (coordinate_transformation_mode in the
ONNX specification), and

    nearest   y[i] = x[round(c(i))]                          rounding by nearest_mode
    linear    y[i] = sum over 2 taps w[i, t] * x[k[i, t]]    w = 1 - |c(i) - k|
    cubic     y[i] = sum over 4 taps w[i, t] * x[k[i, t]]    w = the cubic kernel with coefficient a (Keys 1981)

with indices clamped to the edge. Indices and weights depend on the sizes alone; `axis_taps` makes them in float32, operation for
operation as onnxruntime does, so that no coordinate falls on the other side of a rounding. Where torch's own interpolation has
the same table it is used, being quicker.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.importer.operation import NodeReader, Operation

_MODES = ("nearest", "linear", "cubic")
_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn")
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_POLICIES = ("stretch", "not_larger", "not_smaller")


@dataclass(frozen=True)
class Rule:
    """How coordinates become pixels: the attributes of a Resize node under their ONNX names."""

    mode: str
    coordinates: str
    nearest: str
    cubic_coeff: float
    exclude_outside: bool


@dataclass(frozen=True)
class Taps:
    """Along one axis: indices int64 [out, T] into the input, and weights float32 [out, T] (nearest: T = 1, weight 1)."""

    indices: Tensor
    weights: Tensor


def axis_coordinates(rule: Rule, size: int, out: int, scale: float) -> np.ndarray:
    """c(i) for i in 0..out-1 as float32 [out], not clamped. `scale` is the node's own, which may differ from out / size."""
    i = np.arange(out, dtype=np.float32)
    step = np.float32(scale)
    half = np.float32(0.5)
    if rule.coordinates == "asymmetric":
        return i / step
    if rule.coordinates == "align_corners":
        return np.zeros_like(i) if out == 1 else i * np.float32(size - 1) / np.float32(out - 1)
    if rule.coordinates == "tf_half_pixel_for_nn":
        return (i + half) / step
    if rule.coordinates == "pytorch_half_pixel" and out == 1:
        return np.zeros_like(i)
    if rule.coordinates == "half_pixel_symmetric":  # its last sum is in double precision there
        adjustment = np.float32(out) / (step * np.float32(size))
        offset = np.float32(size) / np.float32(2) * (np.float32(1) - adjustment)
        return (offset + (i.astype(np.float64) + 0.5) / step - 0.5).astype(np.float32)
    return (i + half) / step - half


@lru_cache(maxsize=256)
def axis_taps(rule: Rule, size: int, out: int, scale: float) -> Taps:
    """The table of one axis. Cached, as a network asks the same at every step: do not write to the result."""
    c = axis_coordinates(rule, size, out, scale)
    if rule.mode == "nearest":
        indices = np.clip(_round(c, rule.nearest), 0, size - 1).astype(np.int64)[:, None]
        return Taps(torch.from_numpy(indices), torch.ones(out, 1))
    if rule.mode == "linear":
        c = np.clip(c, 0, size - 1)
        below = np.floor(c)
        fraction = c - below
        indices = np.stack([below, np.minimum(below + 1, size - 1)], axis=1).astype(np.int64)
        weights = np.stack([1 - fraction, fraction], axis=1)
        return Taps(torch.from_numpy(indices), torch.from_numpy(weights.astype(np.float32)))
    below = np.floor(c)
    fraction = c - below
    a = np.float32(rule.cubic_coeff)
    places = below[:, None] + np.arange(-1, 3, dtype=np.float32)
    distance = np.abs(fraction[:, None] - np.arange(-1, 3, dtype=np.float32))
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    weights = np.where(distance <= 1, near, far).astype(np.float32)
    if rule.exclude_outside:
        weights = np.where((places < 0) | (places >= size), np.float32(0), weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    return Taps(torch.from_numpy(np.clip(places, 0, size - 1).astype(np.int64)), torch.from_numpy(weights))


def _round(c: np.ndarray, mode: str) -> np.ndarray:
    below, above = np.floor(c), np.ceil(c)
    if mode in ("floor", "ceil"):
        return below if mode == "floor" else above
    # onnxruntime (1.31, measured) takes all within 1e-6 of a half for a half; scales are rounded, 1 / (2 / 7) gives 3.4999998
    halfway = np.abs(c - below - np.float32(0.5)) <= np.float32(1e-6)
    return np.where(halfway, above if mode == "round_prefer_ceil" else below, np.rint(c))


def torch_mode(
    rule: Rule, sizes: tuple[int, ...], outs: tuple[int, ...], scales: tuple[float, ...]
) -> tuple[str, bool | None] | None:
    """(mode, align_corners) of the torch.nn.functional.interpolate that has the very tables of `rule`, None if there is none.

    Sizes, outs and scales are those of the spatial axes, the ones that torch can resize.

    torch.compile cannot trace it: who compiles marks it by torch.compiler.assume_constant_result. It is not marked here, because
    that imports torch's compiler, a second of every start.
    """
    return _torch_mode(rule, sizes, outs, scales)


@lru_cache(maxsize=256)
def _torch_mode(
    rule: Rule, sizes: tuple[int, ...], outs: tuple[int, ...], scales: tuple[float, ...]
) -> tuple[str, bool | None] | None:
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}.get(len(sizes))
    if linear is None or rule.mode == "cubic":
        return None
    candidates: list[tuple[str, bool | None, Rule]] = [
        ("nearest", None, Rule("nearest", "asymmetric", "floor", 0.0, False)),
        (linear, False, Rule("linear", "half_pixel", "", 0.0, False)),
        (linear, True, Rule("linear", "align_corners", "", 0.0, False)),
    ]
    wanted = [axis_taps(rule, *axis) for axis in zip(sizes, outs, scales, strict=True)]
    for mode, align, its_rule in candidates:
        its = [axis_taps(its_rule, size, out, out / size) for size, out in zip(sizes, outs, strict=True)]
        if all(torch.equal(a.indices, b.indices) and torch.equal(a.weights, b.weights) for a, b in zip(wanted, its, strict=True)):
            return mode, align
    return None


class Resize(nn.Module):
    """forward(x), or forward(x, scales or sizes) where they are computed; `scales` or `sizes` are those of `axes` (None: all)."""

    def __init__(
        self,
        rule: Rule,
        scales: tuple[float, ...] | None,
        sizes: tuple[int, ...] | None,
        axes: tuple[int, ...] | None,
        policy: str,
        by_size: bool,
    ) -> None:
        super().__init__()
        self.rule = rule
        self.scales = scales
        self.sizes = sizes
        self.axes = axes
        self.policy = policy
        self.by_size = by_size

    def forward(self, x: Tensor, computed: Tensor | None = None) -> Tensor:
        given = (self.sizes if self.by_size else self.scales) if computed is None else tuple(computed.tolist())
        assert given is not None
        sizes = tuple(x.shape)
        outs, scales = self._target(sizes, given)
        if outs == sizes:  # onnxruntime copies, whatever the scales
            return x
        if outs[:2] == sizes[:2]:
            native = torch_mode(self.rule, sizes[2:], outs[2:], scales[2:])
            if native is not None:
                return F.interpolate(x, size=outs[2:], mode=native[0], align_corners=native[1])
        for axis, (size, out, scale) in enumerate(zip(sizes, outs, scales, strict=True)):
            if size != out or scale != 1:
                x = _apply(x, axis, _taps_on(x.device, x.dtype, self.rule, size, out, scale))
        return x

    def _target(self, shape: tuple[int, ...], given: tuple[float, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Output size and scale of every axis. By scales the size is floor(size * scale), in float32 as onnxruntime has it."""
        rank = len(shape)
        axes = range(rank) if self.axes is None else [axis % rank for axis in self.axes]
        outs, scales = list(shape), [1.0] * rank
        if self.by_size and self.policy != "stretch":
            ratios = [np.float32(size) / np.float32(shape[axis]) for axis, size in zip(axes, given, strict=True)]
            ratio = min(ratios) if self.policy == "not_larger" else max(ratios)
            given = tuple(int(np.floor(ratio * np.float32(shape[axis]) + np.float32(0.5))) for axis in axes)
            for axis, size in zip(axes, given, strict=True):
                outs[axis], scales[axis] = int(size), float(ratio)
            return tuple(outs), tuple(scales)
        for axis, value in zip(axes, given, strict=True):
            if self.by_size:
                outs[axis], scales[axis] = int(value), float(np.float32(value) / np.float32(shape[axis]))
            else:
                outs[axis], scales[axis] = int(np.float32(value) * np.float32(shape[axis])), float(value)
        return tuple(outs), tuple(scales)

    def extra_repr(self) -> str:
        return f"{self.rule}, scales={self.scales}, sizes={self.sizes}"


@lru_cache(maxsize=256)
def _taps_on(device: torch.device, dtype: torch.dtype, rule: Rule, size: int, out: int, scale: float) -> Taps:
    """`axis_taps` on a device, weights of some type. Cached: a step that is captured in a CUDA graph may copy nothing there."""
    taps = axis_taps(rule, size, out, scale)
    return Taps(taps.indices.to(device), taps.weights.to(device, dtype))


def _apply(x: Tensor, axis: int, taps: Taps) -> Tensor:
    """Resamples one axis of x by the table, which is on its device."""
    indices, weights = taps.indices, taps.weights
    if indices.shape[1] == 1:
        return x.index_select(axis, indices[:, 0])
    shape = [-1 if i == axis else 1 for i in range(x.dim())]
    terms = [x.index_select(axis, indices[:, t]) * weights[:, t].reshape(shape) for t in range(indices.shape[1])]
    return torch.stack(terms).sum(0)


def resize(node: NodeReader) -> Operation:
    mode, coordinates = node.text("mode", "nearest"), node.text("coordinate_transformation_mode", "half_pixel")
    nearest, policy = node.text("nearest_mode", "round_prefer_floor"), node.text("keep_aspect_ratio_policy", "stretch")
    for name, value, supported in (
        ("mode", mode, _MODES),
        ("coordinate_transformation_mode", coordinates, _COORDINATES),
        ("nearest_mode", nearest, _NEAREST),
        ("keep_aspect_ratio_policy", policy, _POLICIES),
    ):
        if value not in supported:
            raise node.refuse(f"{name}={value}", ", ".join(supported))
    if node.integer("antialias", 0):
        raise node.refuse("antialias=1", "antialias=0")
    scales = node.array(2)
    by_size = node.has(3)
    if not by_size and (not node.has(2) or (scales is not None and scales.size == 0)):
        raise node.refuse("neither scales nor sizes are given", "one of them")
    rule = Rule(mode, coordinates, nearest, node.number("cubic_coeff_a", -0.75), bool(node.integer("exclude_outside", 0)))
    constant_scales = None if by_size or scales is None else tuple(float(scale) for scale in scales)
    sizes = node.constant_integers(3)
    axes = node.integers("axes") if node.has_attribute("axes") else None
    module = Resize(rule, constant_scales, sizes, axes, policy, by_size)
    computed = () if constant_scales is not None or sizes is not None else (3 if by_size else 2,)
    return Operation(module, sizes=computed)
