"""Outputs of a model that no input reaches: constants, whose first dimension does not count samples."""

from __future__ import annotations

from pathlib import Path

import onnx


def unreached(model: bytes | Path) -> frozenset[str]:
    """Return the outputs of `model` that are computed from constants alone."""
    loaded = onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load_model(model, load_external_data=False)
    graph = loaded.graph
    reached = {v.name for v in graph.input} - {t.name for t in graph.initializer}
    for node in graph.node:
        inner = {name for a in node.attribute for part in (a.g, *a.graphs) for inside in part.node for name in inside.input}
        if not reached.isdisjoint((*node.input, *inner)):
            reached.update(node.output)
    return frozenset(v.name for v in graph.output if v.name not in reached)
