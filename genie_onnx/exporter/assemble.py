"""The deploy graph, with every quantised weight and value as codes and grids: the file that users take away.

    deploy graph + placement + codes  ->  biases, weights, activations in QDQ form  ->  the user's interface  ->  ModelProto

The order matters: a bias needs the names of its layer's input and weight, which the other two steps rewire.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from genie_onnx.errors import ConfigError, ModelError
from genie_onnx.exporter.bias import quantize_biases, round_bias
from genie_onnx.exporter.builder import Builder
from genie_onnx.exporter.containers import INT4_OPSET, needs_opset
from genie_onnx.exporter.explicit import write_defaults
from genie_onnx.exporter.float_layers import float_layers, keep_float
from genie_onnx.exporter.float_pools import keep_float_pools
from genie_onnx.exporter.for_hls4ml import hls4ml_problems, part_biases
from genie_onnx.exporter.interface import drop_invented_names, minimal_ir_version, restore_interface
from genie_onnx.exporter.matmul_bias import keep_matmul_biases
from genie_onnx.exporter.mean_convolutions import convolve_means
from genie_onnx.exporter.older_opset import newer_meanings, relabelled
from genie_onnx.exporter.quant_nodes import define_quant, quant_means, quant_values, quant_weights
from genie_onnx.exporter.rounded_weights import round_weights
from genie_onnx.exporter.unused import drop_unused_initializers
from genie_onnx.exporter.values import quantize_activations
from genie_onnx.exporter.weights import quantize_weights, quantized_readers
from genie_onnx.graph import query
from genie_onnx.placement import Placement, integer_layers
from genie_onnx.qparams import QParams, QTensor
from genie_onnx.targets import Target

FUNCTIONS = 8  # the first IR version that has functions in a file


OLDEST = 7  # onnx.version_converter goes back so far


class Codes(Protocol):
    """What reconstruction yields: codes by initializer name, grids by ActivationSpec name."""

    @property
    def weights(self) -> Mapping[str, QTensor]:
        """Weight codes, shaped like the weight."""

    @property
    def activations(self) -> Mapping[str, QParams]:
        """Per-tensor grids."""


def export(
    deploy: ir.Model, user: ir.Model, placement: Placement, codes: Codes, target: Target, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Return the quantised model; `deploy` and `user` are left as they are.

    `deploy` is the normalised graph with BatchNormalization folded, `user` the model as loaded: the result has the nodes
    of the one and the interface of the other. Its `metadata_props` are the user's, `metadata` with each key prefixed by
    `genie_onnx.`, and tables in JSON: `genie_onnx.layers` (integer_layers), `genie_onnx.weights` and `genie_onnx.activations`:
    {name: {"bits": true bit width, "min" and "max": of the grid, "codes": name of the tensor that has the codes in this file}}.

    Shapes are the user's; `fix_shapes` is for targets that need fixed ones. Raises ModelError where the target needs an opset
    that the graph cannot be brought to.
    """
    model = _at_fitting_opset(deploy, placement, target)
    if target.form.style == "float":
        weights, activations = round_weights(model.graph, placement.weights, codes.weights), dict[str, str]()
    elif target.form.style == "qonnx":
        weights, activations = _in_qonnx_form(model, placement, codes, target)
    else:
        weights, activations = _in_qdq_form(model, placement, codes, target)
    grids = {value: codes.activations[spec.name] for spec in placement.activations for value in spec.values}
    tables = {
        "target": target.name,
        "weights": json.dumps({n: _entry(codes.weights[n].qparams, c) for n, c in weights.items()}),
        "activations": json.dumps({n: _entry(grids[n], c) for n, c in activations.items()}),
    }
    if target.form.style == "qdq":
        tables["layers"] = json.dumps(integer_layers(deploy, placement, target.constraints))
    restore_interface(model, user, {**metadata, **tables})
    return _finished(model)


def _entry(grid: QParams, codes: str) -> dict[str, Any]:
    """Return what the metadata say of one tensor: its true bits, its range over all channels, and where its codes are."""
    low, high = (grid.scale * (code - grid.zero_point) for code in (0, grid.qmax))
    return {"bits": grid.bits, "min": float(low.min()), "max": float(high.max()), "codes": codes}


def _in_qdq_form(model: ir.Model, placement: Placement, codes: Codes, target: Target) -> tuple[dict[str, str], dict[str, str]]:
    """Put codes and Q/DQ into `model` in place; return the names of the tensors of codes, of weights and of values."""
    builder = Builder(model.graph)
    grids = {value: codes.activations[spec.name] for spec in placement.activations for value in spec.values}

    readers = quantized_readers(model.graph, placement.weights)
    floats = float_layers(model.graph, readers, grids)
    if target.form.bias == "int32":
        quantize_biases(builder, codes.weights, grids, readers)
        keep_matmul_biases(model.graph, [*readers, *(str(node.name) for node in floats)], grids)
        for node in floats:
            if node.op_type != "MatMul":
                keep_float(builder, node)
    keep_float_pools(builder, grids)
    weights = quantize_weights(builder, placement.weights, codes.weights, target.form)
    values = query.value_map(model)
    return weights, quantize_activations(builder, values, placement.activations, codes.activations, target, placement.from_floats)


def _in_qonnx_form(model: ir.Model, placement: Placement, codes: Codes, target: Target) -> tuple[dict[str, str], dict[str, str]]:
    """Put Quant nodes into `model` in place; return the names of the rounded tensors, of weights and of values."""
    builder = Builder(model.graph)
    define_quant(model, query.opset(model))
    means = convolve_means(builder) if target.form.reader == "hls4ml" else []
    if target.form.bias == "int32":
        grids = {value: codes.activations[spec.name] for spec in placement.activations for value in spec.values}
        readers = quantized_readers(model.graph, placement.weights)
        quantize_biases(builder, codes.weights, grids, readers, round_bias)
    write_defaults(builder)
    if target.form.reader == "hls4ml":
        scales = {spec.value: codes.weights[spec.value].qparams.scale for spec in placement.weights}
        part_biases(builder, [name for name, scale in scales.items() if np.unique(scale).size > 1])
    weights = quant_weights(builder, placement.weights, codes.weights)
    quant_means(builder, means)
    values = query.value_map(model)
    return weights, quant_values(builder, values, placement.activations, codes.activations, target, placement.from_floats)


def require_form(deploy: ir.Model, placement: Placement, target: Target) -> None:
    """Raise the ModelError of `export` for a target whose form this graph cannot have, before there are any codes."""
    if target.form.reader == "hls4ml" and (problems := hls4ml_problems(deploy)):
        raise ModelError([f"target {target.name}: {problem}" for problem in problems])
    _at_fitting_opset(deploy, placement, target)


def _at_fitting_opset(deploy: ir.Model, placement: Placement, target: Target) -> ir.Model:
    """Return a copy of `deploy` at its own opset, or at the nearest one that `target` can have."""
    own, least, most = query.opset(deploy), needs_opset(placement, target.form), target.form.largest_opset
    opset = max(own, least) if most is None else min(max(own, least), most)
    if target.form.opset is not None:
        opset = _asked_for(target.form.opset, least, most, target)
    if opset == own:
        return deploy.clone()
    limit = f"needs opset {opset}" if opset > own else f"takes opset {opset} at most"
    way_out = "use --target portable"
    if target.form.opset is not None:
        limit, way_out = f"is to have opset {opset} (--opset)", "give another --opset"
    newer = newer_meanings(deploy, opset) if opset < own else []
    if opset < own and not newer:
        return relabelled(deploy, opset)
    source = ir.to_proto(deploy)
    try:
        converted = ir.from_proto(onnx.version_converter.convert_version(source, opset))
    except RuntimeError as error:
        raise ModelError(
            f"target {target.name} {limit}, and this model, opset {own}, cannot be brought to it "
            f"({'; '.join(newer[:3]) or error}); {way_out}, or export the model at opset {opset}"
        ) from error
    lost = set(query.value_map(deploy)) - set(query.value_map(converted))
    if lost:
        raise ModelError(
            f"target {target.name} {limit}, and bringing this model, opset {own}, to it loses the values "
            f"{', '.join(sorted(lost))}; {way_out}, or export the model at opset {opset}"
        )
    return converted


def _asked_for(opset: int, least: int, most: int | None, target: Target) -> int:
    """Return `opset`. Raises ConfigError where the form cannot have it."""
    reason = "INT4 begins there" if least == INT4_OPSET else "a scale for each channel begins there"
    known = onnx.defs.onnx_opset_version()
    if target.form.style == "float":  # no Q/DQ in it
        least, reason = OLDEST, "older ones are not converted"
    if opset < least:
        raise ConfigError(f"target {target.name} needs opset {least} or later, not {opset} (--opset): {reason}")
    if most is not None and opset > most:
        raise ConfigError(f"target {target.name} takes opset {most} at most, not {opset} (--opset)")
    if opset > known:
        raise ConfigError(f"opset {opset} (--opset) is not known to onnx {onnx.__version__}: {known} is the latest")
    return opset


def _finished(model: ir.Model) -> onnx.ModelProto:
    """Return `model` with shapes on every value between its inputs and outputs, which stay as they are declared, at the oldest IR
    version that holds it, checked in full."""
    drop_unused_initializers(model.graph)
    model.ir_version = max(minimal_ir_version(model.graph.opset_imports), FUNCTIONS if model.functions else 0)
    declared = {v: v.shape.copy() for v in model.graph.outputs if v.shape is not None}  # the others need one, to be valid ONNX
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None  # what was known was for a free batch
    ShapeInferencePass(check_type=True, strict_mode=True, data_prop=True)(model)
    drop_invented_names(model)
    for value, shape in declared.items():
        value.shape = shape
    proto = ir.to_proto(model)
    if proto.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF:
        onnx.checker.check_model(proto, full_check=True)
    return proto
