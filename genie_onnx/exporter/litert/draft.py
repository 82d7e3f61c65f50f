"""What goes into a .tflite file, before it is written: tensors, and operators that read and write them by number."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LOW, HIGH = -128, 127  # of INT8


@dataclass(frozen=True)
class Grid:
    """Of INT8 codes: value = scale (code - zero_point), and no code outside low..high. A weight has scales [C] along `axis`."""

    scale: npt.NDArray[np.float32]
    zero_point: int
    low: int = LOW
    high: int = HIGH
    axis: int = 0

    def __eq__(self, other: object) -> bool:
        """Whether codes mean the same numbers; which of them are used is another matter."""
        return isinstance(other, Grid) and self.zero_point == other.zero_point and np.array_equal(self.scale, other.scale)

    def __hash__(self) -> int:
        return hash((self.zero_point, self.scale.tobytes()))


@dataclass(frozen=True)
class Tensor:
    """A row of the file: FLOAT32, INT8 or INT32 by `dtype`. A constant has `data`."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: Array | None = None
    grid: Grid | None = None


@dataclass(frozen=True)
class Operator:
    """A builtin operator, the table of the schema that its options are in, and the fields of that table."""

    name: str
    inputs: tuple[int, ...]  # -1: none
    outputs: tuple[int, ...]
    table: str
    options: Mapping[str, Any]


@dataclass
class Places:
    """Of each input and output, by name in the ONNX file and in its order: the ONNX axis at each place of its tensor. Of codes
    there also the tensor, and what was added to them."""

    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    codes: dict[str, tuple[int, tuple[int, ...], int]] = field(default_factory=dict)


@dataclass
class Draft:
    """The whole file, and `places`: what of the ONNX file lies where in it."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    places: Places = field(default_factory=lambda: Places())
    _names: set[str] = field(default_factory=set)
    _constants: dict[Hashable, int] = field(default_factory=dict)

    def tensor(
        self, name: str, shape: Sequence[int], dtype: npt.DTypeLike, data: Array | None = None, grid: Grid | None = None
    ) -> int:
        """Add a tensor and return its number."""
        self.tensors.append(Tensor(self._fresh(name), tuple(int(size) for size in shape), np.dtype(dtype), data, grid))
        return len(self.tensors) - 1

    def constant(self, name: str, data: Array, grid: Grid | None = None) -> int:
        """Add a constant and return its number, which is that of an equal one where there is one: weights are shared."""
        key = (data.dtype.name, data.shape, hashlib.sha256(np.ascontiguousarray(data).tobytes()).digest(), grid)
        if key not in self._constants:
            self._constants[key] = self.tensor(name, data.shape, data.dtype, data, grid)
        return self._constants[key]

    def add(self, name: str, inputs: Sequence[int], outputs: Sequence[int], table: str = "", **options: Any) -> None:
        """Add an operator behind those there are."""
        self.operators.append(Operator(name, tuple(inputs), tuple(outputs), table, options))

    def rename(self, number: int, name: str) -> None:
        """Give a tensor a name; the one that has it gets another."""
        tensor = self.tensors[number]
        if tensor.name == name:
            return
        for other, holder in enumerate(self.tensors):
            if holder.name == name:
                self.tensors[other] = replace(holder, name=self._fresh(f"{name}_unclamped"))
        self._names.add(name)
        self.tensors[number] = replace(tensor, name=name)

    def _fresh(self, name: str) -> str:
        fresh, count = name, 1
        while fresh in self._names:
            fresh, count = f"{name}_{count}", count + 1
        self._names.add(fresh)
        return fresh
