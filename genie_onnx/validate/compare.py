"""How near two sets of outputs are.

SQNR = 10 log10( sum y^2 / sum (y - y_q)^2 ) in dB,   cosine = y . y_q / (|y| |y_q|),   over all samples at once
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genie_onnx.errors import DataError
from genie_onnx.validate.session import Array, Model, Session

STEP = 8  # samples that run at once when models are compared
MAX_SQNR = 200.0  # dB reported for equal arrays: JSON has no infinity


@dataclass(frozen=True, kw_only=True)
class OutputComparison:
    """One output. `agreement` is the share (0..1) of samples with the same largest logit, None where it has none."""

    name: str
    sqnr_db: float
    cosine: float
    agreement: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every output of two models on the same `samples`."""

    samples: int
    outputs: tuple[OutputComparison, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first value at which two computations part: worst element, and how far it is off."""

    name: str
    max_error: float  # inf for different shapes, NaN patterns or infinities
    index: tuple[int, ...]  # () for different shapes
    text: str

    def __str__(self) -> str:
        """Return the finding as a sentence."""
        return self.text


def compare_models(
    reference: Model, other: Model, feeds: Mapping[str, Array], alive: Callable[[], None] = lambda: None
) -> Comparison:
    """Run both models at default session options on `feeds` and compare all outputs of `reference` by name.

    `alive` is called after every few samples.
    """
    outputs = run_both(reference, other, feeds, alive)
    return compare(outputs.reference, outputs.other, outputs.constants)


@dataclass(frozen=True)
class BothOutputs:
    """All outputs of `reference` and the same of the `other` model, by name; no input reaches those of `constants`."""

    reference: Mapping[str, Array]
    other: Mapping[str, Array]
    constants: frozenset[str]


def run_both(reference: Model, other: Model, feeds: Mapping[str, Array], alive: Callable[[], None] = lambda: None) -> BothOutputs:
    """Run both models as `compare_models` does."""
    session = Session(reference)
    expected = _in_steps(session, feeds, alive)
    return BothOutputs(expected, _in_steps(Session(other, tuple(expected)), feeds, alive), session.constants)


def _in_steps(session: Session, feeds: Mapping[str, Array], alive: Callable[[], None]) -> dict[str, Array]:
    """Return the outputs for `feeds`, STEP samples at a time: a large network holds gigabytes for 64 images at once."""
    parts = []
    for start in range(0, len(next(iter(feeds.values()))), STEP):
        parts.append(session({name: x[start : start + STEP] for name, x in feeds.items()}))
        alive()
    return {
        name: parts[0][name] if name in session.constants else np.concatenate([np.atleast_1d(part[name]) for part in parts])
        for name in session.outputs
    }


def compare(reference: Mapping[str, Array], other: Mapping[str, Array], constants: Collection[str] = frozenset()) -> Comparison:
    """Compare arrays [n, ...] by name; those of `constants` (any shape) are of no sample.

    Raises DataError where a name is missing or shapes differ.
    """
    for name, array in reference.items():
        if name not in other or other[name].shape != array.shape:
            found = other[name].shape if name in other else "missing"
            raise DataError(f"output '{name}' is {array.shape} in the reference, {found} in the other model")
    outputs = tuple(
        OutputComparison(
            name=name,
            sqnr_db=sqnr(y, other[name]),
            cosine=cosine(y, other[name]),
            agreement=None if name in constants else _agreement(y, other[name]),
        )
        for name, y in reference.items()
    )
    samples = next((len(y) for name, y in reference.items() if name not in constants), 0)
    return Comparison(samples=samples, outputs=outputs)


def sqnr(reference: Array, other: Array) -> float:
    """Return the signal-to-quantisation-noise ratio in dB, within -200..200."""
    y = reference.astype(np.float64)
    return decibels(float((y**2).sum()), float(((y - other) ** 2).sum()))


def decibels(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise), within -200..200; 200 where there is no noise, also in a signal of zeros."""
    if noise == 0:
        return MAX_SQNR
    if not np.isfinite(noise):
        return -MAX_SQNR
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -MAX_SQNR, MAX_SQNR))


def cosine(reference: Array, other: Array) -> float:
    """Return the cosine of the angle between both, flattened; 1 where both are all zero, 0 where one is."""
    a, b = reference.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b))


def logits(array: Array) -> npt.NDArray[np.float32] | None:
    """Return [N, K] or [N, K, 1, 1] with K > 1 as [N, K], None for arrays of any other shape and for integers (indices)."""
    if not np.issubdtype(array.dtype, np.floating):
        return None
    if array.ndim >= 2 and array.shape[1] > 1 and array[0].size == array.shape[1]:
        return np.asarray(array.reshape(array.shape[:2]))
    return None


def first_difference(reference: Mapping[str, Array], other: Mapping[str, Array], tolerance: float) -> Difference | None:
    """Return the first value of `reference`, in its order, that `other` has differently; None where all agree.

    Differently: another shape, or |a - b| > tolerance * max(1, max |a|) somewhere. Names that `other` lacks are skipped.
    """
    for name, a in reference.items():
        if name not in other:
            continue
        b = other[name]
        if a.shape != b.shape:
            return Difference(name=name, max_error=float("inf"), index=(), text=f"'{name}' is {a.shape}, not {b.shape}")
        with np.errstate(invalid="ignore"):  # inf - inf
            error = np.asarray(np.abs(a.astype(np.float64) - b.astype(np.float64)))  # of a scalar, too
        error[np.isnan(error)] = np.inf
        error[(a == b) | (_isnan(a) & _isnan(b))] = 0
        finite = np.abs(a[np.isfinite(a)]).max(initial=0) if a.size else 0
        if error.size and error.max() > tolerance * max(1.0, float(finite)):
            index = tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))
            text = f"'{name}' differs by up to {error.max():.3g} (at {list(index)}: {a[index]!r} against {b[index]!r})"
            return Difference(name=name, max_error=float(error.max()), index=index, text=text)
    return None


def _isnan(array: Array) -> npt.NDArray[np.bool_]:
    return np.isnan(array) if np.issubdtype(array.dtype, np.floating) else np.zeros(array.shape, dtype=bool)


def _agreement(reference: Array, other: Array) -> float | None:
    a, b = logits(reference), logits(other)
    return None if a is None or b is None else float((a.argmax(1) == b.argmax(1)).mean())
