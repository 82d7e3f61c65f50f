"""What is in a model, and what `quantize` would do with it: computed without running anything."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from genie_onnx import graph
from genie_onnx.config import QuantizeConfig
from genie_onnx.data import PathLike
from genie_onnx.framing import Layout
from genie_onnx.graph import query
from genie_onnx.graph.sizes import packed
from genie_onnx.grids.equalisation import obstacles
from genie_onnx.images.choice import EXPORT_CALL, choose_images
from genie_onnx.pipeline.request import Request
from genie_onnx.placement import explain, float_operators, integer_layers
from genie_onnx.preparation.prepare import Prepared, Source
from genie_onnx.synthesis import with_measurements


@dataclass(frozen=True, kw_only=True)
class InspectedNode:
    """A node of a block. Only a weighted node has a weight; `wbits` and `abits` are None where that or its input is float."""

    name: str
    operator: str
    weight: str | None
    shape: tuple[int, ...] | None  # of the weight
    wbits: int | None
    abits: int | None
    strides: tuple[int, ...]  # of a convolution where one is above 1, else empty: it becomes a swing convolution
    float_reason: str | None  # why it computes in float; None where it does not, or only repeats numbers


@dataclass(frozen=True, kw_only=True)
class InspectedBlock:
    """A reconstruction block: what it reads and yields, and its nodes in topological order."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[InspectedNode, ...]

    @property
    def weighted(self) -> tuple[InspectedNode, ...]:
        """The nodes with weights."""
        return tuple(node for node in self.nodes if node.weight is not None)


@dataclass(frozen=True, kw_only=True)
class InspectedValue:
    """A weight or an activation that gets codes."""

    name: str
    bits: int
    why: str  # who asked for it


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The findings of `inspect`."""

    opset: int
    ir_version: int
    producer: str
    input: tuple[str, tuple[int | str | None, ...]]
    layout: Layout  # of the input: where its channels are
    fixed: dict[str, int]  # which of batch, height and width of the input the file fixes, and to what
    outputs: tuple[tuple[str, tuple[int | str | None, ...]], ...]
    operators: dict[str, int]  # of the model as given
    batchnorms: int  # with statistics, after normalisation
    batchnorms_left: int  # that do not fold and stay float
    convolutions: int  # Conv and ConvTranspose with constant weights ...
    uncovered: tuple[str, ...]  # ... and those of whose outputs no statistics tell, the model's or those of --bn-from
    covered_products: int  # MatMul and Gemm with constant weights of whose outputs statistics tell
    blocks: tuple[InspectedBlock, ...]
    weights: tuple[InspectedValue, ...]
    activations: tuple[InspectedValue, ...]
    equalised: tuple[str, ...]  # values of at most 7 bits whose channels are scaled to use their grid alike ...
    not_equalised: dict[str, str]  # ... and those where they are not, and why
    tied: dict[str, tuple[str, ...]]  # weight -> the nodes that share it, where there are several
    kept_float: dict[str, str]  # node of a weighted operator -> why
    in_onnxruntime: bool  # whether the target's files are meant for its integer kernels
    layers: int  # nodes with weights; a product of two computed values has none ...
    float_layers: dict[str, str]  # ... those of them that compute in float, kept or for want of an integer kernel -> why
    float_bytes: int  # of the file
    packed_bytes: int  # of the quantised weights at their true bits, everything else at 4 bytes
    parameters: int
    images: str  # which images zero-shot would use ...
    images_reason: str  # ... why, and
    notices: tuple[str, ...]  # what would be better
    export_call: str | None  # how to export the model with BatchNorm kept, where there are no statistics

    @property
    def strided(self) -> tuple[str, ...]:
        """The convolutions with a stride above 1."""
        return tuple(node.name for block in self.blocks for node in block.nodes if node.strides)

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain data."""
        return {**dataclasses.asdict(self), "strided": self.strided}


def inspect(
    model: Source,
    *,
    config: QuantizeConfig | None = None,
    input_size: tuple[int, int] | None = None,
    bn_from: PathLike | None = None,
    set_inputs: Mapping[str, Sequence[float]] | None = None,
) -> Inspection:
    """Say what is in a model, and what `quantize` would do with it; nothing is run.

    Args:
        model: path of the float model, or the model itself.
        config: the settings of `quantize`, for the bits of each layer.
        input_size, bn_from, set_inputs: as for `quantize`.

    Raises ModelError with everything in the model that is not supported, ConfigError for settings that do not fit it.

    >>> import genie_onnx
    >>> found = genie_onnx.inspect("digits.onnx")
    >>> found.input, found.images
    (('image', ('N', 1, 16, 16)), 'distilled')
    >>> [block.weighted[0].wbits for block in found.blocks if block.weighted]
    [8, 4, 4, 4, 8]
    """
    config = config or QuantizeConfig()
    request = Request(model=model, config=config, input_size=input_size, bn_from=bn_from, set_inputs=set_inputs or {})
    prepared = request.prepared()
    choice = choose_images(prepared, config, ())
    user, deploy, placement = prepared.user, prepared.deploy, prepared.placement
    rows = [
        InspectedValue(name=row.value, bits=row.bits, why=row.why)
        for row in explain(deploy, config.placement, config.target.constraints)
    ]
    weight_bits = {spec.value: spec.bits for spec in placement.weights}
    packed_bytes, parameters = packed(deploy, weight_bits)
    nodes = _nodes(prepared, config)
    equalisation = _equalisation(prepared, config)
    layers = integer_layers(deploy, placement, config.target.constraints)
    return Inspection(
        opset=query.opset(user),
        ir_version=user.ir_version,
        producer=f"{user.producer_name or 'unknown'} {user.producer_version or ''}".strip(),
        input=(query.image_input(user).name or "", _shape(query.image_input(user))),
        layout=prepared.layout,
        fixed=_fixed(user, prepared.layout),
        outputs=tuple((value.name or "", _shape(value)) for value in user.graph.outputs),
        operators=dict(Counter(node.op_type for node in user.graph).most_common()),
        batchnorms=len(with_measurements(prepared.batchnorms)),
        batchnorms_left=sum(node.op_type == "BatchNormalization" for node in deploy.graph),
        convolutions=prepared.coverage.convolutions,
        covered_products=len(prepared.coverage.products),
        uncovered=tuple(prepared.coverage.missing),
        blocks=tuple(
            InspectedBlock(
                name=block.name,
                kind=block.kind,
                inputs=block.inputs,
                outputs=block.outputs,
                nodes=tuple(nodes[name] for name in block.nodes),
            )
            for block in prepared.blocks
        ),
        weights=tuple(rows[: len(placement.weights)]),
        activations=tuple(rows[len(placement.weights) :]),
        equalised=tuple(value for value, why in equalisation.items() if not why),
        not_equalised={value: why for value, why in equalisation.items() if why},
        tied=_tied(deploy),
        kept_float=dict(placement.float_nodes),
        in_onnxruntime=config.target.in_onnxruntime,
        layers=len(layers),
        float_layers=_float_layers(layers, prepared, config),
        float_bytes=ir.to_proto(user).ByteSize(),
        packed_bytes=packed_bytes,
        parameters=parameters,
        images=choice.kind,
        images_reason=choice.reason,
        notices=(*prepared.notices, *choice.notices),
        export_call=None if prepared.statistics else EXPORT_CALL,
    )


def _nodes(prepared: Prepared, config: QuantizeConfig) -> dict[str, InspectedNode]:
    """Return every node of the deploy graph by name."""
    placement = prepared.placement
    reasons = {**placement.float_nodes, **float_operators(prepared.deploy, config.placement)}
    weighted = set(query.weighted_nodes(prepared.deploy))
    found = {}
    for node in prepared.deploy.graph:
        name = str(node.name)
        weight = query.weight(node) if node in weighted else None
        spec = None if weight is None else placement.weight_of(str(weight.name))
        grid = None if weight is None or node.inputs[0] is None else placement.activation_of(str(node.inputs[0].name))
        strides = query.attribute(node, "strides", (1,)) if node.op_type == "Conv" else (1,)
        found[name] = InspectedNode(
            name=name,
            operator=node.op_type,
            weight=None if weight is None else weight.name,
            shape=None if weight is None else tuple(int(d) for d in query.dims(weight) or () if d is not None),
            wbits=None if spec is None else spec.bits,
            abits=None if grid is None else grid.bits,
            strides=tuple(strides) if max(strides) > 1 else (),
            float_reason=reasons.get(name),
        )
    return found


def _float_layers(layers: Mapping[str, str], prepared: Prepared, config: QuantizeConfig) -> dict[str, str]:
    """Return why layers compute in float; of a file for another runtime than onnxruntime, only those that keep their weights."""
    known = layers if config.target.in_onnxruntime else prepared.placement.float_nodes
    return {layer: why for layer, why in layers.items() if why and layer in known}


def _equalisation(prepared: Prepared, config: QuantizeConfig) -> dict[str, str]:
    """Return why channels are not equalised, by value of few bits; "" where they are."""
    if config.closed_form is None:
        return {}
    found = obstacles(prepared.with_own_biases(), config.target.constraints)
    return found if config.closed_form.equalise else dict.fromkeys(found, "it is not asked for")


def _tied(deploy: ir.Model) -> dict[str, tuple[str, ...]]:
    readers: dict[str, list[str]] = {}
    for node in query.weighted_nodes(deploy):
        readers.setdefault(str(query.weight(node).name), []).append(str(node.name))
    return {weight: tuple(nodes) for weight, nodes in readers.items() if len(nodes) > 1}


def _fixed(user: ir.Model, layout: Layout) -> dict[str, int]:
    batch, (_, height, width) = query.input_shape(user)[0], graph.sample_sizes(user, layout)
    return {name: d for name, d in (("batch", batch), ("height", height), ("width", width)) if d is not None}


def _shape(value: ir.Value) -> tuple[int | str | None, ...]:
    dims = value.shape or ()
    return tuple(d if isinstance(d, int) else d.value for d in dims)
