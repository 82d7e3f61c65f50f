"""What is in a model, and what `quantize` would do with it: computed without running anything."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from genie_onnx.bn_file import with_bn_from
from genie_onnx.choice import choose_images
from genie_onnx.config import QuantizeConfig
from genie_onnx.data import PathLike
from genie_onnx.distill import with_measurements
from genie_onnx.graph import query
from genie_onnx.prepare import Prepared, Source, prepare


@dataclass(frozen=True, kw_only=True)
class InspectedBlock:
    """A reconstruction block: what it reads and yields, its weighted nodes with their bits, how many nodes in all."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weighted: tuple[str, ...]
    nodes: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The findings of `inspect`."""

    opset: int
    ir_version: int
    producer: str
    input: tuple[str, tuple[int | str | None, ...]]
    outputs: tuple[tuple[str, tuple[int | str | None, ...]], ...]
    operators: dict[str, int]  # of the model as given
    batchnorms: int  # with statistics, after normalisation
    batchnorms_left: int  # that do not fold and stay float
    convolutions: int  # Conv and ConvTranspose with constant weights ...
    uncovered: tuple[str, ...]  # ... and those of whose outputs no statistics tell, the model's or those of --bn-from
    strided: tuple[str, ...]  # convolutions with a stride above 1: they become swing convolutions
    blocks: tuple[InspectedBlock, ...]
    weight_bits: dict[str, int]
    value_bits: dict[str, int]
    kept_float: dict[str, str]
    float_bytes: int  # of the file
    packed_bytes: int  # of the quantised weights at their true bits, everything else at 4 bytes
    parameters: int
    images: str  # which images zero-shot would use ...
    images_reason: str  # ... why, and
    notices: tuple[str, ...]  # what would be better

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain data."""
        return dataclasses.asdict(self)


def inspect(
    model: Source,
    config: QuantizeConfig | None = None,
    input_size: tuple[int, int] | None = None,
    bn_from: PathLike | None = None,
) -> Inspection:
    """Analyse a model. Raises ModelError with everything in it that is not supported; `bn_from` is that of `quantize`."""
    config = config or QuantizeConfig()
    prepared = with_bn_from(prepare(model, config.placement, input_size), bn_from)
    choice = choose_images(prepared, config, ())
    user, deploy = prepared.user, prepared.deploy
    bits = {spec.value: spec.bits for spec in prepared.placement.weights}
    packed, parameters = _sizes(prepared, bits)
    weighted = {node.name or "" for node in query.weighted_nodes(deploy)}
    return Inspection(
        opset=query.opset(user),
        ir_version=user.ir_version,
        producer=f"{user.producer_name or 'unknown'} {user.producer_version or ''}".strip(),
        input=(query.image_input(user).name or "", _shape(query.image_input(user))),
        outputs=tuple((value.name or "", _shape(value)) for value in user.graph.outputs),
        operators=dict(Counter(node.op_type for node in user.graph).most_common()),
        batchnorms=len(with_measurements(prepared.batchnorms)),
        batchnorms_left=sum(node.op_type == "BatchNormalization" for node in deploy.graph),
        convolutions=prepared.coverage.total,
        uncovered=tuple(prepared.coverage.missing),
        strided=tuple(
            node.name or "" for node in deploy.graph if node.op_type == "Conv" and max(query.attribute(node, "strides", (1,))) > 1
        ),
        blocks=tuple(
            InspectedBlock(
                name=block.name,
                kind=block.kind,
                inputs=block.inputs,
                outputs=block.outputs,
                weighted=tuple(name for name in block.nodes if name in weighted),
                nodes=len(block.nodes),
            )
            for block in prepared.blocks
        ),
        weight_bits=bits,
        value_bits={value: spec.bits for spec in prepared.placement.activations for value in spec.values},
        kept_float=dict(prepared.placement.float_nodes),
        float_bytes=ir.to_proto(user).ByteSize(),
        packed_bytes=packed,
        parameters=parameters,
        images=choice.kind,
        images_reason=choice.reason,
        notices=choice.notices,
    )


def _shape(value: ir.Value) -> tuple[int | str | None, ...]:
    dims = value.shape or ()
    return tuple(d if isinstance(d, int) else d.value for d in dims)


def _sizes(prepared: Prepared, bits: dict[str, int]) -> tuple[int, int]:
    """Return bytes with every quantised weight at its true bits, and the number of parameters."""
    total_bits = parameters = 0
    for name, value in prepared.deploy.graph.initializers.items():
        array = query.constant(value)
        if array is None:
            continue
        total_bits += array.size * bits.get(name, 8 * array.itemsize)
        parameters += array.size if array.dtype.kind == "f" else 0
    return -(-total_bits // 8), parameters
