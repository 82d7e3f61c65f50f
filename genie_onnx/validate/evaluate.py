"""Accuracy on labelled images by onnxruntime at default session options, batch by batch.

top-k = share of samples whose label is among the k largest logits (of equal ones the first class is the larger, as for argmax)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genie_onnx.errors import DataError
from genie_onnx.qparams import FloatArray
from genie_onnx.validate.compare import logits
from genie_onnx.validate.session import Model, Session


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 and top-5 in 0..1 over `samples`; top-5 is None for fewer than six classes."""

    samples: int
    top1: float
    top5: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)


def evaluate(
    model: Model, batches: Iterable[tuple[FloatArray, npt.NDArray[np.integer[Any]]]], output: str | None = None
) -> Accuracy:
    """Return the accuracy of `model` on `batches` of (images [n, C, H, W], labels [n]), read once and not kept.

    The logits are `output`, or the model's first output of shape [N, K] or [N, K, 1, 1]. Raises DataError where there is
    none, where a label is no class, or where there are no images.
    """
    session = Session(model, None if output is None else (output,))
    hits = {1: 0, 5: 0}
    samples = classes = 0
    for images, labels in batches:
        scores = _scores(session, images)
        classes = scores.shape[1]
        if len(labels) != len(scores) or labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
            raise DataError(f"{len(labels)} labels up to {labels.max(initial=0)} for {len(scores)} images and {classes} classes")
        ranks = _ranks(scores, labels)
        for k in hits:
            hits[k] += int((ranks < k).sum())
        samples += len(labels)
    if not samples:
        raise DataError("there are no labelled images to evaluate on")
    return Accuracy(samples=samples, top1=hits[1] / samples, top5=hits[5] / samples if classes > 5 else None)


def _scores(session: Session, images: FloatArray) -> FloatArray:
    """Return logits [n, K] of `images`."""
    if len(session.inputs) != 1:
        raise DataError(f"the model has {len(session.inputs)} inputs; only a model with one image input can be evaluated")
    found = session({session.inputs[0]: images})
    for array in found.values():
        scores = logits(array)
        if scores is not None:
            return scores
    shapes = ", ".join(f"'{name}' {array.shape}" for name, array in found.items())
    raise DataError(f"no output holds class scores [N, K] or [N, K, 1, 1]: {shapes}; only classifiers have a top-1")


def _ranks(scores: FloatArray, labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Return how many classes come before each label: all but those with less, and later ones with as much (NaN: all)."""
    own = scores[np.arange(len(labels)), labels][:, None]
    later = np.arange(scores.shape[1]) >= labels[:, None]
    return np.asarray((~((scores < own) | ((scores == own) & later))).sum(1))
