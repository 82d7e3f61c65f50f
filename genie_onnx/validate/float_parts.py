"""The user's own float operators between what layers write as floats, or codes, and a value: run by themselves in onnxruntime.

    codes, what layers write as floats (heads)  ->  Sigmoid, Softmax, Mul, Concat ... of the deploy graph  ->  the value

Two libraries compute such an operator in different ways. Where a function saturates, the error is one of the function's range and
not of the number: onnxruntime's Sigmoid is off by 1e-7 everywhere below -9, where its results are 1e-4 and less; and a Log or
a division behind it makes of that what it likes. The same operators in the same library on the same numbers are free of it, so
what a file has instead of their result is a matter of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.validate.session import Array, Session

_FUNCTIONS = frozenset(
    {"Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Log", "Sin", "Sinh", "Sqrt", "Tan", "Tanh"}
    | {"Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish"}
    | {"Div", "Mod", "Pow", "Reciprocal", "GlobalLpPool", "LpPool", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"}
    | {
        "Attention",
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LogSoftmax",
        "LRN",
    }
    | {"LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "Softmax"}
)
"""Operators that libraries compute by formulas of their own. What adds up, scales, chooses or moves numbers is right to the last
bits in all of them, and is held against the simulation however it comes."""


class FloatParts:
    """The float operators of a deploy graph; names of values throughout. `deploy` is not changed, and has to stay as it is."""

    def __init__(self, deploy: ir.Model, weights: Collection[str], rounded: Collection[str]) -> None:
        """Take the graph, the initializers that have codes, and the values that are rounded."""
        self._model, self._rounded = deploy, frozenset(rounded)
        self._values = query.value_map(deploy)
        layers = [node for node in query.weighted_nodes(deploy) if query.weight(node).name in weights]
        self._heads = frozenset(str(_product(node).name) for node in layers) - self._rounded

    def heads(self, wanted: Collection[str]) -> list[str]:
        """Return what layers with codes for weights write as floats on the way to `wanted`, or as one of these."""
        sources = [v for name in wanted for v in ([name] if name in self._heads else self.sources(name))]
        return [v for v in dict.fromkeys(sources) if v in self._heads]

    def has_function(self, wanted: str) -> bool:
        """Whether a function is among the operators between the `sources` and `wanted`."""
        return any(node.domain == "" and node.op_type in _FUNCTIONS for node in self._part(wanted)[1])

    def sources(self, wanted: str) -> list[str]:
        """Return the heads, rounded values and graph inputs that `wanted`, before it is rounded, is computed from."""
        return self._part(wanted)[0]

    def _part(self, wanted: str) -> tuple[list[str], list[ir.Node]]:
        """Return the names of the values where the part begins, and its nodes, last first."""
        found: dict[str, None] = {}
        nodes: dict[ir.Node, None] = {}
        waiting = [self._values[wanted]] if wanted not in self._heads else []
        while waiting:
            value = waiting.pop()
            name, producer = str(value.name), value.producer()
            if producer is None or (name != wanted and (name in self._rounded or name in self._heads)):
                if not value.is_initializer():
                    found[name] = None
            elif producer not in nodes:
                nodes[producer] = None
                waiting += [v for v in producer.inputs if v is not None]
        return list(found), list(nodes)

    def compute(self, wanted: str, given: Mapping[str, Array]) -> Array:
        """Return `wanted` as it is before it is rounded, node by node from `given`: what its `sources` are, by name."""
        return run_part(self._model, {name: given[name] for name in self.sources(wanted)}, wanted)


def run_part(model: ir.Model, given: Mapping[str, Array], wanted: str) -> Array:
    """Return the value `wanted` of `model`, computed node by node in onnxruntime from the values `given`, and nothing else.

    Raises ValueError where something else is needed for it.
    """
    part = ir.convenience.extract(model.graph, list(given), [wanted])
    for value in part.inputs:
        value.shape = ir.Shape([None] * given[str(value.name)].ndim)  # a file of fixed batch has another than the graph
    return Session(ir.Model(part, ir_version=model.ir_version), [wanted], optimise=False)(given)[wanted]


def _product(node: ir.Node) -> ir.Value:
    """Return what a layer writes, a bias that is an Add of a constant behind a MatMul included."""
    product = node.outputs[0]
    reader = _sole_reader(product)
    biased = node.op_type == "MatMul" and reader is not None and reader.op_type == "Add"
    return reader.outputs[0] if reader is not None and biased and any(map(query.is_constant, reader.inputs)) else product


def _sole_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None
