"""What of the user's model is seen from outside: names, types, dims, documentation, producer, metadata.

The working copy has a free batch and no documentation; here the user's own face is put back on it.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

METADATA_PREFIX = "genie_onnx."


def restore_interface(model: ir.Model, user: ir.Model, metadata: Mapping[str, str]) -> None:
    """Give `model` the interface of `user` in place, and our own metadata under `genie_onnx.*`.

    Raises ValueError where inputs or outputs are not those of `user` by name and order.
    """
    mine = (model.graph.inputs, model.graph.outputs)
    theirs = ([v for v in user.graph.inputs if not v.is_initializer()], user.graph.outputs)
    for kind, ours, users in zip(("inputs", "outputs"), mine, theirs, strict=True):
        names = [v.name for v in ours], [v.name for v in users]
        if names[0] != names[1]:
            raise ValueError(f"the {kind} are {names[0]}, the user's {names[1]}")
        for value, original in zip(ours, users, strict=True):
            value.type = original.type
            value.shape = original.shape.copy() if original.shape is not None else None
            value.doc_string = original.doc_string
            value.metadata_props.update(original.metadata_props)
    model.producer_name, model.producer_version = user.producer_name, user.producer_version
    model.domain, model.model_version, model.doc_string = user.domain, user.model_version, user.doc_string
    model.graph.name, model.graph.doc_string = user.graph.name, user.graph.doc_string
    model.graph.metadata_props.update(user.graph.metadata_props)
    model.metadata_props.clear()
    model.metadata_props.update(user.metadata_props)
    model.metadata_props.update({f"{METADATA_PREFIX}{key}": text for key, text in metadata.items()})


def drop_invented_names(model: ir.Model) -> None:
    """Leave dimensions of values unnamed, in place, whose names shape inference made up (`unk__0`): onnxruntime hands them on to
    outputs that are declared without. Names of the inputs' dimensions stay."""
    named = {dim for value in model.graph.inputs for dim in value.shape or ()}
    for value in (value for node in model.graph for value in node.outputs if value.shape is not None):
        value.shape = ir.Shape([dim if isinstance(dim, int) or dim in named else None for dim in value.shape or ()])


def minimal_ir_version(opsets: Mapping[str, int]) -> int:
    """Return the oldest IR version that may hold `opsets`: the one that most runtimes read."""
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return int(onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True))
