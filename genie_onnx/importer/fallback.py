"""The operators left to the converters of onnx2torch.

onnx2torch (1.5.15) is used as a library of modules: one node at a time, in a graph of that node and its constant inputs. Its
registered versions end at opset 17, so the newest one not above the node's opset is taken, provided that the operator's signature
did not change in between. Only converters that were compared with onnxruntime are used (VETTED): others have been seen to compute
something else without a word (CumSum has the wrong default of `reverse`, NonZero is transposed, MaxPool with indices returns one
image of the batch).
"""

from __future__ import annotations

import importlib
import sys
import types
from functools import lru_cache

import onnx
import onnx_ir as ir

from genie_onnx.errors import ModelError
from genie_onnx.importer.operation import NodeReader, Operation

VETTED = frozenset({"Acos", "Asin", "Atan", "Einsum", "EyeLike", "Tan"})


def convert(node: NodeReader) -> Operation:
    """The Operation for one node. Raises ModelError where onnx2torch has no converter, or refuses the node."""
    op = node.node.op_type
    if node.node.domain not in ("", "ai.onnx") or op not in VETTED:
        raise _unsupported(node)
    library = onnx2torch()
    version = _closest_version(node, library)
    text = ir.to_proto(node.node)
    text.domain = ""
    graph_proto = onnx.GraphProto(node=[text], name="one_node")
    for value in (*node.node.inputs, *node.node.outputs):
        if value is None or not value.name:
            continue
        if value.is_initializer() and value.const_value is not None:
            graph_proto.initializer.append(onnx.numpy_helper.from_array(value.const_value.numpy(), name=value.name))
        elif value.type is not None:
            graph_proto.value_info.append(ir.to_proto(value))
    graph = library["onnx_graph"].OnnxGraph(graph_proto)
    (source,) = graph.nodes.values()
    try:
        result = library["registry"].get_converter(op, version)(source, graph)
    except (NotImplementedError, KeyError, ValueError) as error:
        raise node.refuse(f"onnx2torch does not convert it ({error})", "see the documentation of onnx2torch 1.5.15") from error
    names = [None if value is None else value.name for value in node.node.inputs]
    return Operation(
        result.torch_module.eval().requires_grad_(False),
        tensors=tuple(names.index(name) for name in result.onnx_mapping.inputs if name),
        outputs=len(result.onnx_mapping.outputs),
    )


def _closest_version(node: NodeReader, library: dict[str, types.ModuleType]) -> int:
    op = node.node.op_type
    try:
        wanted = onnx.defs.get_schema(op, node.opset, "")
    except onnx.defs.SchemaError as error:
        raise _unsupported(node) from error
    for version in range(min(node.opset, wanted.since_version), 0, -1):
        try:
            library["registry"].get_converter(op, version)
        except NotImplementedError:
            continue
        found = onnx.defs.get_schema(op, version, "")
        if _signature(found) != _signature(wanted):
            raise node.refuse(
                f"only its form of opset {found.since_version} is known, and its inputs or attributes changed since",
                f"opset {found.since_version} to {wanted.since_version - 1}; export the model at such an opset",
            )
        return version
    raise _unsupported(node)


def _signature(schema: onnx.defs.OpSchema) -> tuple[list[str], list[str], list[str]]:
    return [value.name for value in schema.inputs], [value.name for value in schema.outputs], sorted(schema.attributes)


def _unsupported(node: NodeReader) -> ModelError:
    return ModelError(
        f"{node!r}: the operator {node.node.domain or 'ai.onnx'}::{node.node.op_type} (opset {node.opset}) is not supported. "
        "Cut the model before this node (onnx.utils.extract_model), or replace the node by supported ones."
    )


@lru_cache(maxsize=1)
def onnx2torch() -> dict[str, types.ModuleType]:
    """The modules of onnx2torch that are used here, imported with or without a working torchvision.

    onnx2torch imports torchvision for two operators; torchvision may be absent, or built for another torch and fail to import.
    Then empty stand-ins take its place for the time of this import only.
    """
    names = ("torchvision", "torchvision.ops")
    standing: dict[str, types.ModuleType] = {}
    try:
        importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError, OSError, AttributeError):
        for name in list(sys.modules):
            if name == "torchvision" or name.startswith("torchvision."):
                del sys.modules[name]
        vision, ops = types.ModuleType(names[0]), types.ModuleType(names[1])
        vision.ops = ops  # type: ignore[attr-defined]
        ops.roi_align = None  # type: ignore[attr-defined]
        standing = dict(zip(names, (vision, ops), strict=True))
        sys.modules.update(standing)
    try:
        importlib.import_module("onnx2torch.node_converters")  # registers the converters
        return {
            "registry": importlib.import_module("onnx2torch.node_converters.registry"),
            "onnx_graph": importlib.import_module("onnx2torch.onnx_graph"),
        }
    finally:
        for name, module in standing.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
