"""Small graphs for tests: from ONNX text, or layer by layer where an architecture would be long as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper, parser

from genie_onnx.graph import load, normalise


def raw_graph(text: str) -> ir.Model:
    """A graph from its ONNX text (opset 17) as `load` returns it.

    Inputs named w..., b... become random initializers, nodes without a name take that of their first output.
    """
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
    rng = np.random.default_rng(0)
    for value in [v for v in model.graph.input if v.name[0] in "wb"]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(dtype), value.name))
        model.graph.input.remove(value)
    for node in model.graph.node:
        node.name = node.name or node.output[0]
    return load(model)


def graph(text: str) -> ir.Model:
    """The same, normalised."""
    return normalise(raw_graph(text))


class Net:
    """A network written layer by layer. A node and its output have one name: the caller's, or one made from the operator."""

    def __init__(self, channels: int = 3, size: int = 16) -> None:
        self.channels = {"x": channels}
        self._input = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels, size, size])
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def constant(self, name: str, array: Any, dtype: Any = np.float32) -> str:
        """An initializer."""
        self._initializers.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def op(
        self, op_type: str, *inputs: str, name: str = "", channels: int | None = None, outputs: int = 1, **attributes: Any
    ) -> Any:
        """A node; its output, or the list of them. They have the channels of the first input unless told otherwise."""
        name = name or f"{op_type}_{len(self._nodes)}"
        outs = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op_type, list(inputs), outs, name, **attributes))
        self.channels.update(dict.fromkeys(outs, self.channels[inputs[0]] if channels is None else channels))
        return outs[0] if outputs == 1 else outs

    def conv(
        self,
        name: str,
        x: str,
        out: int,
        k: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        act: str = "Relu",
        weight: str = "",
    ) -> str:
        """Convolution with "same" padding and an activation (none if act is "")."""
        groups = self.channels[x] if depthwise else 1
        if not weight:
            weight = self.constant(f"{name}.w", self._rng.standard_normal((out, self.channels[x] // groups, k, k)))
        pads = [(k - 1) // 2] * 4
        y = self.op(
            "Conv", x, weight, name=name, channels=out, strides=[stride] * 2, pads=pads, kernel_shape=[k, k], group=groups
        )
        return self.op(act, y) if act else y

    def up(self, name: str, x: str, out: int) -> str:
        """Transposed convolution that doubles height and width."""
        weight = self.constant(f"{name}.w", self._rng.standard_normal((self.channels[x], out, 2, 2)))
        return self.op("ConvTranspose", x, weight, name=name, channels=out, strides=[2, 2], kernel_shape=[2, 2])

    def gemm(self, name: str, x: str, out: int) -> str:
        """Fully connected layer on the flattened input."""
        weight = self.constant(f"{name}.w", self._rng.standard_normal((out, self.channels[x])))
        return self.op("Gemm", self.op("Flatten", x), weight, name=name, channels=out, transB=1)

    def concat(self, *xs: str, name: str = "") -> str:
        """Concatenation of channels."""
        return self.op("Concat", *xs, name=name, channels=sum(self.channels[x] for x in xs), axis=1)

    def maxpool(self, x: str, k: int = 2, stride: int = 2) -> str:
        """Max pooling; with stride 1 the size stays (odd k)."""
        return self.op("MaxPool", x, kernel_shape=[k, k], strides=[stride] * 2, pads=[(k - 1) // 2] * 4)

    def model(self, *outputs: str) -> ir.Model:
        """The normalised graph."""
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        proto = helper.make_graph(self._nodes, "net", [self._input], infos, self._initializers)
        return normalise(load(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)))
