"""A file, or a ModelProto, as an onnx_ir model that the rest of the package can trust structurally.

    bytes -> ModelProto -> versions and tensor sizes checked -> dims of -1 opened -> functions inlined -> opset >= 13 -> ir.Model

Everything that can be wrong with a file as such ends here in one line of ModelError: nothing is allocated because a header
says so, nothing is read outside the model's folder, nothing is unpickled or evaluated. Whether the *network* is one we
support is `check`'s question. Weights in external files are read into memory: the graph then stands for itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx.inliner
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message
from onnx_ir.passes.common import RemoveInitializersFromInputsPass, TopologicalSortPass

from genie_onnx.errors import ModelError
from genie_onnx.graph.detach import detach_tensors
from genie_onnx.graph.functions import function_problem
from genie_onnx.graph.open_dims import open_negative_dims
from genie_onnx.graph.opset import MINIMUM_OPSET, OLDEST_OPSET, default_opset, raise_opset
from genie_onnx.graph.tensors import stored_tensors, tensor_problems

_ORT_IDENTIFIER = b"ORTM"  # https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/flatbuffers/schema/ort.fbs
_PROTOBUF_LIMIT = 2**31 - 1  # bytes in one protobuf message; larger models keep their weights in external files


def load(source: str | os.PathLike[str] | onnx.ModelProto) -> ir.Model:
    """Return the user's model: local functions inlined, opset >= 13, initializers no longer among the inputs, nodes sorted.

    Names of nodes, values, inputs and outputs, dimensions, documentation, metadata and producer are the file's. A ModelProto
    handed in is not changed. Raises ModelError, in one line where the file is unreadable, and one line per tensor else.
    """
    if isinstance(source, onnx.ModelProto):
        proto, folder, name = onnx.ModelProto(), None, "the model"
        proto.CopyFrom(source)  # rewrites of the graph give names to tensors, which may share their memory with the proto
    else:
        path = Path(source)
        proto, folder, name = _parse(path), path.absolute().parent, str(path)
    if _has_undecodable_text(proto):
        raise ModelError(f"{name}: a name in it is not valid text; the file is damaged.")
    _check_versions(proto, name)
    function_finding = function_problem(proto)
    if function_finding is not None:
        raise ModelError(f"{name}: {function_finding}")
    problems = tensor_problems(proto, folder)
    if problems:
        raise ModelError([f"{name}: {problem}" for problem in problems])
    open_negative_dims(proto)
    try:
        return _deserialise(_modern(proto, folder), folder)
    except (onnx.checker.ValidationError, RuntimeError, TypeError, ValueError, LookupError) as error:
        # what onnx's inliner and version converter and onnx_ir raise on graphs that contradict themselves
        cause: BaseException = error
        while cause.__cause__ is not None:  # onnx_ir wraps the finding in the path that led to it
            cause = cause.__cause__
        first_line = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise ModelError(
            f"{name}: the graph cannot be read: {first_line}. Run onnx.checker.check_model on it, or export it again."
        ) from error


def _parse(path: Path) -> onnx.ModelProto:
    if not path.exists():
        raise ModelError(f"{path}: no such file.")
    if path.is_dir():
        raise ModelError(f"{path}: this is a directory; give the .onnx file itself.")
    if not path.is_file():
        raise ModelError(f"{path}: this is not a regular file.")
    size = path.stat().st_size
    if size == 0:
        raise ModelError(f"{path}: the file is empty.")
    if size > _PROTOBUF_LIMIT:
        raise ModelError(f"{path}: {size} bytes are more than an ONNX file can have (2 GiB); save it with external data.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}.") from error
    if data[4:8] == _ORT_IDENTIFIER:
        raise ModelError(
            f"{path}: this is a model in onnxruntime's own format (.ort), not ONNX. Give the .onnx file that it was made of; "
            "where that was quantised, NAME.ort computes as it does, NAME.with_runtime_opt.ort in floats."
        )
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{path}: this is not an ONNX file, or it is truncated or damaged.") from error
    if not proto.HasField("graph") or proto.ir_version == 0:
        raise ModelError(f"{path}: this is not an ONNX model (no graph or no IR version in it).")
    return proto


def _has_undecodable_text(message: Message) -> bool:
    """Whether a text field anywhere holds bytes that are no UTF-8, which protobuf hands out as bytes."""
    for field, content in message.ListFields():
        parts = content if isinstance(content, Sequence) and not isinstance(content, str | bytes) else [content]
        if field.type == field.TYPE_STRING and any(isinstance(part, bytes) for part in parts):
            return True
        if field.type == field.TYPE_MESSAGE and any(_has_undecodable_text(part) for part in parts):
            return True
    return False


def _check_versions(proto: onnx.ModelProto, name: str) -> None:
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{name}: IR version {proto.ir_version} is newer than onnx {onnx.__version__} knows ({onnx.IR_VERSION}); "
            "update onnx, or export for an older version."
        )
    opset = default_opset(proto)
    if opset is None:
        raise ModelError(
            f"{name}: it does not say which version of the ONNX operators it uses; the file is truncated or damaged."
        )
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(
            f"{name}: opset {opset} is newer than onnx {onnx.__version__} knows ({newest}); "
            f"update onnx, or export with opset_version={newest}."
        )
    if opset < OLDEST_OPSET:
        raise ModelError(
            f"{name}: opset {opset} is older than {OLDEST_OPSET}, the oldest supported; "
            "export the model again, or use onnx.version_converter."
        )
    if not proto.graph.output:
        raise ModelError(f"{name}: the graph has no outputs.")
    if not proto.graph.node:
        raise ModelError(f"{name}: the graph has no nodes.")


def _modern(proto: onnx.ModelProto, folder: Path | None) -> onnx.ModelProto:
    """Functions inlined and opset raised; both go through onnx's own C++ code, which wants the weights in the message."""
    opset = default_opset(proto)
    assert opset is not None
    if not proto.functions and opset >= MINIMUM_OPSET:
        return proto
    if folder is not None and any(onnx.external_data_helper.uses_external_data(t) for t in stored_tensors(proto)):
        onnx.external_data_helper.load_external_data_for_model(proto, str(folder))
    declared = {value.name: value for value in (*proto.graph.input, *proto.graph.output)}
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
    modern = raise_opset(proto) if opset < MINIMUM_OPSET else proto
    for value in (*modern.graph.input, *modern.graph.output):
        if value.name in declared:  # the converter infers shapes, and puts names and numbers where the file has none
            value.CopyFrom(declared[value.name])
    return modern


def _deserialise(proto: onnx.ModelProto, folder: Path | None) -> ir.Model:
    model = ir.from_proto(proto)
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, str(folder))
        model = ir.external_data.load_to_model(model)
    detach_tensors(model)
    model.graph.name = model.graph.name or "graph"  # runtimes do without a name, onnx's checker does not
    RemoveInitializersFromInputsPass()(model)
    TopologicalSortPass()(model)
    return model
