"""Equalised: the network whose weights are rounded, its channels scaled to use their grids alike, beside the float one.

equalisation.json      the factors of the channels of what layers write; often none
metadata of the file   the same: values and weights inside it are at this scale, and the user's float model is not
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from genie_onnx import graph
from genie_onnx.errors import RunError
from genie_onnx.graph import Channels, query
from genie_onnx.graph.channel_scales import Factors
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.targets import Constraints

NARROW = 7  # bits up to which a value's grid is worth sharing fairly; 8 bits have resolution to spare
STORED = np.dtype("<f4")  # in metadata


@dataclass(frozen=True)
class Equalisation:
    """`factors`, float32 [C] above 0, by the name of the value that a layer writes; those without are not scaled."""

    factors: Mapping[str, Factors] = field(default_factory=dict)

    def applied(self, prepared: Prepared) -> Prepared:
        """Return `prepared` with the deploy graph equalised; `prepared.float_network` goes on being the float one.

        Raises RunError where the factors are of another model.
        """
        if not self.factors:
            return prepared
        found = graph.channels(prepared.deploy, quantised_nodes(prepared))
        return prepared.equalised(graph.scaled(prepared.deploy, found, self.of_variables(found)), self.of_values(found))

    def of_variables(self, found: Channels) -> Factors:
        """Return the factor of each variable of `found`. Raises RunError where the two do not belong together."""
        numbers = np.ones(1 + max((int(ids.max(initial=0)) for ids in found.of.values()), default=0), np.float32)
        for value, own in self.factors.items():
            if value not in found.of or len(found.of[value]) != len(own):
                raise RunError(f"the equalisation of '{value}' is not of this model")
            numbers[found.of[value]] = own
        if any(numbers[v] != 1 for v in found.pinned):
            raise RunError("the equalisation scales what has to stay as it is in this model")
        return numbers

    def of_values(self, found: Channels) -> dict[str, Factors]:
        """Return the factors of every value that is scaled."""
        numbers = self.of_variables(found)
        return {v: own for v in found.of if (own := graph.factors_of(found, v, numbers)) is not None}

    def to_json(self) -> str:
        """Return it as JSON; float32 numbers come back as they were."""
        return json.dumps({value: [float(f) for f in own] for value, own in self.factors.items()})

    def packed(self) -> str:
        """Return it as JSON for the metadata of a file: numbers in base64, 6 letters each in place of some 20."""
        return json.dumps(
            {value: base64.b64encode(own.astype(STORED).tobytes()).decode("ascii") for value, own in self.factors.items()}
        )


def equalisation_of(prepared: Prepared) -> Equalisation:
    """Return the equalisation that was applied to `prepared`."""
    return Equalisation({v: own for v in written_by_layers(prepared.deploy) if (own := prepared.factors.get(v)) is not None})


def equalisation_from_json(text: str) -> Equalisation:
    """Undo `to_json`. Raises RunError for anything else."""
    return _read(text, lambda own: np.array(own, np.float32))


def unpacked(text: str) -> Equalisation:
    """Undo `packed`. Raises RunError for anything else."""
    return _read(text, lambda own: np.frombuffer(base64.b64decode(own, validate=True), STORED).astype(np.float32))


def _read(text: str, numbers: Callable[..., Factors]) -> Equalisation:
    try:
        found = {str(value): numbers(own) for value, own in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(f"this is no equalisation: {error}") from error
    if not all(own.ndim == 1 and np.isfinite(own).all() and (own > 0).all() for own in found.values()):
        raise RunError("this is no equalisation: factors are finite and above 0")
    return Equalisation(found)


def quantised_nodes(prepared: Prepared) -> frozenset[str]:
    """Return the names of the layers that are quantised."""
    return frozenset(node for spec in prepared.placement.weights for node in spec.nodes)


def written_by_layers(deploy: ir.Model) -> list[str]:
    """Return the names of the values that layers with weights write, topological."""
    return [str(node.outputs[0].name) for node in deploy.graph if node.domain == "" and node.op_type in query.WEIGHTED_OPS]


def narrow_values(prepared: Prepared) -> dict[str, int]:
    """Return the bits of the values whose grid is worth sharing fairly, where all of their channels could be scaled."""
    return {value: spec.bits for spec in prepared.placement.activations for value in spec.roots if spec.bits <= NARROW}


def equalises(constraints: Constraints) -> bool:
    """Whether there is anything to gain: weights of one scale for all channels cannot make good for scaled channels."""
    return constraints.weight_scale != "tensor"


def obstacles(prepared: Prepared, constraints: Constraints) -> dict[str, str]:
    """Return why not, for each of the narrow values none of whose channels may be scaled; "" for the others."""
    if not equalises(constraints):
        return dict.fromkeys(narrow_values(prepared), "the target has one scale for all channels of a weight")
    found = graph.channels(prepared.deploy, quantised_nodes(prepared))
    return {
        value: "" if len(found.free(value)) else _obstacle(prepared.deploy, found, value) for value in narrow_values(prepared)
    }


def _obstacle(deploy: ir.Model, found: Channels, value: str) -> str:
    if value in found.of:
        return next(iter(dict.fromkeys(found.pinned[int(v)] for v in found.of[value])), "it has no channels")
    node = query.value_map(deploy)[value].producer()
    while node is not None:  # back to where scaling ended
        inputs = [v for v in node.inputs if v is not None and not query.is_constant(v)]
        if node.op_type in query.WEIGHTED_OPS:
            return f"it is what {node.op_type} '{node.name}' makes, whose channels are not scaled"
        if not inputs or any(v.name in found.of for v in inputs):
            return f"it is behind {node.op_type} '{node.name}', which does not commute with scaling channels"
        node = inputs[0].producer()
    return "it is the input of the model, or made of it without a layer"
