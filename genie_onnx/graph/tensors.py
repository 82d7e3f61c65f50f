"""The tensors stored in or beside a model file, held against what their headers claim, before any of them is read.

A header may claim any shape, any file and any offset. Here the claim is compared with the bytes that are really there:
in the message, or in an external file inside the model's folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

_REPEATED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def stored_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model: initializers and attributes, in subgraphs and functions too."""
    yield from _of_graph(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _of_node(node)


def tensor_problems(proto: onnx.ModelProto, folder: Path | None) -> list[str]:
    """Return a sentence for each tensor whose data is missing, misplaced or of the wrong size.

    `folder` holds the model's external files; None for a model handed in as a message, which may then have none.
    """
    problems = [f"tensor '{t.name}' {problem}" for t in stored_tensors(proto) if (problem := _problem(t, folder)) is not None]
    if proto.graph.sparse_initializer:
        names = ", ".join(f"'{s.values.name}'" for s in proto.graph.sparse_initializer[:3])
        problems.append(f"sparse initializers ({names}) are not supported; save the model with dense weights.")
    return problems


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from _of_graph(attribute.g)
        for graph in attribute.graphs:
            yield from _of_graph(graph)


def _problem(tensor: onnx.TensorProto, folder: Path | None) -> str | None:
    """Return what is wrong with one tensor, None where its bytes are as claimed."""
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        return f"has the unknown data type {tensor.data_type}."
    if dtype == ir.DataType.UNDEFINED:
        return "has no data type."
    if any(d < 0 for d in tensor.dims):
        return f"has the impossible shape {list(tensor.dims)}."
    count = math.prod(tensor.dims)
    expected = 0 if dtype == ir.DataType.STRING else -(-count * dtype.bitwidth // 8)
    if uses_external_data(tensor):
        return _external_problem(tensor, expected, folder)
    if tensor.HasField("raw_data"):
        found = len(tensor.raw_data)
        return (
            None
            if found == expected
            else f"claims shape {list(tensor.dims)}, {expected} bytes, but has {found}; the file is damaged."
        )
    # entries of 4 bits and less share a field of int32_data; complex numbers take two fields each
    fields = sum(len(getattr(tensor, name)) for name in _REPEATED)
    if 0 < dtype.bitwidth < 8:
        wanted = {-(-count * dtype.bitwidth // 8), -(-count * dtype.bitwidth // 32)}
    else:
        wanted = {2 * count if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128) else count}
    return (
        None if fields in wanted else f"claims shape {list(tensor.dims)}, {count} numbers, but has {fields}; the file is damaged."
    )


def _external_problem(tensor: onnx.TensorProto, expected: int, folder: Path | None) -> str | None:
    try:
        info = ExternalDataInfo(tensor)
    except ValueError as error:
        return f"says where it lies in a way that cannot be: {error}."
    if folder is None:
        return f"lies in the external file '{info.location}', but the model was not read from a path; give the .onnx file's path."
    try:
        path = (folder / info.location).resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a zero byte in it
        return f"lies in '{info.location[:100]}', which cannot be a file ({error}); export the model again."
    if not path.is_relative_to(folder.resolve()):
        return f"lies in '{info.location}', outside the model's folder; such files are not read. Put the file beside the model."
    if not path.is_file():
        return f"lies in the external file '{info.location}', which is missing; it belongs beside the model."
    if path.stat().st_nlink > 1:  # onnx_ir refuses these when it maps them: a hard link can stand for a file outside the folder
        return f"lies in '{info.location}', a file with several hard links; such files are not read. Copy it."
    offset, length = info.offset or 0, expected if info.length is None else info.length
    if length != expected:
        return f"claims shape {list(tensor.dims)}, {expected} bytes, but {length} of '{info.location}'; the file is damaged."
    if offset < 0 or offset + length > path.stat().st_size:
        return f"ends beyond the end of '{info.location}'; that file is truncated or belongs to another model."
    return None
