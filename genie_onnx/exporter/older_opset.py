"""A graph at an older opset, where its operators meant the same there: only the number in the file changes.

onnx.version_converter has few steps down (none for Relu 14 -> 13, where BFloat16 was added). Most new versions of operators only
add types, or attributes whose default is what was done before. Which did is read off the schemas; that the file still computes
what was simulated is seen when it is run, as with every file.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir
from onnx.defs import OpSchema


def newer_meanings(model: ir.Model, opset: int) -> list[str]:
    """Return a sentence for each kind of operator of `model` that means something else, or nothing, at `opset`."""
    own = model.graph.opset_imports[""]
    found = (_newer(node, own, opset) for node in model.graph if node.domain == "")
    return list(dict.fromkeys(sentence for sentence in found if sentence))


def relabelled(model: ir.Model, opset: int) -> ir.Model:
    """Return a copy of `model` that says it is of `opset`, without newer attributes that say what is so anyway.

    Only right where `newer_meanings` has nothing to say.
    """
    copy = model.clone()
    for node in copy.graph:
        if node.domain == "":
            then = onnx.defs.get_schema(node.op_type, opset, "")
            for name in [name for name in node.attributes if name not in then.attributes]:
                del node.attributes[name]
    copy.graph.opset_imports[""] = opset
    return copy


def _newer(node: ir.Node, own: int, opset: int) -> str | None:
    now = onnx.defs.get_schema(node.op_type, own, "")
    if now.since_version <= opset:
        return None
    try:
        then = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return f"there is no {node.op_type} before opset {now.since_version}"
    new = sorted({name for name in node.attributes if name not in then.attributes and not _default(node, now, name)})
    if new:
        return f"{node.op_type} has no {', '.join(new)} at opset {opset}"
    if _interface(then, len(node.inputs), len(node.outputs)) != _interface(now, len(node.inputs), len(node.outputs)):
        return f"{node.op_type} has other inputs or outputs at opset {opset}"
    other = [name for name in then.attributes.keys() & now.attributes.keys() if name not in node.attributes]
    if any(then.attributes[name].default_value != now.attributes[name].default_value for name in other):
        return f"{node.op_type} has other defaults at opset {opset}"
    lacking = [name for name, attribute in then.attributes.items() if attribute.required and name not in node.attributes]
    if lacking:
        return f"{node.op_type} needs {', '.join(lacking)} at opset {opset}"
    untyped = sorted(set(_types(node)) - _allowed(then))
    return f"{node.op_type} takes no {', '.join(untyped)} at opset {opset}" if untyped else None


def _default(node: ir.Node, schema: OpSchema, name: str) -> bool:
    """Whether an attribute says what is so anyway."""
    default = onnx.helper.get_attribute_value(schema.attributes[name].default_value)
    value = node.attributes[name].value
    return bool(value == (default.decode() if isinstance(default, bytes) else default))


def _interface(schema: OpSchema, inputs: int, outputs: int) -> tuple[tuple[str, bool], ...]:
    """Return the first inputs and outputs of `schema`: name, and whether it takes several."""
    parts = (*list(schema.inputs)[:inputs], *list(schema.outputs)[:outputs])
    return tuple((part.name, part.option == OpSchema.FormalParameterOption.Variadic) for part in parts)


def _types(node: ir.Node) -> Iterator[str]:
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.dtype is not None:
            yield f"tensor({value.dtype.name.lower()})"


def _allowed(schema: OpSchema) -> set[str]:
    """Return all types that some operand may have."""
    constraints = {entry.type_param_str: set(entry.allowed_type_strs) for entry in schema.type_constraints}
    return {kind for part in (*schema.inputs, *schema.outputs) for kind in constraints.get(part.type_str, {part.type_str})}
