"""What is added up over batches of two networks' numbers, so that nothing of a batch has to be kept.

Nearness      sum x^2, sum (x - y)^2, sum x y, sum y^2   ->   SQNR, cosine (validate.compare)
OutputTally   nearness of each output, and in how many samples both have the same largest logit
ValueTally    of one rounded value: nearness of the file's numbers and of rounding alone, codes, range, saturation
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genie_onnx.validate.compare import OutputComparison, decibels, logits
from genie_onnx.validate.layerwise.qdq_graph import Grid
from genie_onnx.validate.session import Array


class Nearness:
    """How near numbers y are to the reference x; also how many samples have the same largest logit."""

    def __init__(self) -> None:
        self.signal = self.noise = self._product = self._power = 0.0

    def add(self, x: Array, y: Array) -> None:
        """Take numbers of equal shape."""
        a, b = (np.ascontiguousarray(array, np.float32).ravel() for array in (x, y))
        difference = a - b
        self.signal += float(a @ a)
        self.noise += float(difference @ difference)
        self._product += float(a @ b)
        self._power += float(b @ b)

    @property
    def sqnr_db(self) -> float:
        """Signal to noise in dB, within -200..200."""
        return decibels(self.signal, self.noise)

    @property
    def cosine(self) -> float:
        """Of the angle between x and y; 1 where both are zero, 0 where one is."""
        norms = (self.signal * self._power) ** 0.5
        return self._product / norms if norms else float(self.noise == 0)


class OutputTally:
    """How near the outputs of a network are to the reference's."""

    def __init__(self) -> None:
        self._nearness: dict[str, Nearness] = {}
        self._agreeing: dict[str, int] = {}
        self._samples = 0

    def add(self, reference: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Take all outputs [n, ...] of a batch, by name."""
        for name, x in reference.items():
            self._nearness.setdefault(name, Nearness()).add(x, outputs[name])
            a, b = logits(x), logits(outputs[name])
            if a is not None and b is not None:
                self._agreeing[name] = self._agreeing.get(name, 0) + int((a.argmax(1) == b.argmax(1)).sum())
        self._samples += len(next(iter(reference.values())))

    def comparisons(self) -> tuple[OutputComparison, ...]:
        """Return the outputs in their order."""
        return tuple(
            OutputComparison(
                name=name,
                sqnr_db=nearness.sqnr_db,
                cosine=nearness.cosine,
                agreement=self._agreeing[name] / self._samples if name in self._agreeing else None,
            )
            for name, nearness in self._nearness.items()
        )

    def noise(self) -> float:
        """Return the noise of all outputs, each in units of its power; outputs of zeros do not count."""
        return sum(nearness.noise / nearness.signal for nearness in self._nearness.values() if nearness.signal)


class ValueTally:
    """Everything about one rounded value on `grid`."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.nearness, self.rounding = Nearness(), Nearness()
        self.low, self.high = float("inf"), float("-inf")
        self.histogram = np.zeros(grid.levels, np.int64)
        self._elements = self._outside = 0

    def add(self, exact: Array, dequantized: Array, codes: Array) -> None:
        """Take the float network's numbers, those of the file behind its rounding, and their codes there."""
        grid = self.grid
        steps = np.rint(exact / grid.scale)
        low, high = grid.low - grid.zero_point, grid.high - grid.zero_point
        self._outside += int(np.count_nonzero((steps < low) | (steps > high)))
        self._elements += exact.size
        self.nearness.add(exact, dequantized)
        self.rounding.add(exact, np.clip(steps, low, high, out=steps) * grid.scale)
        self.low, self.high = min(self.low, float(exact.min())), max(self.high, float(exact.max()))
        self.histogram += np.bincount(codes.ravel().astype(np.int64) - grid.low, minlength=grid.levels)

    @property
    def saturated(self) -> float:
        """Share of the float network's numbers that are more than half a step outside of the grid."""
        return self._outside / max(self._elements, 1)
