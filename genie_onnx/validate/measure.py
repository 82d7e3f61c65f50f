"""A user's own measure of a model: outputs and targets in, named numbers out.

    def error(outputs, targets):                    # a function: numbers of each sample of a batch, by name
        return {"error": abs(outputs["y"] - targets["y"]).mean((1, 2, 3))}

    class IoU:                                      # a class, for what is no mean over samples: one object for each model
        def __init__(self): ...
        def update(self, outputs, targets): ...     # may also return numbers of each sample
        def result(self): return {"mIoU": ...}      # when all samples are through

`outputs`: arrays [n, ...] by output name. `targets`: what is known of the samples by name, arrays [n, ...]: `names` always,
`labels` where there are some, what an npz has beside its images; and `first`, the outputs of the first model, to compare with
where there is no truth. Numbers of each sample get confidence intervals, and differences between models; NaN: this one has none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from genie_onnx.errors import DataError
from genie_onnx.validate.session import Array
from genie_onnx.validate.statistics import Figure, PairedDifference, mean, paired_means

Numbers = Mapping[str, npt.ArrayLike]


class Metric(Protocol):
    """What an object of a class given as metric has."""

    def update(self, outputs: Mapping[str, Array], targets: Mapping[str, Any]) -> Numbers | None:
        """Take a batch; numbers of each sample of it [n] may be returned by name."""

    def result(self) -> Mapping[str, float]:
        """Return numbers over everything, by name; {} where there are none."""


class _Function:
    """A function as a metric."""

    def __init__(self, function: Callable[..., Numbers]) -> None:
        self._function = function

    def update(self, outputs: Mapping[str, Array], targets: Mapping[str, Any]) -> Numbers:
        return self._function(outputs, targets)

    def result(self) -> Mapping[str, float]:
        return {}


class Measured:
    """What a user's metric says of one model. Told batch by batch."""

    def __init__(self, metric: Callable[..., Any]) -> None:
        """`metric`: the function or the class of the module's docstring. Raises DataError for a class that lacks a method."""
        made: Any = metric() if inspect.isclass(metric) else _Function(metric)
        missing = [name for name in ("update", "result") if not callable(getattr(made, name, None))]
        if missing:
            raise DataError(f"the metric {_name(metric)} has no method {' and no method '.join(missing)}")
        self._metric: Metric = made
        self._about = _name(metric)
        self._columns: dict[str, list[npt.NDArray[np.float64]]] = {}
        self._begun = False
        self._result: dict[str, float] | None = None

    def add(self, outputs: Mapping[str, Array], targets: Mapping[str, Any]) -> None:
        """Take the model's outputs for the next samples, and what is known of these. Raises DataError for what is no number."""
        found = self._metric.update(outputs, targets)
        if found is None:
            found = {}
        if not isinstance(found, Mapping):
            raise DataError(f"the metric {self._about} must return numbers of each sample by name, not {type(found).__name__}")
        samples = len(targets["names"])
        if self._begun and set(found) != set(self._columns):
            raise DataError(f"the metric {self._about} returned {sorted(found)}, and {sorted(self._columns)} before")
        self._begun = True
        for name, numbers in found.items():
            try:
                array = np.asarray(numbers, np.float64)
            except (TypeError, ValueError) as error:
                raise DataError(f"the metric {self._about} returned {name!r} that is not numbers: {error}") from error
            if array.shape != (samples,):
                raise DataError(f"the metric {self._about} returned {name!r} of shape {array.shape} for {samples} samples")
            self._columns.setdefault(name, []).append(array)

    def figures(self) -> dict[str, Figure]:
        """Return the mean of each number of samples, and what the metric has over everything. Raises DataError."""
        if self._result is None:
            found = self._metric.result()
            try:
                self._result = {name: float(value) for name, value in found.items()}
            except (AttributeError, TypeError, ValueError) as error:
                raise DataError(f"result() of the metric {self._about} must return numbers by name, not {found!r}") from error
        means = {name: mean(column) for name, column in self.columns.items()}
        return {**means, **{name: Figure(value=value) for name, value in self._result.items()}}

    def against(self, first: Measured) -> dict[str, PairedDifference]:
        """Return the differences to another model on the same samples; without an interval for what is not of single samples."""
        ours, theirs = self.figures(), first.figures()
        return {
            name: paired_means(first.columns[name], self.columns[name])
            if name in self._columns
            else PairedDifference(value=figure.value - theirs[name].value)
            for name, figure in ours.items()
            if name in theirs
        }

    @property
    def columns(self) -> dict[str, Array]:
        """The numbers of each sample, float64 [N], by name."""
        return {name: np.concatenate(parts) for name, parts in self._columns.items()}


def _name(metric: Callable[..., Any]) -> str:
    return repr(getattr(metric, "__name__", type(metric).__name__))
