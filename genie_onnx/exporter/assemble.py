"""The deploy graph, with every quantised weight and value as codes and grids: the file that users take away.

    deploy graph + placement + codes  ->  biases, weights, activations in QDQ form  ->  the user's interface  ->  ModelProto

The order matters: a bias needs the names of its layer's input and weight, which the other two steps rewire.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from genie_onnx.config import Container
from genie_onnx.errors import ModelError
from genie_onnx.exporter.activations import quantize_activations
from genie_onnx.exporter.bias import quantize_biases
from genie_onnx.exporter.builder import Builder
from genie_onnx.exporter.containers import needs_opset
from genie_onnx.exporter.float_layers import float_layers, keep_float
from genie_onnx.exporter.interface import minimal_ir_version, restore_interface
from genie_onnx.exporter.matmul_bias import keep_matmul_biases
from genie_onnx.exporter.weights import quantize_weights, quantized_readers
from genie_onnx.graph import query
from genie_onnx.placement import Placement
from genie_onnx.qparams import QParams, QTensor


class Codes(Protocol):
    """What reconstruction yields: codes by initializer name, grids by ActivationSpec name."""

    @property
    def weights(self) -> Mapping[str, QTensor]:
        """Weight codes, shaped like the weight."""

    @property
    def activations(self) -> Mapping[str, QParams]:
        """Per-tensor grids."""


def export(
    deploy: ir.Model, user: ir.Model, placement: Placement, codes: Codes, container: Container, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Return the quantised model; `deploy` and `user` are left as they are.

    `deploy` is the normalised graph with BatchNormalization folded, `user` the model as loaded: the result has the nodes
    of the one and the interface of the other. Its `metadata_props` are the user's, `metadata` with each key prefixed by
    `genie_onnx.`, and two tables in JSON, `genie_onnx.weights` and `genie_onnx.activations`:
    {name: {"bits": true bit width, "codes": name of the tensor that has the codes in this file}}.

    Raises ModelError where the container needs an opset that the graph cannot be raised to.
    """
    opset = needs_opset(placement, container)
    model = _raised(deploy, opset) if query.opset(deploy) < opset else deploy.clone()
    builder = Builder(model.graph)
    grids = {value: codes.activations[spec.name] for spec in placement.activations for value in spec.values}

    readers = quantized_readers(model.graph, placement.weights)
    floats = float_layers(model.graph, readers, grids)
    quantize_biases(builder, codes.weights, grids, readers)
    keep_matmul_biases(model.graph, [*readers, *(str(node.name) for node in floats)], grids)
    for node in floats:
        if node.op_type != "MatMul":
            keep_float(builder, node)
    weights = quantize_weights(builder, placement.weights, codes.weights, container)
    activations = quantize_activations(builder, query.value_map(model), placement.activations, codes.activations)

    tables = {
        "container": container,
        "weights": json.dumps({n: {"bits": codes.weights[n].qparams.bits, "codes": c} for n, c in weights.items()}),
        "activations": json.dumps({n: {"bits": grids[n].bits, "codes": c} for n, c in activations.items()}),
    }
    restore_interface(model, user, {**metadata, **tables})
    return _finished(model)


def require_container(deploy: ir.Model, placement: Placement, container: Container) -> None:
    """Raise the ModelError of `export` for a container that this graph cannot have, before there are any codes."""
    opset = needs_opset(placement, container)
    if query.opset(deploy) < opset:
        _raised(deploy, opset)


def _raised(deploy: ir.Model, opset: int) -> ir.Model:
    """Return a copy of `deploy` at `opset`."""
    source = ir.to_proto(deploy)
    try:
        raised = ir.from_proto(onnx.version_converter.convert_version(source, opset))
    except RuntimeError as error:
        raise ModelError(
            f"the int4 container needs opset {opset}, and this model, opset {query.opset(deploy)}, cannot be raised to it "
            f"({error}); use --container portable, or export the model at opset {opset}"
        ) from error
    lost = set(query.value_map(deploy)) - set(query.value_map(raised))
    if lost:
        raise ModelError(
            f"raising this model to opset {opset} for the int4 container loses the values {', '.join(sorted(lost))}; "
            f"use --container portable, or export the model at opset {opset}"
        )
    return raised


def _finished(model: ir.Model) -> onnx.ModelProto:
    """Return `model` with shapes on every value, at the oldest IR version that holds it, checked in full."""
    model.ir_version = minimal_ir_version(model.graph.opset_imports)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None  # what was known was for a free batch
    ShapeInferencePass(check_type=True, strict_mode=True, data_prop=True)(model)
    proto = ir.to_proto(model)
    if proto.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF:
        onnx.checker.check_model(proto, full_check=True)
    return proto
