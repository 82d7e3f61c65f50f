"""What a converter reads and what it gives: one ONNX node in, one torch module and the wiring of its arguments out.

    NodeReader (attributes, constant inputs, ranks)  --converter-->  Operation (module, which inputs it takes)

A converter is a plain function; table.py lists them all. What it cannot compute exactly it refuses: `raise reader.refuse(...)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from torch import nn

from genie_onnx.errors import ModelError
from genie_onnx.graph.query import constant


@dataclass(frozen=True)
class Operation:
    """A torch module for one node, and which of the node's inputs its `forward` takes.

    forward(*[input i for i in tensors], *[input i for i in sizes]); an input that the node leaves out is passed as None.
    `sizes` are inputs that hold shapes, bounds of slices and the like, only named here where they are not constant: forward
    turns them into Python integers, so the network keeps them on the host. Constant ones belong into the module.
    forward returns one tensor where `outputs` is 1, else a tuple of `outputs` tensors (the node's outputs, in order).
    """

    module: nn.Module
    tensors: tuple[int, ...] = (0,)
    sizes: tuple[int, ...] = ()
    outputs: int = 1


class NodeReader:
    """Typed, read-only access to one node of a normalised graph (opset 13 or newer)."""

    def __init__(self, node: ir.Node, opset: int) -> None:
        self.node = node
        self.opset = opset

    def __repr__(self) -> str:
        return f"{self.node.op_type} node {self.node.name!r}"

    # -- attributes: the type is known from the operator's schema, so a getter a type

    def has_attribute(self, name: str) -> bool:
        return name in self.node.attributes

    def integer(self, name: str, default: int) -> int:
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_int()

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        attribute = self.node.attributes.get(name)
        return default if attribute is None else tuple(int(value) for value in attribute.as_ints())

    def number(self, name: str, default: float) -> float:
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_float()

    def text(self, name: str, default: str) -> str:
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_string()

    # -- inputs

    @property
    def input_count(self) -> int:
        """The number of inputs up to the last one that is not left out."""
        return max((i + 1 for i, value in enumerate(self.node.inputs) if value is not None), default=0)

    def has(self, index: int) -> bool:
        """Whether input `index` is there (ONNX leaves optional inputs out by an empty name or by stopping early)."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def array(self, index: int) -> np.ndarray | None:
        """Input `index` as an array if it is a constant, else None."""
        return constant(self.node.inputs[index]) if self.has(index) else None

    def constant_integers(self, index: int) -> tuple[int, ...] | None:
        """Input `index` as Python integers, flattened, if it is a constant, else None."""
        array = self.array(index)
        return None if array is None else tuple(int(value) for value in array.reshape(-1))

    def shape(self, index: int) -> tuple[int | None, ...] | None:
        """The shape of input `index`, None for unknown dimensions; None if even the rank is unknown."""
        value = self.node.inputs[index] if self.has(index) else None
        if value is None or value.shape is None:
            return None
        return tuple(dim if isinstance(dim, int) else None for dim in value.shape)

    def rank(self, index: int) -> int:
        """The rank of input `index`. Raises ModelError where shape inference did not find it."""
        shape = self.shape(index)
        if shape is None:
            raise self.refuse(
                f"the rank of input {index} is unknown", "inputs of known rank; add the shapes of the model's inputs"
            )
        return len(shape)

    def refuse(self, found: str, supported: str) -> ModelError:
        """The error that says why this node cannot be imported."""
        return ModelError(f"{self!r} (opset {self.opset}): {found}. Supported: {supported}.")


Converter = Callable[[NodeReader], Operation]
