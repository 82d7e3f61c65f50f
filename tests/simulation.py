"""A quantised network without Q/DQ nodes: float operators run one by one, numpy rounds between them.

The reference that exported files are held against. It shares nothing with the exporter but the placement and the
definition of a grid (qparams). Also min-max grids, so that a test needs no calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort

from genie_onnx import graph
from genie_onnx.exporter import export
from genie_onnx.graph import query
from genie_onnx.placement import ActivationSpec, Placement, WeightSpec
from genie_onnx.qparams import QParams, QTensor, bias_codes, bias_scale, quantize
from genie_onnx.targets import TARGETS
from genie_onnx.validate import FloatParts, Reference

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Codes:
    weights: dict[str, QTensor] = field(default_factory=dict)
    activations: dict[str, QParams] = field(default_factory=dict)
    biases: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Simulated:
    activations: dict[str, QTensor]  # codes of every quantised value
    outputs: dict[str, Array]
    values: dict[str, Array]  # every value before it is rounded


@dataclass(frozen=True)
class Case:
    """A model, its codes, and its file."""

    user: ir.Model
    deploy: ir.Model
    placement: Placement
    codes: Codes
    proto: onnx.ModelProto

    def simulate(self, feeds: Mapping[str, Array]) -> Simulated:
        return simulate(self.deploy, self.placement, self.codes, feeds)

    def reference(self, simulated: Simulated) -> Reference:
        """What a file is held against beside codes and outputs."""
        rounded = {value for spec in self.placement.activations for value in spec.values}
        parts = FloatParts(self.deploy, self.codes.weights, rounded)
        return Reference(parts, lambda names: {name: simulated.values[name] for name in names})


def model(text: str, **initializers: Array) -> onnx.ModelProto:
    """ONNX text, with `initializers` added."""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in initializers.items())
    return proto


def quantised(
    proto: onnx.ModelProto,
    place: Callable[[ir.Model], Placement],
    feeds: Mapping[str, Array],
    target: str = "portable",
    codes: Codes | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Case:
    """Prepare, place, quantise (min-max over `feeds` unless `codes` are given) and export `proto`."""
    user = graph.load(proto)
    deploy = graph.fold_batchnorm(graph.normalise(user))
    placement = place(deploy)
    codes = codes or minmax_codes(deploy, placement, feeds)
    exported = export(deploy, user, placement, codes, TARGETS[target], metadata or {})
    return Case(user=user, deploy=deploy, placement=placement, codes=codes, proto=exported)


def everywhere(wbits: int, abits: int, *names: str) -> Callable[[ir.Model], Placement]:
    """Quantise every constant weight, and each of the values `names` on a grid of its own ("a=b" puts b on the grid of a)."""
    groups = [tuple(name.split("=")) for name in names]

    def place(deploy: ir.Model) -> Placement:
        nodes: dict[str, list[ir.Node]] = {}
        for node in query.weighted_nodes(deploy):
            nodes.setdefault(str(query.weight(node).name), []).append(node)
        weights = tuple(
            WeightSpec(value=w, bits=wbits, axis=query.channel_axis(ns[0]), nodes=tuple(str(n.name) for n in ns))
            for w, ns in nodes.items()
        )
        activations = tuple(ActivationSpec(name=g[0], values=g, roots=g, bits=abits) for g in groups)
        return Placement(weights=weights, activations=activations, float_nodes={})

    return place


def minmax_grid(x: Array, bits: int, axis: int | None = None, symmetric: bool = False) -> QParams:
    """The asymmetric grid (or, symmetric, zero point 2^(bits-1)) that just spans `x`; unsigned where nothing is negative."""
    rows = x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    low, high = np.minimum(rows.min(1), 0), np.maximum(rows.max(1), 0)
    if symmetric:
        high = np.maximum(np.maximum(high, -low), 1e-6)
        scale, zero_point = high / (2 ** (bits - 1) - 1), np.full(len(rows), 2 ** (bits - 1))
    else:
        scale = np.maximum(high - low, 1e-6) / (2**bits - 1)
        zero_point = np.rint(-low / scale)
    shape = () if axis is None else (len(rows),)
    return QParams(
        bits=bits,
        scale=scale.astype(np.float32).reshape(shape),
        zero_point=zero_point.astype(np.int64).reshape(shape),
        axis=axis,
    )


def minmax_codes(deploy: ir.Model, placement: Placement, feeds: Mapping[str, Array]) -> Codes:
    """Crude codes for every weight and value of `placement`: ranges of the weights, and of the values on `feeds`."""
    codes = Codes()
    for weight in placement.weights:
        array = np.asarray(query.constant(deploy.graph.initializers[weight.value]), dtype=np.float32)
        codes.weights[weight.value] = quantize(array, minmax_grid(array, weight.bits, weight.axis, symmetric=weight.bits == 8))
    values = dict(_float_values(deploy, feeds))
    for spec in placement.activations:
        seen = np.concatenate([values[v].ravel() for v in spec.roots])
        codes.activations[spec.name] = minmax_grid(seen, spec.bits, symmetric=bool(seen.min() < 0))
    return codes


def simulate(deploy: ir.Model, placement: Placement, codes: Codes, feeds: Mapping[str, Array]) -> Simulated:
    """Run `deploy` on `feeds`, rounding what `placement` says with `codes`."""
    rounded: dict[str, QTensor] = {}
    values = dict(_values(deploy, placement, codes, feeds, rounded))
    outputs = {str(v.name): values[str(v.name)] for v in deploy.graph.outputs}
    return Simulated(activations=rounded, outputs=outputs, values=values)


def _float_values(deploy: ir.Model, feeds: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    none = Placement(weights=(), activations=(), float_nodes={})
    return _values(deploy, none, Codes(), feeds, {})


def _values(
    deploy: ir.Model, placement: Placement, codes: Codes, feeds: Mapping[str, Array], rounded: dict[str, QTensor]
) -> Iterator[tuple[str, Array]]:
    """Yield every value before it is rounded; readers get the rounded one, but nodes that read floats (Placement.from_floats)."""
    read: dict[str, Array] = {}
    unrounded: dict[str, Array] = {}

    def write(name: str, x: Array) -> tuple[str, Array]:
        spec = placement.activation_of(name)
        if spec is not None:
            rounded[name] = quantize(x, codes.activations[spec.name])
        read[name] = x if spec is None else rounded[name].dequantize()
        unrounded[name] = x
        return name, x

    for value in deploy.graph.initializers.values():
        name = str(value.name)
        read[name] = codes.weights[name].dequantize() if name in codes.weights else np.asarray(query.constant(value))
    for name, x in feeds.items():
        yield write(name, x)
    opset = query.opset(deploy)
    for node in deploy.graph:
        floats = unrounded if any(v.name in placement.from_floats for v in node.outputs) else {}
        inputs = [None if v is None else floats.get(str(v.name), read[str(v.name)]) for v in node.inputs]
        if len(inputs) == 3 and inputs[2] is not None and node.op_type in query.WEIGHTED_OPS:
            inputs[2] = _rounded_bias(node, placement, codes, inputs[2])
        for value, x in zip(node.outputs, _run_node(node, inputs, opset), strict=True):
            yield write(str(value.name), x)


def _rounded_bias(node: ir.Node, placement: Placement, codes: Codes, bias: Array) -> Array:
    source, weight = str(node.inputs[0].name), str(node.inputs[1].name)  # type: ignore[union-attr]
    spec = placement.activation_of(source)
    if spec is None or weight not in codes.weights:
        return bias
    scale = bias_scale(codes.activations[spec.name].scale, codes.weights[weight].qparams.scale)
    integers = bias_codes(bias, scale)
    return bias if integers is None else (integers.astype(np.float32) * scale)


def _run_node(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array]:
    proto = ir.to_proto(node)
    feeds = {name: x for name, x in zip(proto.input, inputs, strict=True) if x is not None}
    graph = onnx.helper.make_graph(
        [proto],
        "node",
        [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in feeds.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in proto.output],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))
