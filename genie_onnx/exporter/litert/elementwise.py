"""Operators on elements: sums and products of two values, and functions of one.

In integers where what is read and what is written has codes, else in floats. LOGISTIC, TANH and SOFTMAX write on grids of their
own (scale 1/256 or 1/128), from which QUANTIZE goes to ours.
https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from genie_onnx.exporter.litert.desk import Desk, RefusedError, Value
from genie_onnx.exporter.litert.draft import Array, Grid
from genie_onnx.exporter.litert.fusing import fused
from genie_onnx.exporter.litert.reading import bounded

PROBABILITY = Grid(np.asarray(1 / 256, np.float32), -128)
SIGNED = Grid(np.asarray(1 / 128, np.float32), 0)
_INTEGER = {"ADD": "AddOptions", "MUL": "MulOptions", "SUB": "SubOptions"}


def binary(operator: str, table: str) -> Callable[[Desk, onnx.NodeProto], None]:
    """Return the row of an operator that takes two operands, of which one may be a constant."""

    def row(desk: Desk, node: onnx.NodeProto) -> None:
        sink, rank = desk.sink(node), len(desk.shape(node.output[0]))
        constants = [desk.constant(name) for name in node.input]
        known = [None if constant is not None else desk.read(name) for name, constant in zip(node.input, constants, strict=True)]
        computed = [desk.of_rank(value, rank) for value in known if value is not None]
        if not computed:
            raise RefusedError("both operands are constants")
        order = max(computed, key=lambda value: int(np.prod(value.shape))).order
        integer = (
            operator in _INTEGER and sink.grid is not None and None not in known and all(v.grid is not None for v in computed)
        )
        operands = []
        for value, constant in zip(known, constants, strict=True):
            if value is not None:
                placed = desk.ordered(desk.of_rank(value, rank), order)
                operands.append((placed if integer else desk.floats(placed)).number)
            else:
                assert constant is not None
                operands.append(desk.draft.constant(f"{node.output[0]}_operand", _placed(constant, order)))
        shape = tuple(desk.shape(node.output[0])[axis] for axis in order)
        activation, grid = fused(sink.grid if integer else None)
        number = desk.new(sink.name if integer else node.output[0], shape, grid)
        options = {"FusedActivationFunction": activation} if operator in (*_INTEGER, "DIV") else {}
        desk.draft.add(operator, operands, [number], table, **options)
        desk.put(node, Value(number, shape, order, grid))

    return row


def total(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Sum of two operands."""
    if len(node.input) != 2:
        raise RefusedError(f"it has {len(node.input)} operands; 2 are supported")
    binary("ADD", "AddOptions")(desk, node)


def clamp(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Relu or Clip that is not a bound of codes yet: as one where it reads codes and writes some, else on floats."""
    ends, source = desk.reading.ends(node), desk.read(node.input[0])
    if ends is None:
        raise RefusedError("its bounds are computed")
    sink = desk.sink(node)
    if source.grid is not None and sink.grid is not None:
        placed = desk.on_grid(source, sink.grid)
        desk.put(node, desk.clamped(placed, bounded(sink.grid, *ends), f"{sink.name}_bounded"))
        return
    value = desk.floats(source)
    steps: list[tuple[str, float | None]] = [("RELU", None)] if ends == (0.0, np.inf) else []
    if not steps:
        steps = [(op, end) for op, end in (("MAXIMUM", ends[0]), ("MINIMUM", ends[1])) if np.isfinite(end)]
    for operator, end in steps:
        inputs = [value.number] + ([] if end is None else [desk.draft.constant("bound", np.asarray([end], np.float32))])
        number = desk.new(node.output[0], value.shape, None)
        desk.draft.add(operator, inputs, [number], "" if end is None else "MaximumMinimumOptions")
        value = Value(number, value.shape, value.order, None)
    desk.put(node, value)


def unary(operator: str, table: str, own: Grid | None = None, **options: object) -> Callable[[Desk, onnx.NodeProto], None]:
    """Return the row of a function of one value. `own`: the grid that its integer kernel writes on."""

    def row(desk: Desk, node: onnx.NodeProto) -> None:
        _write(desk, node, operator, table, own, dict(options))

    return row


def leaky_relu(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a LeakyRelu."""
    _write(desk, node, "LEAKY_RELU", "LeakyReluOptions", None, {"Alpha": desk.attribute(node, "alpha", 0.01)})


def float_only(operator: str, table: str = "") -> Callable[[Desk, onnx.NodeProto], None]:
    """Return the row of a function of one value that is written on floats."""

    def row(desk: Desk, node: onnx.NodeProto) -> None:
        value = desk.floats(desk.read(node.input[0]))
        number = desk.new(node.output[0], value.shape, None)
        desk.draft.add(operator, [value.number], [number], table)
        desk.put(node, Value(number, value.shape, value.order, None))

    return row


def hard_sigmoid(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a HardSigmoid on floats: clip(alpha x + beta, 0, 1)."""
    value = desk.floats(desk.read(node.input[0]))
    steps = (
        ("MUL", "MulOptions", desk.attribute(node, "alpha", 0.2)),
        ("ADD", "AddOptions", desk.attribute(node, "beta", 0.5)),
        ("MAXIMUM", "MaximumMinimumOptions", 0.0),
        ("MINIMUM", "MaximumMinimumOptions", 1.0),
    )
    for operator, table, operand in steps:
        number = desk.new(node.output[0], value.shape, None)
        desk.draft.add(
            operator, [value.number, desk.draft.constant("operand", np.asarray([operand], np.float32))], [number], table
        )
        value = Value(number, value.shape, value.order, None)
    desk.put(node, value)


def softmax(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Softmax along the last axis, where TFLite has it."""
    rank = len(desk.shape(node.input[0]))
    axis = int(desk.attribute(node, "axis", -1)) % rank
    value = desk.read(node.input[0])
    order = (*(a for a in value.order if a != axis), axis)
    _write(desk, node, "SOFTMAX", "SoftmaxOptions", PROBABILITY, {"Beta": 1.0}, order)


def _write(
    desk: Desk,
    node: onnx.NodeProto,
    operator: str,
    table: str,
    own: Grid | None,
    options: dict[str, object],
    order: tuple[int, ...] | None = None,
) -> None:
    value, sink = desk.read(node.input[0]), desk.sink(node)
    value = value if order is None else desk.ordered(value, order)
    integer = value.grid is not None and sink.grid is not None
    value = value if integer else desk.floats(value)
    _, grid = fused(None if not integer or sink.grid is None else own or Grid(sink.grid.scale, sink.grid.zero_point))
    number = desk.new(sink.name if integer and own is None else node.output[0], value.shape, grid)
    desk.draft.add(operator, [value.number], [number], table, **options)
    desk.put(node, Value(number, value.shape, value.order, grid))


def _placed(constant: Array, order: tuple[int, ...]) -> Array:
    if constant.dtype != np.float32:
        raise RefusedError(f"an operand is {constant.dtype}, not float32")
    if constant.size == 1:
        return constant.reshape(1)
    wide = constant.reshape((1,) * (len(order) - constant.ndim) + constant.shape)
    return np.ascontiguousarray(wide.transpose(order))
