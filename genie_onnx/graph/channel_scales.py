"""Scaling channels of values without a change to what the network computes: which channels can be, and the graph with it done.

    Conv(W, b) -> Relu -> Conv(V)      =      Conv(e W, e b) -> Relu -> Conv(V / e)         e > 0, one number a channel

Channels that any way through the graph ties together (an Add, a Concat beside another, a pool, a Relu) are one variable. What
does not commute with a positive factor (Sigmoid, a Softmax, an output of the graph) pins the variables of all it touches to 1.

Clip(0, M) commutes with factors only below M. A variable that meets one has M for its ceiling: scaled by e >= 1, what is above
M / e is cut off. That changes the function, on purpose: it is where a quantiser's grid ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.graph import query

Ids = npt.NDArray[np.int64]
Factors = npt.NDArray[np.float32]

ALIKE = frozenset(
    {
        "AveragePool",
        "Dropout",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "LeakyRelu",
        "MaxPool",
        "PRelu",
        "Pad",
        "Relu",
        "Resize",
    }
)
"""Operators with f(e x) = e f(x), e > 0 a channel, where their other inputs are constants that do not add anything."""


@dataclass(frozen=True)
class Channels:
    """The variables of a graph's channels, numbered from 0.

    `of` has those of each value [N, C, ...] that may be scaled, one a channel; `pinned` says of a variable why its factor is 1;
    `ceiling` has the M of a variable that meets Clip(0, M). `dense` are variables that a layer reads which mixes channels.
    """

    of: Mapping[str, Ids]
    pinned: Mapping[int, str]
    ceiling: Mapping[int, float]
    dense: frozenset[int]

    def free(self, value: str) -> Ids:
        """Return the channels of `value` whose variable is not pinned."""
        ids = self.of.get(value, np.zeros(0, np.int64))
        return np.flatnonzero([int(v) not in self.pinned for v in ids])


@dataclass
class _Variables:
    """Variables while the graph is read: a union-find."""

    parent: list[int] = field(default_factory=list)
    pinned: dict[int, str] = field(default_factory=dict)
    ceiling: dict[int, float] = field(default_factory=dict)
    dense: set[int] = field(default_factory=set)

    def fresh(self, count: int) -> Ids:
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def root(self, variable: int) -> int:
        while self.parent[variable] != variable:
            self.parent[variable] = variable = self.parent[self.parent[variable]]
        return variable

    def tie(self, one: Ids, other: Ids) -> None:
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            a, b = self.root(a), self.root(b)
            if a == b:
                continue
            self.parent[b] = a
            if b in self.ceiling:
                self.limit(np.array([a]), self.ceiling[b])

    def pin(self, ids: Ids, why: str) -> None:
        for variable in ids.tolist():
            self.pinned.setdefault(self.root(variable), why)

    def limit(self, ids: Ids, ceiling: float) -> None:
        for variable in ids.tolist():
            root = self.root(variable)
            if self.ceiling.get(root, ceiling) != ceiling:
                self.pinned.setdefault(root, "it meets Clips with different bounds")
            self.ceiling[root] = ceiling


def channels(model: ir.Model, layers: Collection[str]) -> Channels:
    """Return the variables of a normalised graph of which `layers` (node names) are quantised: only those are rescaled."""
    variables, of = _Variables(), dict[str, Ids]()
    for node in model.graph:
        _read(node, node.name in layers, variables, of)
    for value in model.graph.outputs:
        if value.name in of:
            variables.pin(of[str(value.name)], f"'{value.name}' is an output of the model")
    roots = {name: np.array([variables.root(v) for v in ids.tolist()], np.int64) for name, ids in of.items()}
    return Channels(
        of=roots,
        pinned={variables.root(v): why for v, why in variables.pinned.items()},
        ceiling={variables.root(v): bound for v, bound in variables.ceiling.items()},
        dense=frozenset(variables.root(v) for v in variables.dense),
    )


def scaled(model: ir.Model, found: Channels, factors: Factors) -> ir.Model:
    """Return a copy of `model` with the channels of variable v multiplied by `factors`[v]; only initializers are other.

    `factors` is 1 for every pinned variable.
    """
    assert all(factors[v] == 1 for v in found.pinned)
    model = model.clone()
    for node in model.graph:
        if node.domain == "" and node.op_type in query.WEIGHTED_OPS:
            _scale(node, found, factors)
    return model


def factors_of(found: Channels, value: str, factors: Factors) -> Factors | None:
    """Return the factors [C] of the channels of `value`; None where all are 1."""
    ids = found.of.get(value)
    own = None if ids is None else factors[ids]
    return None if own is None or bool((own == 1).all()) else own


def _read(node: ir.Node, layer: bool, variables: _Variables, of: dict[str, Ids]) -> None:
    """Take one node in: variables of its outputs, and what it says of those of its inputs."""
    output = str(node.outputs[0].name)
    inputs = [of[v.name] for v in node.inputs if v is not None and v.name in of]
    if node.domain == "" and node.op_type in query.WEIGHTED_OPS:
        why = _unfit(node, layer)
        for ids in inputs:
            if why is not None:
                variables.pin(ids, f"{node.op_type} '{node.name}' reads it, and {why}")
            elif not _depthwise(node):
                variables.dense.update(ids.tolist())
        if why is None and node.op_type in ("Conv", "ConvTranspose"):
            of[output] = variables.fresh(_output_channels(node))
    elif _adds(node, inputs):
        variables.tie(*inputs)
        of[output] = inputs[0]
    elif _joins(node, inputs):
        of[output] = np.concatenate(inputs)
    elif len(inputs) == 1 and node.inputs[0] is not None and node.inputs[0].name in of and _alike(node, inputs[0], variables):
        of[output] = inputs[0]
    else:
        for ids in inputs:
            variables.pin(ids, f"{node.op_type} '{node.name}' reads it, and does not commute with scaling channels")


def _adds(node: ir.Node, inputs: list[Ids]) -> bool:
    """Whether a node adds two values with variables, channel by channel."""
    if node.domain != "" or node.op_type != "Add" or len(inputs) != 2 or len(inputs[0]) != len(inputs[1]):
        return False
    ranks = {_rank(value) for value in (*node.inputs, node.outputs[0])}
    return len(ranks) == 1 and None not in ranks


def _joins(node: ir.Node, inputs: list[Ids]) -> bool:
    """Whether a node joins the channels of values that all have variables."""
    if node.domain != "" or node.op_type != "Concat" or len(inputs) != len(node.inputs):
        return False
    rank = _rank(node.outputs[0])
    return rank is not None and query.attribute(node, "axis", 0) in (1, 1 - rank)


def _alike(node: ir.Node, ids: Ids, variables: _Variables) -> bool:
    """Whether a weightless node passes the channels of its input on, each times the same factor; notes the ceiling of a Clip."""
    if node.domain != "":
        return False
    match node.op_type:
        case "Clip":
            return _clips(node, ids, variables)
        case "Pad":
            return _pads_with_zeros(node)
        case "Flatten" | "Reshape" | "Squeeze":  # [N, C, 1, 1] -> [N, C]
            before, after = query.dims(node.inputs[0]), query.dims(node.outputs[0])
            ones = before is not None and len(before) > 2 and set(before[2:]) == {1}
            return ones and after is not None and len(after) == 2 and after[1] == len(ids)
        case "Resize" if query.attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
            return False  # it reads a number of its own outside of the image
        case _:
            after = query.dims(node.outputs[0])
            return node.op_type in ALIKE and len(node.outputs) == 1 and after is not None and after[1:2] == (len(ids),)


def _clips(node: ir.Node, ids: Ids, variables: _Variables) -> bool:
    """Whether a node is Clip(0, M); notes M, if there is one."""
    low, high = (node.inputs[k] if len(node.inputs) > k else None for k in (1, 2))
    ceiling = np.inf if high is None else _scalar(high)
    if _scalar(low) != 0 or ceiling is None or not ceiling > 0:
        return False
    if ceiling < np.finfo(np.float32).max:
        variables.limit(ids, ceiling)
    return True


def _pads_with_zeros(node: ir.Node) -> bool:
    """Whether a Pad leaves the channels alone, and fills with zeros or with what it finds."""
    pads = query.constant(node.inputs[1])
    fill, axes = (node.inputs[k] if len(node.inputs) > k else None for k in (2, 3))
    if axes is not None or pads is None or query.attribute(node, "mode", "constant") not in ("constant", "edge", "reflect"):
        return False
    rank = len(pads) // 2
    return rank > 1 and bool(pads[1] == 0 == pads[rank + 1]) and (fill is None or _scalar(fill) == 0)


def _unfit(node: ir.Node, layer: bool) -> str | None:
    """Return why a weighted node cannot be rescaled; None where it can."""
    if not layer:
        return "it is not quantised"
    if node.op_type not in ("Conv", "ConvTranspose") and _rank(node.outputs[0]) != 2:
        return f"{node.op_type} is rescaled for [N, C] only"
    if node.op_type == "ConvTranspose" and query.attribute(node, "group", 1) > 1:
        return "it has groups"
    if node.op_type == "Gemm" and query.attribute(node, "transA", 0):
        return "it transposes its input"
    if not query.is_constant(query.weight(node)):
        return "its weight is computed"
    if len(query.weight(node).uses()) > 1:
        return "its weight is shared with another layer"
    bias = query.bias(node)
    if bias is not None and (not query.is_constant(bias) or len(bias.uses()) > 1):
        return "its bias is computed or shared"
    return None


def _depthwise(node: ir.Node) -> bool:
    shape = query.dims(query.weight(node))
    return node.op_type == "Conv" and shape is not None and shape[1] == 1 and query.attribute(node, "group", 1) > 1


def _output_channels(node: ir.Node) -> int:
    channels = (query.dims(query.weight(node)) or ())[query.channel_axis(node)]
    assert channels is not None  # an initializer has a fixed shape
    return channels


def _scale(node: ir.Node, found: Channels, factors: Factors) -> None:
    """Bring a layer's weight and bias to the scales of what it reads and of what it writes."""
    read, made = (None if v is None else factors_of(found, str(v.name), factors) for v in (node.inputs[0], node.outputs[0]))
    if read is None and made is None:
        return
    weight, bias = query.weight(node), query.bias(node)
    W = np.asarray(query.constant(weight), np.float64)
    spatial = (1,) * (W.ndim - 2)
    if read is not None:
        e = read.astype(np.float64)
        if node.op_type == "Conv":  # [O, I/g, ...]: the channels of group j are read by its rows
            groups = query.attribute(node, "group", 1)
            W = W / np.repeat(e.reshape(groups, -1), len(W) // groups, axis=0).reshape(*W.shape[:2], *spatial)
        elif node.op_type == "Gemm" and query.attribute(node, "transB", 0):
            W = W / e
        else:
            W = W / e.reshape(-1, 1, *spatial)
    if made is not None:
        e = made.astype(np.float64)
        W = W * (e.reshape(-1, 1, *spatial) if node.op_type == "Conv" else e.reshape(1, -1, *spatial))
        if bias is not None:
            numbers = np.asarray(query.constant(bias), np.float64) * e
            bias.const_value = ir.tensor(numbers.astype(np.float32), name=bias.name)
    weight.const_value = ir.tensor(W.astype(np.float32), name=weight.name)


def _scalar(value: ir.Value | None) -> float | None:
    array = query.constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _rank(value: ir.Value | None) -> int | None:
    shape = query.dims(value)
    return None if shape is None else len(shape)
