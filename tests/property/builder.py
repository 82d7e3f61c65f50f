"""A small CNN written operator by operator, in the ways in which exporters write one.

    Builder(Style(...))  --conv, node, ...-->  Feature (a value and its size)  --model(outputs)-->  ModelProto, checked in full

Weights are seeded normal numbers over the square root of their fan-in, so that values keep their scale through the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a file is written, whatever network is in it."""

    opset: int = 17
    batch: int | str = "N"  # -1: open, as older exporters of Paddle write it
    layout: Literal["nchw", "nhwc"] = "nchw"  # of the image; nhwc: a Transpose comes first
    rescaled: bool = False  # the image goes through a Mul and an Add first, as Keras puts them into its networks
    channels: int = 3
    height: int = 8
    width: int = 8
    weights: Literal["initializer", "input", "constant"] = "initializer"  # input: listed as inputs too
    named: bool = True  # False: nodes have no names
    shapes: Literal["constant", "computed"] = "constant"  # of Reshape and Resize: written down, or computed from Shape
    seed: int = 0


@dataclass(frozen=True)
class Feature:
    """A value [batch, channels, height, width]."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def elements(self) -> int:
        """Numbers in one sample."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class Window:
    """Kernel, stride, dilation and pads (top, left, bottom, right) of a convolution or pooling."""

    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)

    def out(self, x: Feature) -> tuple[int, int]:
        """Height and width of the result (rounded down)."""
        total = self.pads[0] + self.pads[2], self.pads[1] + self.pads[3]
        axes = zip(x.size, total, self.kernel, self.strides, self.dilations, strict=True)
        height, width = ((i + p - (k - 1) * d - 1) // s + 1 for i, p, k, s, d in axes)
        return height, width

    def attributes(self) -> dict[str, Any]:
        """The attributes of the node."""
        return {"kernel_shape": self.kernel, "strides": self.strides, "dilations": self.dilations, "pads": self.pads}


class Builder:
    """Collects nodes in topological order. Methods add nodes and return what the last one yields."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self.random = np.random.default_rng(style.seed)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._count = 0
        self.image = Feature(self._entrance(), style.channels, style.height, style.width)

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; the name of its output, or the list of them."""
        self._count += 1
        name = f"/net/{op}_{self._count}"
        outs = [f"{name}_output_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), outs, name if self.style.named else "", **attributes))
        return outs[0] if outputs == 1 else outs

    def _entrance(self) -> str:
        """The image, rescaled and with channels second."""
        image = "image"
        if self.style.rescaled:
            image = self.node("Add", self.node("Mul", image, self.constant(0.5)), self.constant(-0.25))
        return image if self.style.layout == "nchw" else str(self.node("Transpose", image, perm=[0, 3, 1, 2]))

    def constant(self, array: Any, dtype: Any = np.float32, name: str = "constant") -> str:
        """A constant that is never an input: shapes, limits, scales."""
        self._count += 1
        tensor = numpy_helper.from_array(np.asarray(array, dtype), f"{name}_{self._count}")
        if self.style.weights == "constant":
            return str(self.node("Constant", value=tensor))
        self._initializers.append(tensor)
        return tensor.name

    def weight(self, *shape: int, fan_in: int = 1, offset: float = 0.0, name: str = "weight") -> str:
        """Seeded normal numbers / sqrt(fan_in) + offset."""
        return self.constant(self.random.standard_normal(shape) / math.sqrt(fan_in) + offset, name=f"net.{name}")

    def positive(self, *shape: int) -> str:
        """Seeded numbers in 0.5..1.5."""
        return self.constant(self.random.uniform(0.5, 1.5, shape), name="net.variance")

    def conv(self, x: Feature, out: int, window: Window, *, group: int = 1, bias: bool = False, weight: str = "") -> Feature:
        """Convolution, with the weight given or one of its own."""
        fan_in = x.channels // group * math.prod(window.kernel)
        inputs = [x.name, weight or self.weight(out, x.channels // group, *window.kernel, fan_in=fan_in)]
        inputs += [self.weight(out, fan_in=4, name="bias")] if bias else []
        return Feature(self.node("Conv", *inputs, group=group, **window.attributes()), out, *window.out(x))

    def transposed(self, x: Feature, out: int, *, group: int, bias: bool, extra: int) -> Feature:
        """Transposed convolution with stride 2, kernel 3 and one row cut off at the top and left; `extra` is output_padding."""
        inputs = [x.name, self.weight(x.channels, out // group, 3, 3, fan_in=x.channels * 9 // group // 4 + 1)]
        inputs += [self.weight(out, fan_in=4, name="bias")] if bias else []
        attributes: dict[str, Any] = {
            "strides": [2, 2],
            "pads": [1, 1, 0, 0],
            "output_padding": [extra, extra],
            "kernel_shape": [3, 3],
        }
        name = self.node("ConvTranspose", *inputs, group=group, **attributes)
        height, width = (2 * (i - 1) + extra + 3 - 1 for i in x.size)
        return Feature(name, out, height, width)

    def batchnorm(self, x: Feature) -> Feature:
        """BatchNormalization with statistics that look measured."""
        c = x.channels
        gamma, beta, mean = self.weight(c, fan_in=16, offset=1), self.weight(c, fan_in=4), self.weight(c, fan_in=9)
        return self.like(x, self.node("BatchNormalization", x.name, gamma, beta, mean, self.positive(c), epsilon=1e-3))

    def unary(self, op: str, x: Feature, *inputs: str, **attributes: Any) -> Feature:
        """A node whose result has the size of `x`."""
        return self.like(x, self.node(op, x.name, *inputs, **attributes))

    def add(self, a: Feature, b: Feature) -> Feature:
        """Sum of two values of one size."""
        return self.like(a, self.node("Add", a.name, b.name))

    def concat(self, *parts: Feature) -> Feature:
        """Channels one after the other."""
        name = self.node("Concat", *(p.name for p in parts), axis=1)
        return Feature(name, sum(p.channels for p in parts), *parts[0].size)

    def split(self, x: Feature, sizes: Sequence[int]) -> list[Feature]:
        """Channels cut into pieces; from opset 13 on their sizes are an input."""
        if self.style.opset < 13:
            names = self.node("Split", x.name, outputs=len(sizes), axis=1, split=sizes)
        else:
            names = self.node("Split", x.name, self.constant(sizes, np.int64, "sizes"), outputs=len(sizes), axis=1)
        return [Feature(name, size, *x.size) for name, size in zip(names, sizes, strict=True)]

    def mean(self, x: Feature, keepdims: int = 1) -> str:
        """ReduceMean over height and width; from opset 18 on the axes are an input."""
        if self.style.opset < 18:
            return str(self.node("ReduceMean", x.name, axes=[2, 3], keepdims=keepdims))
        return str(self.node("ReduceMean", x.name, self.constant([2, 3], np.int64, "axes"), keepdims=keepdims))

    def reshape(self, x: str, *sizes: int) -> str:
        """Reshape to [batch, *sizes]."""
        return str(self.node("Reshape", x, self._with_batch(x, sizes)))

    def _with_batch(self, x: str, sizes: Sequence[int]) -> str:
        if self.style.shapes == "constant":
            batch = max(self.style.batch, 0) if isinstance(self.style.batch, int) else 0
            return self.constant([batch, *sizes], np.int64, "shape")
        batch_size = self.node("Gather", self.node("Shape", x), self.constant([0], np.int64, "zero"), axis=0)
        return str(self.node("Concat", batch_size, self.constant(sizes, np.int64, "sizes"), axis=0))

    def resize(self, x: Feature, size: tuple[int, int], mode: str, coordinates: str) -> Feature:
        """Resize by scales, or to sizes where those are computed (opset 11 wants an empty tensor for what is absent)."""
        attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
        attributes |= {"nearest_mode": "floor"} if mode == "nearest" else {}
        if self.style.shapes == "constant" or self.style.opset < 13:
            absent = self.constant(np.zeros(0), name="absent") if self.style.opset < 13 else ""
            scales = self.constant([1, 1, size[0] / x.height, size[1] / x.width], name="scales")
            name = self.node("Resize", x.name, absent, scales, **attributes)
        else:
            start, end = self.constant([0], np.int64, "start"), self.constant([2], np.int64, "end")
            kept = self.node("Slice", self.node("Shape", x.name), start, end)
            sizes = self.node("Concat", kept, self.constant(size, np.int64, "sizes"), axis=0)
            name = self.node("Resize", x.name, "", "", sizes, **attributes)
        return Feature(name, x.channels, *size)

    @staticmethod
    def like(x: Feature, name: str) -> Feature:
        """The value `name`, with the size of `x`."""
        return Feature(name, x.channels, *x.size)

    def model(self, outputs: Sequence[tuple[str, Sequence[int]]]) -> onnx.ModelProto:
        """The file, checked in full; `outputs` are names and sizes behind the batch."""
        style = self.style
        sizes = {"C": style.channels, "H": style.height, "W": style.width}
        dims = [style.batch, *(sizes[axis] for axis in style.layout.upper()[1:])]
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)
        inputs = [image]
        if style.weights == "input":
            inputs += [
                helper.make_tensor_value_info(t.name, t.data_type, t.dims)
                for t in self._initializers
                if t.data_type == TensorProto.FLOAT
            ]
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [style.batch, *rest]) for name, rest in outputs]
        graph = helper.make_graph(self._nodes, "net", inputs, infos, self._initializers)
        opsets = [helper.make_opsetid("", style.opset)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=max(4, helper.find_min_ir_version_for(opsets)))
        onnx.checker.check_model(proto, full_check=True)
        return proto
