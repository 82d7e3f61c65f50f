"""Images to try a model file on: the user's, else procedural ones that fit its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx import graph
from genie_onnx.data import PathLike, Preprocess, listed, load_images
from genie_onnx.errors import ModelError
from genie_onnx.framing import Layout, LayoutChoice
from genie_onnx.graph import query
from genie_onnx.preprocessing import Preprocessing
from genie_onnx.seeds import stream
from genie_onnx.synthesis import procedural


@dataclass(frozen=True)
class Taking:
    """What a file takes: C, H, W of a sample, where its input has the channels, how many samples at a time (1: that is open)."""

    shape: tuple[int, int, int]
    layout: Layout
    batch: int


def taking(model: ir.Model, path: Path, input_size: tuple[int, int] | None, layout: LayoutChoice) -> Taking:
    """Return what the file of a loaded `model` takes. Raises ModelError for what is no image, or leaves its size open."""
    dims = query.input_shape(model) if len(model.graph.inputs) == 1 else ()
    found = graph.image_layout(model) if layout == "auto" else layout
    channels, *size = graph.sample_sizes(model, found) if len(dims) == 4 else (None,)
    if channels is None:
        shapes = ", ".join(f"'{value.name}' {value.shape}" for value in model.graph.inputs)
        raise ModelError(f"{path} must have one input [N, C, H, W] or [N, H, W, C] with a fixed C, but has {shapes}")
    height, width = (fixed or given for fixed, given in zip(size, input_size or (None, None), strict=True))
    if height is None or width is None:
        raise ModelError(f"{path} leaves height or width of its input open: give a size with --input-size HxW")
    return Taking((channels, height, width), found, dims[0] or 1)


def trial_images(
    model: ir.Model,
    takes: Taking,
    data: PathLike | Sequence[PathLike],
    preprocessing: Preprocessing,
    *,
    samples: int,
    seed: int,
) -> npt.NDArray[np.float32]:
    """Return at most `samples` images of `data`, float32 as the model is fed; without, as many procedural ones.

    Those have the mean and deviation of photographs behind this preprocessing, where it is given; else they are stretched over
    the grid of the input, where the quantised `model` has one, so that they exercise all its codes.
    """
    shape, layout = takes.shape, takes.layout
    if data:
        images = load_images(listed(data), shape, preprocessing, layout=layout, limit=samples).numpy()
    elif preprocessing.mean is not None and preprocessing.std is not None:
        # whatever size pictures have: there are none
        images = _made(samples, shape, seed, Preprocess.of(shape, replace(preprocessing, framing=None)).statistics())
    else:
        images = _within(_made(samples, shape, seed, (None, None)), _grid(model))
    return graph.as_fed(images, layout)


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
