"""import_graph: a normalised onnx_ir graph -> Network. The map from value names to fx nodes is exact by construction.

    graph input  -> placeholder
    initializer  -> get_attr of a frozen Parameter (floating point) or a buffer, one for each, however many nodes use it
    node         -> call_module `n%05d_<operator>` (its place in the graph), and operator.getitem where there are several outputs

Shapes are computed on the host: what only comes from Shape, Size and constants stays a CPU tensor whatever the device of the
network, so turning it into Python integers never waits for a GPU. Constants of such chains are no buffers (those would move);
where a value is used together with tensors it is moved to their device.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir
import torch
from torch import Tensor, fx, nn

from genie_onnx.errors import ModelError
from genie_onnx.forms import Case, Forms
from genie_onnx.framing import Layout
from genie_onnx.importer import fallback
from genie_onnx.importer.conv import Convolution
from genie_onnx.importer.creation import shared_with
from genie_onnx.importer.finite_slopes import STEEP_OPS, FiniteSlopes
from genie_onnx.importer.network import Network
from genie_onnx.importer.operation import NodeReader, Operation
from genie_onnx.importer.table import CONVERTERS

PIECE = 2**20  # weights looked at together
MINIMUM_OPSET = 13  # older operators differ (axes as attributes, Softmax on flattened tensors); graph.load raises older models


def import_graph(model: ir.Model, forms: Mapping[Case, Forms] | None = None, layout: Layout = "nchw") -> Network:
    """The model as a torch network in eval mode, all parameters frozen, its convolutions computed in `forms` on a CPU.

    It takes images [N, C, H, W] whatever the `layout` of the model's input: that of nhwc is turned where nodes read it, so that
    this one value differs from the one of its name in the model by the order of its axes.

    `model` is normalised (genie_onnx.graph.normalise): opset 13 or newer, constants folded, nodes in topological order. It is
    left as it is; weights may share its memory, so they are not to be written to.
    Raises ModelError with one sentence for each node that cannot be imported.
    """
    opset = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 0))
    if opset < MINIMUM_OPSET:
        raise ModelError(
            f"The model has opset {opset}; opset {MINIMUM_OPSET} or newer is supported. Load it with genie_onnx.graph.load."
        )
    nodes = list(model.graph)
    operations: list[Operation] = []
    problems: list[str] = []
    for node in nodes:
        try:
            operations.append(_convert(node, opset))
        except ModelError as error:
            problems += error.problems
    if problems:
        raise ModelError(problems)
    for operation in operations:
        if isinstance(operation.module, Convolution):
            operation.module.forms = forms or {}
    builder = _Builder()
    for value in model.graph.inputs:
        builder.add_input(value, layout)
    for index, (node, operation) in enumerate(zip(nodes, operations, strict=True)):
        builder.add_node(index, node, operation)
    return builder.finish(model)


def _convert(node: ir.Node, opset: int) -> Operation:
    """The torch side of one node. Raises ModelError."""
    reader = NodeReader(node, opset)
    converter = CONVERTERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    operation = fallback.convert(reader) if converter is None else converter(reader)
    for value in node.outputs[operation.outputs :]:
        if value.name and (value.uses() or value.is_graph_output()):
            raise reader.refuse(f"its optional output {value.name!r} is used", f"the first {operation.outputs} outputs")
    return replace(operation, module=FiniteSlopes(operation.module)) if node.op_type in STEEP_OPS else operation


class _HostConstant(nn.Module):
    """A constant that stays on the host: a plain attribute, which Module.to does not move."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self) -> Tensor:
        return self.value


def move_like(value: Tensor, like: Tensor) -> Tensor:
    """A value computed on the host, on the device of the tensors it is used with."""
    return value.to(like.device)


def to_channels_last(images: Tensor) -> Tensor:
    """Images [N, C, H, W] as [N, H, W, C], a view."""
    return images.permute(0, 2, 3, 1)


class _Builder:
    """Collects the fx graph; add_* in topological order, then finish."""

    def __init__(self) -> None:
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[str, fx.Node] = {}  # value name -> fx node; device constants included
        self.host_constants: dict[str, fx.Node] = {}
        self.host: set[fx.Node] = set()
        self.turned: set[str] = set()  # inputs that are read with their channels last

    def add_input(self, value: ir.Value, layout: Layout) -> None:
        self.values[_name(value)] = self.graph.placeholder(f"input_{len(self.values)}")
        if layout == "nhwc":
            self.turned.add(_name(value))

    def add_node(self, index: int, node: ir.Node, operation: Operation) -> None:
        tensors = [_input(node, i) for i in operation.tensors]
        sizes = [_input(node, i) for i in operation.sizes]
        on_host = self._on_host(node, tensors + sizes)
        arguments = [None if value is None else self._value(value, on_host) for value in tensors]
        if not on_host:
            arguments = self._move(arguments)
        arguments += [None if value is None else self._value(value, True) for value in sizes]
        while arguments and arguments[-1] is None:
            arguments.pop()

        target = f"n{index:05d}_{re.sub(r'[^0-9A-Za-z]', '_', node.op_type)}"
        self.root.add_module(target, operation.module)
        called = self.graph.call_module(target, tuple(arguments))
        results = [called]
        if operation.outputs > 1:
            results = [self.graph.call_function(operator.getitem, (called, i)) for i in range(operation.outputs)]
        for value, result in zip(node.outputs, results, strict=False):
            if value.name:
                self.values[value.name] = result
        if on_host:
            self.host.update(results)

    def finish(self, model: ir.Model) -> Network:
        self.graph.output(tuple(self._value(value, False) for value in model.graph.outputs))
        module = fx.GraphModule(self.root, self.graph)
        module.eval()
        inputs = tuple(_name(value) for value in model.graph.inputs)
        outputs = tuple(_name(value) for value in model.graph.outputs)
        return Network(module, inputs, outputs, {**self.host_constants, **self.values})

    def _on_host(self, node: ir.Node, used: list[ir.Value | None]) -> bool:
        """Whether the node's result is a host value: a shape, or computed from host values and constants alone."""
        if node.op_type in ("Shape", "Size"):
            return True
        computed = [value for value in used if value is not None and not value.is_initializer()]
        if not computed:
            return all(value is None for value in used)
        return all(self.values[_name(value)] in self.host for value in computed)

    def _value(self, value: ir.Value, on_host: bool) -> fx.Node:
        """The fx node of a value; initializers get theirs when they are first used, one for the device and one for the host."""
        name = _name(value)
        if name in self.turned:  # anew for each reader, which alone decides whether it reads the value rounded
            return self.graph.call_function(to_channels_last, (self.values[name],))
        if name in self.values and (not value.is_initializer() or not on_host):
            return self.values[name]
        if on_host and name in self.host_constants:
            return self.host_constants[name]
        if value.const_value is None:
            raise ModelError(f"The initializer {name!r} has no data.")
        try:
            tensor = shared_with(value.const_value.numpy())
        except TypeError as error:
            raise ModelError(
                f"The initializer {name!r} has type {value.const_value.dtype.name}, which torch does not have."
            ) from error
        attribute = f"c{len(self.values) + len(self.host_constants):05d}_{re.sub(r'[^0-9A-Za-z]', '_', name)}"
        if on_host:
            self.root.add_module(attribute, _HostConstant(tensor))
            self.host_constants[name] = self.graph.call_module(attribute)
            self.host.add(self.host_constants[name])
            return self.host_constants[name]
        if tensor.is_floating_point():
            tensor = _without_subnormals(tensor)
            self.root.register_parameter(attribute, nn.Parameter(tensor, requires_grad=False))
        else:
            self.root.register_buffer(attribute, tensor)
        self.values[name] = self.graph.get_attr(attribute)
        return self.values[name]

    def _move(self, arguments: list[fx.Node | None]) -> list[fx.Node | None]:
        """Host values among the arguments of a device operation, moved to where the others are."""
        like = next((argument for argument in arguments if argument is not None and argument not in self.host), None)
        if like is None:
            return arguments
        return [
            self.graph.call_function(move_like, (argument, like)) if argument in self.host else argument for argument in arguments
        ]


def _without_subnormals(tensor: Tensor) -> Tensor:
    """With zeros for subnormal weights, which make a CPU's convolutions fifty times as slow; a copy only where there are any."""
    tiny = torch.finfo(tensor.dtype).tiny
    if any(bool(((part.abs() < tiny) & (part != 0)).any()) for part in tensor.flatten().split(PIECE)):
        return tensor.masked_fill(tensor.abs() < tiny, 0)
    return tensor


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _name(value: ir.Value) -> str:
    assert value.name, "values of a normalised graph have names"
    return value.name
