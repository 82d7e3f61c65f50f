"""What a quantised file computes with, in a few letters a tensor: written into the file, and held against it afterwards.

    file  ->  by the name of what a node makes:  its kind, and a digest of each constant it reads
        Q   QuantizeLinear                   scale, zero point
        D   DequantizeLinear of a value      (not written: it has the grid of a QuantizeLinear)
        W   DequantizeLinear of a weight     scale, zero point, codes
        B   the same, of a bias (INT32)      scale, zero point, codes
        C   Clip on codes                    lower, upper bound
        F   a weight stored in floats        numbers
        N   Quant of QONNX                   scale, zero point, bits

Other tools may rewrite a file and leave all that as it was: constants are found by the values that nodes make, under whatever
names, and where a node is gone (onnxruntime's own optimised files) by their content alone. Digests are of numbers, so codes may
move to a wider type; a scale may not, as its type is what the layers compute in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from genie_onnx.errors import ModelError
from genie_onnx.targets import QUANT_DOMAIN

KEY = "genie_onnx.checksums"
LETTERS = 6  # 24 bits: one damage in 10^7 would go unseen
PIECE = 2**20  # codes converted at a time
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_PARTS = {
    **dict.fromkeys("QD", ("scale", "zero point")),
    **dict.fromkeys("WB", ("scale", "zero point", "codes")),
    "C": ("lower bound", "upper bound"),
    "F": ("numbers",),
    "N": ("scale", "zero point", "bits"),
}
_AT_RUN_TIME = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM")


@dataclass(frozen=True)
class _Entry:
    """A node's constants: `kind` and `digests` as above, `tensors` in the same order."""

    kind: str
    node: onnx.NodeProto | None
    tensors: tuple[TensorProto, ...]

    @cached_property
    def digests(self) -> tuple[str, ...]:
        return tuple(_digest(tensor, part) for tensor, part in zip(self.tensors, _PARTS[self.kind], strict=True))


def with_checksums(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return `proto` with the table above, and how much of it is half precision, in its metadata."""
    table = {name: entry.kind + "".join(entry.digests) for name, entry in _entries(proto).items() if entry.kind != "D"}
    sealed = onnx.ModelProto()
    sealed.CopyFrom(proto)
    del sealed.metadata_props[:]
    for entry in proto.metadata_props:
        if entry.key != KEY:
            sealed.metadata_props.add(key=entry.key, value=entry.value)
    content = {"halves": _halves(proto), "nodes": table}
    sealed.metadata_props.add(key=KEY, value=json.dumps(content, separators=(",", ":")))
    return sealed


def changes(proto: onnx.ModelProto) -> dict[str, str] | None:
    """Return a sentence for each constant of `proto` that is not what its metadata say was written, by the name of what it makes.

    None for a file without the table, as versions before it wrote. Raises ModelError for a table that is damaged.
    """
    written = next((entry.value for entry in proto.metadata_props if entry.key == KEY), None)
    if written is None:
        return None
    halves, table = _read(written)
    found = _entries(proto)
    sentences = dict(_half_precision(proto, halves))
    sentences.update(_strangers(proto, found, table))
    read = _Content(proto)
    for name, (kind, *digests) in table.items():
        entry = found.get(name)
        if entry is not None and _PARTS[entry.kind] == _PARTS[kind]:
            parts = zip(_PARTS[kind], digests, entry.digests, entry.tensors, strict=True)
            wrong = [_said(part, tensor) for part, was, now, tensor in parts if was != now]
            if wrong:
                sentences[name] = f"{_what(name, entry)}: {' and '.join(wrong)}"
        elif (lost := read.lacks(kind, digests)) and not (kind == "F" and _reordered(proto)):
            gone = f"its {_MADE_BY[kind]} is gone, and " if kind in _MADE_BY else ""
            sentences[name] = (
                f"'{name}': {gone}its {' and '.join(lost)} {'is' if lost == ['scale'] else 'are'} nowhere in the file"
            )
    return sentences


_MADE_BY = {"Q": "QuantizeLinear", "W": "DequantizeLinear", "B": "DequantizeLinear", "C": "Clip"}


class _Content:
    """Which constants the nodes of a file read, under whatever name."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto

    def lacks(self, kind: str, digests: list[str]) -> list[str]:
        """Return the parts of what a node of this `kind` read that no node reads any more.

        Zero points are too much alike to tell, and integer operators hold no scale of a bias.
        """
        passed = {"B": ("zero point", "scale"), "N": ("zero point", "bits")}.get(kind, ("zero point",))
        parts = zip(_PARTS[kind], digests, strict=True)
        return [part for part, digest in parts if part not in passed and digest not in self._digests[part]]

    @cached_property
    def _digests(self) -> dict[str, set[str]]:
        read = {name for node in self._proto.graph.node for name in node.input}
        tensors = [tensor for name, tensor in _constants(self._proto).items() if name in read]
        integers = [tensor for tensor in tensors if tensor.data_type in _INTEGERS]
        floats = [tensor for tensor in tensors if tensor.data_type == TensorProto.FLOAT]
        bounds = {_digest(tensor, "lower bound") for tensor in integers}
        return {
            "codes": {_digest(tensor, "codes") for tensor in integers},
            "scale": {_digest(tensor, "scale") for tensor in floats},
            "numbers": {_digest(tensor, "numbers") for tensor in floats},
            "lower bound": bounds,
            "upper bound": bounds,
        }


_INTEGERS = (
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.INT4,
    TensorProto.UINT4,
)


def _entries(proto: onnx.ModelProto) -> dict[str, _Entry]:
    """Return what is to be kept of each node of the file, by the name of what it makes."""
    constants, found = _constants(proto), dict[str, _Entry]()
    makers = {name: node.op_type for node in proto.graph.node for name in node.output}
    for node in proto.graph.node:
        tensors = [constants.get(name) for name in node.input]
        if node.domain == QUANT_DOMAIN and node.op_type == "Quant" and len(node.input) == 4 and None not in tensors[1:]:
            found[node.output[0]] = _Entry("N", node, tuple(t for t in tensors[1:] if t is not None))
        if node.domain not in ("", "com.microsoft", "ai.onnx") or len(node.input) != 3 or None in tensors[1:]:
            continue
        first, rest = tensors[0], tuple(t for t in tensors[1:] if t is not None)
        if node.op_type == "QuantizeLinear":
            found[node.output[0]] = _Entry("Q", node, rest)
        elif node.op_type == "DequantizeLinear" and first is None:
            found[node.output[0]] = _Entry("D", node, rest)
        elif node.op_type == "DequantizeLinear" and first is not None:
            kind = "B" if first.data_type == TensorProto.INT32 else "W"
            found[node.output[0]] = _Entry(kind, node, (*rest, first))
        elif node.op_type == "Clip" and makers.get(node.input[0]) == "QuantizeLinear":
            found[node.output[0]] = _Entry("C", node, rest)
    for name in _weights(proto):
        if name in constants and constants[name].data_type not in _INTEGERS:
            found.setdefault(name, _Entry("F", None, (constants[name],)))
    return found


def _weights(proto: onnx.ModelProto) -> list[str]:
    """Return the names of the tensors that hold weights, as the metadata have them: floats where the target takes floats."""
    table = next((entry.value for entry in proto.metadata_props if entry.key == "genie_onnx.weights"), "{}")
    try:
        return [str(entry["codes"]) for entry in json.loads(table).values()]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []  # damaged: they are missed then


def _constants(proto: onnx.ModelProto) -> dict[str, TensorProto]:
    made = {
        node.output[0]: attribute.t
        for node in proto.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return made | {tensor.name: tensor for tensor in proto.graph.initializer}


def _half_precision(proto: onnx.ModelProto, written: int) -> Iterator[tuple[str, str]]:
    found = _halves(proto)
    if found > written:
        yield "", f"{found - written} tensors and Cast nodes are half precision: the file was converted to float16 afterwards"


def _reordered(proto: onnx.ModelProto) -> bool:
    """Whether onnxruntime has laid float weights out for one kind of CPU, by blocks of channels."""
    return any(node.domain == "com.microsoft.nchwc" for node in proto.graph.node)


def _halves(proto: onnx.ModelProto) -> int:
    casts = [a.i for node in proto.graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"]
    kinds = [tensor.data_type for tensor in _constants(proto).values()]
    return sum(kind in HALVES for kind in [*casts, *kinds])


def _strangers(proto: onnx.ModelProto, found: Mapping[str, _Entry], table: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Yield what rounds though it was not written: a known grid once more changes nothing (onnxruntime moves Q/DQ about)."""
    grids = {tuple(digests[:2]) for kind, *digests in table.values() if kind in "QWB"}
    makers = {name: node for node in proto.graph.node for name in node.output}
    for name, entry in found.items():
        if name in table or entry.kind not in "QDWB":
            continue
        rounding = _rounding(entry, makers, found)
        if rounding is not None and rounding.digests != entry.digests:
            yield name, f"{_what(name, entry)}: another grid than that of the QuantizeLinear before it"
        elif rounding is None and entry.digests[:2] not in grids:
            yield name, f"{_what(name, entry)}: a grid that was not written ({_said('scale', entry.tensors[0])})"
    for node in proto.graph.node:
        if node.op_type in _AT_RUN_TIME:
            yield node.output[0], f"'{node.output[0]}', {node.op_type} '{node.name}': the file was quantised again, at run time"


def _rounding(entry: _Entry, makers: Mapping[str, onnx.NodeProto], found: Mapping[str, _Entry]) -> _Entry | None:
    """Return the QuantizeLinear that makes what a DequantizeLinear reads; a Clip may lie between."""
    if entry.kind != "D" or entry.node is None:
        return None
    codes = entry.node.input[0]
    maker = makers.get(codes)
    source = found.get(maker.input[0] if maker is not None and maker.op_type == "Clip" else codes)
    return source if source is not None and source.kind == "Q" else None


def _what(name: str, entry: _Entry) -> str:
    return f"'{name}'" + ("" if entry.node is None else f", {entry.node.op_type} '{entry.node.name}'")


def _said(part: str, tensor: TensorProto) -> str:
    if part in ("scale", "numbers") and tensor.data_type != TensorProto.FLOAT:
        return f"{part} in {TensorProto.DataType.Name(tensor.data_type)}"
    numbers = numpy_helper.to_array(tensor)
    value = f" ({numbers.item():.6g} in the file)" if numbers.size == 1 else ""
    return f"other {part}{value}" if part in ("codes", "numbers", "bits") else f"another {part}{value}"


def _digest(tensor: TensorProto, part: str) -> str:
    """Return LETTERS hexadecimal digits of the numbers; of codes and weights their shape too."""
    numbers = numpy_helper.to_array(tensor)
    state = hashlib.sha256()
    if part in ("codes", "numbers"):
        state.update(repr(numbers.shape).encode())
    if part in ("scale", "numbers"):
        state.update(numbers.dtype.name.encode())
        state.update(numbers.tobytes())
        return state.hexdigest()[:LETTERS]
    for piece in _pieces(numbers):
        state.update(piece.astype("<i4").tobytes())
    return state.hexdigest()[:LETTERS]


def _pieces(numbers: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    flat = np.ascontiguousarray(numbers).reshape(-1)
    for start in range(0, flat.size, PIECE):
        yield flat[start : start + PIECE]


def _split(entry: str) -> list[str]:
    """Return the kind and the digests of an entry."""
    kind, digits = entry[0], entry[1:]
    if len(digits) != LETTERS * len(_PARTS[kind]):
        raise ValueError(f"{entry} has another length")
    return [kind, *(digits[k : k + LETTERS] for k in range(0, len(digits), LETTERS))]


def _read(text: str) -> tuple[int, dict[str, list[str]]]:
    """Return what `with_checksums` wrote. The file may be anybody's."""
    try:
        content = json.loads(text)
        table = {str(name): _split(str(entry)) for name, entry in content["nodes"].items()}
        return int(content["halves"]), table
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError(f"the file's metadata '{KEY}' are damaged ({error!r}): export the run again") from error
