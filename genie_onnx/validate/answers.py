"""What an output tells of its image: how near it is to the float model's, and how near an answer would be that never looks.

    float numbers    SQNR           = 10 log10( sum y^2 / sum (y - y_q)^2 )
                     constant_db    = 10 log10( sum y^2 / sum (y - mean of y over all samples)^2 )        the best constant answer
    class scores     agreement      = share of samples with the same largest score
                     usual          = share of the class that the float model names most often            the best constant answer
                     sure           = both once more, of the samples that the float model itself gives 90 % to one class: others
                                      it could as well have named otherwise; landmarks and embeddings, [n, K] too, have none
    whole numbers    agreement      = share of equal elements; usual: of the most frequent number

Numbers that are not finite in the float model for any sample (masks of -inf) have to be the same in the other, and do not count
else. Those that are so for some samples alone are how the runtime computes (the logarithm of a Sigmoid that has run out of
digits): the other may have them elsewhere, but no more of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genie_onnx.validate.compare import decibels, logits
from genie_onnx.validate.session import Array

SURE = 0.9  # probability of the largest class, from which on the float model has an opinion
PROBABILITIES = 1e-3  # scores that are positive and add up to one within this are probabilities, others their logits


@dataclass(frozen=True, kw_only=True)
class Classes:
    """How far the classes of `samples` samples agree, and the share of the most frequent one: 0..1."""

    samples: int
    agreement: float
    usual: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One output of a model beside that of the float model. None: there is no such figure for it.

    A number that the other model lacks (NaN, infinity) makes `sqnr_db` -inf.
    """

    name: str
    samples: int
    varies: bool  # the float model's differ from sample to sample
    sqnr_db: float | None  # None for whole numbers, and where the float model has nothing but zeros
    constant_db: float | None
    agreement: float | None  # 0..1
    usual: float | None  # 0..1
    sure: Classes | None = None  # of the samples that the float model is sure of; None: there is none


def answers(
    reference: Mapping[str, Array], other: Mapping[str, Array], constants: Collection[str] = frozenset()
) -> tuple[Answer, ...]:
    """Return what is to be said of each output, [n, ...] by name, in the order of `reference`.

    Those of `constants` (any shape) are of no sample.
    """
    found = []
    for name, y in reference.items():
        a, b = (array[None] if name in constants else np.atleast_1d(array) for array in (y, other[name]))
        found.append((_of_floats if np.issubdtype(y.dtype, np.floating) else _of_whole_numbers)(name, a, b))
    return tuple(found)


def _of_floats(name: str, y: Array, z: Array) -> Answer:
    """Compare float outputs [n, ...] sample by sample: those of segmentation have gigabytes in double precision."""
    finite = np.isfinite(y)
    mean = np.zeros(y.shape[1:])
    for sample, known in zip(y, finite, strict=True):
        mean += np.where(known, sample, 0) / len(y)
    masked = ~finite.any(0)
    spilt = int((~finite & ~masked).sum())  # not finite for some samples alone
    signal = noise = spread = 0.0
    for sample, given, known in zip(y, z, finite, strict=True):
        lost = known & ~np.isfinite(given)
        spilt -= int(lost.sum())
        counted = known & ~lost
        exact, ours = np.where(counted, sample, 0).astype(np.float64), np.where(counted, given, 0).astype(np.float64)
        signal += float((exact**2).sum())
        spread += float(((exact - np.where(counted, mean, 0)) ** 2).sum())
        noise += float(((exact - ours) ** 2).sum())
        same = np.array_equal(sample[masked], given[masked], equal_nan=True)
        noise = noise if same and spilt >= 0 and math.isfinite(noise) else math.inf
    varies = len(y) > 1 and bool((y != y[:1]).any())
    a, b = logits(y), logits(z)
    agreement = usual = sure = None
    if a is not None and b is not None:
        classes, same = a.argmax(1), a.argmax(1) == b.argmax(1)
        agreement, usual = float(same.mean()), _largest_share(classes)
        of = _probability(a) >= SURE
        if of.any():
            sure = Classes(samples=int(of.sum()), agreement=float(same[of].mean()), usual=_largest_share(classes[of]))
    return Answer(
        name=name,
        samples=len(y),
        varies=varies,
        sqnr_db=None if signal == 0 else -math.inf if noise == math.inf else decibels(signal, noise),
        constant_db=decibels(signal, spread) if varies and signal else None,
        agreement=agreement,
        usual=usual,
        sure=sure,
    )


def _of_whole_numbers(name: str, y: Array, z: Array) -> Answer:
    return Answer(
        name=name,
        samples=len(y),
        varies=len(y) > 1 and bool((y != y[:1]).any()),
        sqnr_db=None,
        constant_db=None,
        agreement=float((y == z).mean()) if y.size else 1.0,
        usual=_largest_share(y),
    )


def _probability(scores: Array) -> npt.NDArray[np.float64]:
    """Return the probability [n] of the largest class of each sample, from probabilities or logits [n, K]; NaN: it has none."""
    exact = scores.astype(np.float64)
    if (exact >= 0).all() and np.abs(exact.sum(1) - 1).max(initial=0) < PROBABILITIES:
        return np.asarray(exact.max(1))
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.asarray(1 / np.exp(exact - exact.max(1, keepdims=True)).sum(1))


def _largest_share(numbers: Array) -> float:
    return float(np.unique(numbers, return_counts=True)[1].max() / numbers.size) if numbers.size else 1.0
