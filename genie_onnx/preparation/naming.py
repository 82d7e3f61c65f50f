"""The names of a model's nodes, for completion in a shell: read from the file alone, weights beside it are not touched."""

from __future__ import annotations

import os

from genie_onnx.errors import ModelError


def node_operators(model: str | os.PathLike[str]) -> dict[str, str]:
    """Return the operator type of each node by name, in the order of the file. Raises ModelError where it is no ONNX file."""
    import onnx  # half a second, which whoever asks for nothing else need not wait for
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model(model, load_external_data=False).graph
    except (OSError, DecodeError) as error:
        raise ModelError(f"{os.fspath(model)} cannot be read as ONNX: {error}") from error
    return {node.name: node.op_type for node in graph.node if node.name}
