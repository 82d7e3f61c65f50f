"""Everything about a model that is not supported, all at once, before any work starts.

Each finding is one sentence: node and operator, what was found, what is supported, what to do next. Operators are judged on
the normalised graph, so that what folding removes (shape arithmetic, identities, constants) is not held against a model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import onnx_ir as ir

from genie_onnx.errors import ModelError
from genie_onnx.framing import Layout
from genie_onnx.graph.beside_image import way_out
from genie_onnx.graph.consistency import channels, contradictions, malformed_nodes, numbers, sizes, undefined_values
from genie_onnx.graph.explicit_pads import has_automatic_pads
from genie_onnx.graph.free_batch import batch_obstacle
from genie_onnx.graph.image_layout import first_reader, image_layout, sample_sizes
from genie_onnx.graph.names import node_name
from genie_onnx.graph.normalise import normalise
from genie_onnx.graph.ops import QUANTIZED_OPS, SUPPORTED_OPS
from genie_onnx.graph.query import attribute
from genie_onnx.graph.remedies import remedy

_CUT = "cut the conversion to float off the front of the model"
_CONVERSIONS = {
    ir.DataType.FLOAT16: "convert it to float32 first",
    ir.DataType.BFLOAT16: "convert it to float32 first",
    ir.DataType.DOUBLE: "export the model in float32 (model.float())",
    ir.DataType.STRING: "models of text are not supported, networks of convolutions are",
}


def check(model: ir.Model, layout: Layout | None = None) -> ir.Model:
    """Return the normalised copy of a loaded model; raise ModelError with every problem of it where there are any.

    `layout`: of its input, where the user has said so; None: image_layout's.
    """
    found = [*_quantized(model), *undefined_values(model), *malformed_nodes(model)]
    if found:
        raise ModelError(found)
    found = list(_interface(model, layout))
    try:
        graph = normalise(model)
    except ModelError as error:
        raise ModelError([*found, *error.problems]) from error
    unsupported = list(_operators(graph))
    found += [*unsupported, *_extra_outputs(graph), *_pads(graph), *numbers(graph)]
    if not unsupported:  # what such an operator does with the batch is not known, and its own sentence says what to do
        found += _fixed_batch(graph)
    found = found or list(channels(graph)) or list(contradictions(model, graph)) or list(sizes(model, graph))
    if found:
        raise ModelError(found)
    return graph


def problems(model: ir.Model) -> list[str]:
    """Return a sentence for each thing in a loaded model that is not supported; `model` is not changed."""
    try:
        check(model)
    except ModelError as error:
        return list(error.problems)
    return []


def _quantized(model: ir.Model) -> Iterator[str]:
    nodes = [
        n
        for n in ir.traversal.RecursiveGraphIterator(model.graph)
        if n.op_type in QUANTIZED_OPS or n.op_type.startswith("QLinear")
    ]
    if nodes:
        yield (
            f"the model is quantized already ({len(nodes)} such nodes, the first is {nodes[0].op_type} '{node_name(nodes[0])}'); "
            "give the float model it was made from."
        )


def _interface(model: ir.Model, layout: Layout | None) -> Iterator[str]:
    inputs = list(model.graph.inputs)
    if len(inputs) != 1:
        names = ", ".join(f"'{v.name}' {_described(v)}" for v in inputs) or "none"
        yield f"the model has {len(inputs)} inputs ({names}); one image input is supported. {way_out(inputs)}"
        return
    (value,) = inputs
    if not isinstance(value.type, ir.TensorType) or value.dtype is None:
        found = "no type" if value.type is None else f"the type {value.type}"
        yield f"input '{value.name}' has {found}; a float32 tensor is supported. Export the part that takes the image alone."
        return
    if value.dtype != ir.DataType.FLOAT:
        yield f"input '{value.name}' has {value.dtype.name}; float32 is supported: {_CONVERSIONS.get(value.dtype, _CUT)}."
    shape = None if value.shape is None else list(value.shape)
    found = "unknown" if shape is None else f"[{', '.join(str(d) for d in shape)}]"
    if shape is None or len(shape) != 4 or sample_sizes(model, layout or image_layout(model))[0] is None:
        yield (
            f"input '{value.name}' has shape {found}; images [N, C, H, W] or [N, H, W, C] with a fixed number of channels C are "
            "supported. Export the model with that input shape."
        )
    reader = first_reader(model) if layout == "nhwc" else None
    if reader is not None and reader.op_type != "Transpose":
        yield (
            f"input '{value.name}' {found} has its channels on axis 1, as {reader.op_type} '{node_name(reader)}' reads it; "
            "--layout nhwc is not possible. Leave it out."
        )


def _described(value: ir.Value) -> str:
    shape = "of unknown shape" if value.shape is None else f"[{', '.join(str(d) for d in value.shape)}]"
    return f"{'of no type' if value.dtype is None else value.dtype.name} {shape}"


def _operators(graph: ir.Model) -> Iterator[str]:
    kinds: dict[tuple[str, str], list[ir.Node]] = defaultdict(list)
    for node in graph.graph:
        if node.domain != "" or node.op_type not in SUPPORTED_OPS:
            kinds[node.domain, node.op_type].append(node)
    for (domain, op_type), nodes in kinds.items():
        more = f" (and {len(nodes) - 1} more)" if len(nodes) > 1 else ""
        yield f"{op_type} '{nodes[0].name}'{more}: {remedy(domain, op_type)}"


def _extra_outputs(graph: ir.Model) -> Iterator[str]:
    for node in graph.graph:
        read = [v for v in node.outputs[1:] if v.uses() or v.is_graph_output()]
        if read and node.op_type in ("BatchNormalization", "Dropout", "MaxPool", "LayerNormalization"):
            yield (
                f"{node.op_type} '{node.name}': its extra output '{read[0].name}' is used; only the first output is supported. "
                "Export the model in inference mode (model.eval())."
            )
        elif node.op_type == "BatchNormalization" and attribute(node, "training_mode", 0):
            yield f"BatchNormalization '{node.name}' is in training mode; export the model in inference mode (model.eval())."


def _pads(graph: ir.Model) -> Iterator[str]:
    for node in graph.graph:
        if node.domain == "" and has_automatic_pads(node):
            yield (
                f"{node.op_type} '{node.name}': auto_pad={attribute(node, 'auto_pad', 'NOTSET')} depends on an input size that "
                "the file leaves open; explicit pads are supported. Export with a fixed input height and width."
            )


def _fixed_batch(graph: ir.Model) -> Iterator[str]:
    obstacle = batch_obstacle(graph)
    if obstacle is not None:
        yield (
            f"the model is made for a fixed batch, and {obstacle}; a batch of any size is needed. "
            "Export it with a dynamic batch axis (torch.onnx.export: dynamic_axes={'input': {0: 'batch'}})."
        )
