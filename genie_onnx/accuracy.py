"""Accuracy of model files on labelled images, by onnxruntime at its default options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from genie_onnx import graph, validate
from genie_onnx.data import Order, PathLike, open_labelled
from genie_onnx.errors import ModelError
from genie_onnx.graph import query
from genie_onnx.validate import Accuracy

BATCH = 50


def evaluate(
    model: PathLike,
    data: Sequence[PathLike],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    order: Order = "rgb",
    limit: int | None = None,
    input_size: tuple[int, int] | None = None,
    set_inputs: Mapping[str, Sequence[float]] | None = None,
) -> Accuracy:
    """Return top-1 and top-5 of a float or quantised `model` on class-folder trees or npz files with labels.

    `mean` and `std` normalise pictures scaled to 0..1 (data.Preprocess). Samples are read batch by batch.
    `set_inputs` has numbers for inputs beside the image (graph.fix_inputs); a model without them needs none.
    Raises ModelError, ConfigError and DataError for what cannot be used.
    """
    loaded = graph.load(model)
    if set_inputs and len(loaded.graph.inputs) > 1:
        graph.fix_inputs(loaded, set_inputs)
    graph.widen(loaded)
    if len(loaded.graph.inputs) != 1:
        names = ", ".join(repr(value.name) for value in loaded.graph.inputs)
        raise ModelError(f"{model} has {len(loaded.graph.inputs)} inputs ({names}): fix those beside the image with --set-input.")
    dims = query.input_shape(loaded)
    if len(dims) != 4 or dims[1] is None:
        raise ModelError(f"{model}: the input must be [N, C, H, W] with a fixed C, but it is {list(dims)}")
    height, width = (fixed or given for fixed, given in zip(dims[2:], input_size or (None, None), strict=True))
    if height is None or width is None:
        raise ModelError(f"{model} leaves height or width of its input open: give a size with --input-size HxW")
    samples = open_labelled(data, (dims[1], height, width), mean=mean, std=std, order=order, limit=limit)
    labels = samples.labels.numpy()

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        start = 0
        for batch in samples.batches(BATCH):
            yield batch.numpy(), labels[start : start + len(batch)]
            start += len(batch)

    return validate.evaluate(ir.to_proto(loaded), batches())
