"""Images to try a model file on: the user's, else procedural ones that fit its input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.data import Order, PathLike, Preprocess, listed, load_images
from genie_onnx.errors import ModelError
from genie_onnx.framing import Framing
from genie_onnx.graph import query
from genie_onnx.seeds import stream
from genie_onnx.synthesis import procedural


def sample_shape(model: ir.Model, path: Path, input_size: tuple[int, int] | None) -> tuple[tuple[int, int, int], int]:
    """Return C, H, W of a sample and how many samples the file takes at a time: 1 where that is open."""
    dims = query.input_shape(model) if len(model.graph.inputs) == 1 else ()
    if len(dims) != 4 or dims[1] is None:
        shapes = ", ".join(f"'{value.name}' {value.shape}" for value in model.graph.inputs)
        raise ModelError(f"{path} must have one input [N, C, H, W] with a fixed C, but has {shapes}")
    height, width = (fixed or given for fixed, given in zip(dims[2:], input_size or (None, None), strict=True))
    if height is None or width is None:
        raise ModelError(f"{path} leaves height or width of its input open: give a size with --input-size HxW")
    return (dims[1], height, width), dims[0] or 1


def trial_images(
    model: ir.Model,
    shape: tuple[int, int, int],
    data: PathLike | Sequence[PathLike],
    *,
    samples: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    order: Order,
    framing: Framing | None,
    seed: int,
) -> npt.NDArray[np.float32]:
    """Return at most `samples` images float32 [N, C, H, W] of `data`; without, as many procedural ones.

    Those have the mean and deviation of photographs behind this preprocessing, where it is given; else they are stretched over
    the grid of the input, where the quantised `model` has one, so that they exercise all its codes.
    """
    if data:
        return load_images(listed(data), shape, mean=mean, std=std, order=order, framing=framing, limit=samples).numpy()
    if mean is not None and std is not None:
        space = Preprocess(shape=shape, mean=tuple(mean), std=tuple(std), order=order)
        return _made(samples, shape, seed, space.statistics())
    return _within(_made(samples, shape, seed, (None, None)), _grid(model))


def _made(
    count: int, shape: tuple[int, int, int], seed: int, statistics: tuple[Sequence[float], Sequence[float]] | tuple[None, None]
) -> np.ndarray:
    """Return procedural images float32 [count, C, H, W] with these means and deviations."""
    mean, std = statistics
    return procedural(count, shape, mean=mean, std=std, generator=stream(seed, "verify")).numpy()


def _within(images: np.ndarray, grid: tuple[float, float] | None) -> np.ndarray:
    """Return `images` stretched over `grid`, so that they exercise all codes of the input."""
    if grid is None:
        return images
    low, high = grid
    return np.asarray(low + (high - low) * (images - images.min()) / max(float(np.ptp(images)), 1e-6), np.float32)


def _grid(model: ir.Model) -> tuple[float, float] | None:
    """Return the smallest and largest number that the file's input can be after its rounding, None where it is not rounded."""
    rounding = (node for node, _ in model.graph.inputs[0].uses() if node.op_type == "QuantizeLinear" and len(node.inputs) == 3)
    for node in rounding:
        scale, zero_point = (query.constant(value) for value in node.inputs[1:])
        if scale is not None and zero_point is not None and scale.size == 1:
            codes = np.iinfo(zero_point.dtype.name)
            low, high = (float((code - zero_point.item()) * scale.item()) for code in (codes.min, codes.max))
            return low, high
    return None
