"""How many samples a classifier has right, of which classes it takes which for others: logits and labels in, shares out.

top-k = share of samples whose label is among the k largest logits (of equal ones the first class is the larger, as for argmax)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genie_onnx.errors import DataError
from genie_onnx.qparams import FloatArray
from genie_onnx.validate.compare import logits
from genie_onnx.validate.session import Array
from genie_onnx.validate.statistics import Figure, PairedDifference, paired_shares, wilson

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Confusion:
    """`count` samples of the class `label` were taken for the class `predicted`."""

    label: int
    predicted: int
    count: int


class Classification:
    """What one model says of all samples. Told batch by batch, in the order of the labels."""

    def __init__(self, labels: Labels) -> None:
        """`labels`: class indices of all samples, int64 [N], N at least 1."""
        self._labels = labels
        self._predicted: list[Labels] = []
        self._ranks: list[Labels] = []
        self._done = self._classes = 0

    def add(self, outputs: Mapping[str, Array]) -> None:
        """Take the model's outputs for the next samples; the first of shape [n, K] or [n, K, 1, 1] are the logits.

        Raises DataError where there is none, or where a label, of these samples or of later ones, is no class.
        """
        scores = next((found for array in outputs.values() if (found := logits(array)) is not None), None)
        if scores is None:
            shapes = ", ".join(f"'{name}' {array.shape}" for name, array in outputs.items())
            raise DataError(
                f"no output holds class scores [N, K] or [N, K, 1, 1]: {shapes}; only classifiers have a top-1. Measure "
                "others with --metric MODULE:NAME"
            )
        self._classes = scores.shape[1]
        low, high = self._labels.min(), self._labels.max()
        if low < 0 or high >= self._classes:
            raise DataError(
                f"labels are {low} to {high}, and the model has {self._classes} classes, 0 to {self._classes - 1}: they are of "
                "another list of classes, or shifted against it (--label-offset)"
            )
        labels = self._labels[self._done : self._done + len(scores)]
        self._done += len(labels)
        self._predicted.append(scores.argmax(1))
        self._ranks.append(ranks(scores, labels))

    def figures(self) -> dict[str, Figure]:
        """Return top-1 and, for more than five classes, top-5."""
        ranked = np.concatenate(self._ranks)
        depths = (1, 5) if self._classes > 5 else (1,)
        return {f"top-{k}": wilson(int((ranked < k).sum()), len(ranked)) for k in depths}

    def against(self, first: Classification) -> dict[str, PairedDifference]:
        """Return the differences to another model on the same samples."""
        ours, theirs = np.concatenate(self._ranks), np.concatenate(first._ranks)
        return {name: paired_shares(theirs < k, ours < k) for name in self.figures() if (k := int(name[4:]))}

    def agreement(self, first: Classification) -> float:
        """Return the share of samples for which both models predict the same class, right or wrong."""
        return float((self.predicted == first.predicted).mean())

    @property
    def classes(self) -> int:
        """How many classes the model has."""
        return self._classes

    @property
    def predicted(self) -> Labels:
        """The class of each sample with the largest score, int64 [N]."""
        return np.concatenate(self._predicted)

    @property
    def columns(self) -> dict[str, Array]:
        """What is known of each sample: its class and the one predicted."""
        return {"label": self._labels[: self._done], "predicted": self.predicted}

    def confusions(self) -> list[Confusion]:
        """Return which class was taken for which other one, the most frequent first."""
        labels, predicted = self._labels[: self._done], self.predicted
        wrong = labels != predicted
        pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return [Confusion(int(pairs[k, 0]), int(pairs[k, 1]), int(counts[k])) for k in order]

    def better_offset(self) -> int | None:
        """Return 1 or -1 where labels, shifted by it, fit clearly better; of two classes nothing can be told."""
        labels, predicted = self._labels[: self._done], self.predicted
        hits, shifted = (labels == predicted).sum(), {by: (labels + by == predicted).sum() for by in (1, -1)}
        by = max(shifted, key=lambda offset: shifted[offset])
        own, other = (wilson(int(count), len(labels)) for count in (hits, shifted[by]))
        return by if self._classes > 2 and (other.low or 0) > (own.high or 0) else None


def ranks(scores: FloatArray, labels: Labels) -> Labels:
    """Return how many classes come before each label: all but those with less, and later ones with as much (NaN: all)."""
    own = scores[np.arange(len(labels)), labels][:, None]
    later = np.arange(scores.shape[1]) >= labels[:, None]
    return np.asarray((~((scores < own) | ((scores == own) & later))).sum(1))
