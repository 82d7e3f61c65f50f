"""A QDQ file of fixed shapes -> a .tflite file with the same codes.

    image      INT8 codes, NHWC: what its QuantizeLinear yields         (floats, where something else reads it too)
    outputs    INT8 codes where they are rounded, else floats; images NHWC

Each node becomes the operators of its row (table). What has no row, or a form that its row does not know, is refused with the
reason, all of it at once.
"""

from __future__ import annotations

import onnx

from genie_onnx.errors import ModelError
from genie_onnx.exporter.litert.desk import NHWC, Desk, RefusedError, Value
from genie_onnx.exporter.litert.matmul_bias import with_biases_inside
from genie_onnx.exporter.litert.reading import Reading
from genie_onnx.exporter.litert.table import ROWS
from genie_onnx.exporter.litert.write import write

_CHANNELS_FIRST = (0, 3, 1, 2)  # what an NHWC image is brought to
_ON_ELEMENTS = ("Add", "Clip", "Div", "Identity", "Mul", "Pad", "Relu", "Sub")


def to_tflite(proto: onnx.ModelProto) -> bytes:
    """Return the .tflite file of `proto`, whose shapes are fixed. Raises ModelError with every node that cannot be written."""
    proto = with_biases_inside(proto)
    desk = Desk(Reading(proto))
    for value in proto.graph.input:
        if value.name not in desk.reading.constants:
            _input(desk, value.name)
    problems: list[str] = []
    lost: set[str] = set()  # what a refused node would have written
    for node in desk.reading.nodes():
        if desk.reading.is_folded(node):
            continue
        behind = not lost.isdisjoint(desk.reading.codes.get(name, name) for name in node.input)
        if behind and _has_row(node):  # whether that could be written is not known
            lost.update(_written(desk, node))
            continue
        try:
            _write(desk, node)
        except RefusedError as reason:
            problems.append(f"{node.op_type} '{node.name}' cannot be written for LiteRT: {reason}")
            lost.update(_written(desk, node))
    for value in proto.graph.output:
        try:
            found = desk.read(value.name)
        except RefusedError as reason:
            problems += [] if problems else [f"output '{value.name}' cannot be written for LiteRT: {reason}"]
            continue
        desk.draft.outputs.append(found.number)
        desk.draft.places.outputs[value.name] = found.order
    if problems:
        raise ModelError(problems)
    return write(desk.draft, "genie-onnx")


def _write(desk: Desk, node: onnx.NodeProto) -> None:
    if not _has_row(node):
        raise RefusedError(
            "it is none of the operators that are (docs: To a microcontroller); leave it out of the model, or take another target"
        )
    ROWS[node.op_type](desk, node)


def _has_row(node: onnx.NodeProto) -> bool:
    return node.domain == "" and node.op_type in ROWS


def _written(desk: Desk, node: onnx.NodeProto) -> set[str]:
    return {name for output in node.output for name in (output, desk.reading.sink(output).name)}


def _input(desk: Desk, name: str) -> None:
    """Add an input, as codes where codes are all that is read."""
    shape, sink = desk.reading.shapes[name], desk.reading.sink(name)
    order = tuple(range(len(shape)))
    if len(shape) == 4 and not _is_channels_last(desk.reading, name):
        order = NHWC
    placed = tuple(shape[axis] for axis in order)
    grid = None if sink.grid is None else type(sink.grid)(sink.grid.scale, sink.grid.zero_point)
    number = desk.new(name, placed, grid)
    desk.draft.inputs.append(number)
    desk.draft.places.inputs[name] = order
    desk.settle(name, Value(number, placed, order, grid))


def _is_channels_last(reading: Reading, name: str) -> bool:
    """Whether the image `name` is brought to channels first by a Transpose, perhaps behind arithmetic."""
    waiting, seen = [name], set[str]()
    while waiting:
        for node in reading.readers(waiting.pop()):
            if node.op_type == "Transpose" and tuple(node.attribute[0].ints if node.attribute else ()) == _CHANNELS_FIRST:
                return True
            if node.op_type in _ON_ELEMENTS and node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append(node.output[0])
    return False
