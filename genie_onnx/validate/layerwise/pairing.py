"""Where the float graph has what a QDQ file rounds.

    value v of the float graph      ->  its codes in the file, and who reads it unrounded there
    constant c that a node reads    ->  the numbers that the same node reads in the file

Nodes are the same where they have one operator and one name, or else one name of their first output: that of the Relu or Clip
behind it, where a tool has left this out. Values are the same where they have one name. So the file may be of any tool that
leaves names alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.errors import ModelError
from genie_onnx.graph import query
from genie_onnx.validate.layerwise.qdq_graph import Codes, QdqGraph, RoundedValue

_NAMED = 3  # examples in a sentence


@dataclass(frozen=True, kw_only=True)
class RoundedConstant:
    """A constant that `node` of the float graph reads as input `index`, and what the file has there. `codes` None: floats."""

    node: str
    index: int
    constant: str
    numbers: npt.NDArray[np.float32]
    codes: Codes | None


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Names are those of the float graph, but for what `RoundedValue` says of the file."""

    values: Mapping[str, RoundedValue]
    constants: tuple[RoundedConstant, ...]  # those that differ
    float_reads: frozenset[tuple[str, int]]  # (node, input) where the file reads a value of `values` as it was before rounding
    float_outputs: frozenset[str]  # graph outputs that the file hands out as they are before rounding
    notices: tuple[str, ...]


def pair(reference: ir.Model, file: QdqGraph) -> Pairing:
    """Return what `file` rounds of the float graph `reference`.

    Raises ModelError where the two have other inputs or outputs, or nothing that is rounded in common.
    """
    _same_interface(reference, file.model)
    known = query.value_map(reference)
    values: dict[str, RoundedValue] = {}
    strangers = list(file.per_channel)
    for rounded in file.rounded:
        name = next((name for name in (rounded.value, rounded.dequantized) if name in known), None)
        if name is None or name in values:
            strangers.append(rounded.value)
        else:
            values[name] = rounded
    nodes, outputs = _by_name(file.model)
    constants: list[RoundedConstant] = []
    float_reads: set[tuple[str, int]] = set()
    unknown: list[str] = []
    for node in reference.graph:
        twin = _twin(node, nodes, outputs, values)
        if twin is None:
            unknown += [str(node.name)] if node.op_type in query.WEIGHTED_OPS else []
            continue
        for index, (ours, theirs) in enumerate(zip(node.inputs, twin.inputs, strict=False)):
            if ours is not None and str(ours.name) in values and not _is_dequantized(theirs):
                float_reads.add((str(node.name), index))
            floats, numbers = query.constant(ours), file.constant(theirs)
            if ours is None or floats is None or numbers is None or floats.dtype != np.float32:
                continue
            if numbers.shape != floats.shape:
                unknown.append(str(node.name))
            elif not np.array_equal(numbers, floats):
                constants.append(
                    RoundedConstant(
                        node=str(node.name),
                        index=index,
                        constant=str(ours.name),
                        numbers=numbers.astype(np.float32),
                        codes=file.codes(theirs),
                    )
                )
    if not values and not constants:
        raise ModelError(
            "nothing that is rounded in the quantized file is found in the float model by its name: give the float model that "
            "the quantized one was made from"
        )
    return Pairing(
        values=values,
        constants=tuple(constants),
        float_reads=frozenset(float_reads),
        float_outputs=frozenset(str(v.name) for v in file.model.graph.outputs if not _is_dequantized(v)),
        notices=(
            *_notice(strangers, "rounded value", "has no counterpart of its own in the float model, and is left out"),
            *_notice(unknown, "layer of the float model", "is not found in the quantized one, and is taken as float"),
        ),
    )


def _same_interface(reference: ir.Model, file: ir.Model) -> None:
    for kind in ("inputs", "outputs"):
        ours, theirs = ([str(v.name) for v in getattr(m.graph, kind) if not v.is_initializer()] for m in (reference, file))
        if sorted(ours) != sorted(theirs):
            raise ModelError(
                f"the {kind} of the float model are {', '.join(ours)}, of the quantized one {', '.join(theirs)}: give the float "
                "model that the quantized one was made from"
            )


def _by_name(model: ir.Model) -> tuple[dict[str, ir.Node], dict[str, ir.Node]]:
    """Return nodes by their name, and by the name of their first output."""
    nodes = {str(node.name): node for node in model.graph if node.name}
    return nodes, {str(node.outputs[0].name): node for node in model.graph if node.outputs}


def _twin(
    node: ir.Node, nodes: Mapping[str, ir.Node], outputs: Mapping[str, ir.Node], values: Mapping[str, RoundedValue]
) -> ir.Node | None:
    made = [node.outputs[0]]
    readers = [use.node for use in made[0].uses()]
    made += [readers[0].outputs[0]] if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip") else []
    names = [str(value.name) for value in made]
    before_rounding = [values[name].value for name in names if name in values]
    found = [nodes.get(str(node.name)), *(outputs.get(name) for name in (*names, *before_rounding))]
    return next((twin for twin in found if twin is not None and twin.op_type == node.op_type), None)


def _is_dequantized(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return node is not None and node.op_type == "DequantizeLinear"


def _notice(names: list[str], what: str, finding: str) -> list[str]:
    if not names:
        return []
    named = ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
    return [f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({named}): each {finding}."]
