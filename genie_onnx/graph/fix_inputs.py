"""Inputs beside the image get one value for good: they become initializers, and are no longer inputs.

    g(image, scale)   with scale = 1.5   ->   g(image)

So a model with a second input that is the same for all images (a scale, a threshold, a size) can be quantized. The price is
its interface: the quantized file does not have that input.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from genie_onnx.errors import ConfigError
from genie_onnx.graph.query import dims


def fix_inputs(model: ir.Model, values: Mapping[str, Sequence[float]]) -> None:
    """Fix inputs of a loaded model in place: one number for all entries, or a number for each, in order.

    Dimensions that the file leaves open become 1. Raises ConfigError with a sentence for each name or number that does not fit.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    problems = []
    arrays: dict[str, np.ndarray] = {}
    for name, numbers in values.items():
        problem = _problem(name, inputs.get(name), list(inputs), numbers)
        if problem is None:
            arrays[name] = _array(inputs[name], numbers)
        else:
            problems.append(f"--set-input {name}: {problem}")
    if problems:
        raise ConfigError(problems)
    for name, array in arrays.items():
        value = inputs[name]
        model.graph.inputs.remove(value)
        value.shape = ir.Shape(array.shape)
        value.const_value = ir.tensor(array, name=name)
        model.graph.register_initializer(value)


def _problem(name: str, value: ir.Value | None, names: Sequence[str], numbers: Sequence[float]) -> str | None:
    """Return why an input cannot be set to `numbers`, None where it can."""
    if value is None:
        near = difflib.get_close_matches(name, names) or names
        return f"the model has no such input; it has {', '.join(repr(n) for n in near)}."
    if value.dtype is None or not (
        value.dtype.is_floating_point() or value.dtype.is_integer() or value.dtype == ir.DataType.BOOL
    ):
        found = "no type" if value.dtype is None else value.dtype.name
        return f"the input has {found}; inputs of numbers can be set."
    shape = _shape(value)
    if shape is None:
        return "the file does not say which rank the input has. Export the model with shapes."
    if len(numbers) not in (1, math.prod(shape)):
        return f"{len(numbers)} values were given; the input {list(shape)} takes 1 or {math.prod(shape)}."
    if not value.dtype.is_floating_point() and any(number != int(number) for number in numbers):
        return f"the input has {value.dtype.name}, which holds whole numbers."
    return None


def _array(value: ir.Value, numbers: Sequence[float]) -> np.ndarray:
    shape = _shape(value)
    assert shape is not None  # _problem
    assert value.dtype is not None
    flat = np.asarray(numbers, value.dtype.numpy())
    return np.full(shape, flat[0]) if len(flat) == 1 else flat.reshape(shape)


def _shape(value: ir.Value) -> tuple[int, ...] | None:
    shape = dims(value)
    return None if shape is None else tuple(1 if d is None else d for d in shape)
