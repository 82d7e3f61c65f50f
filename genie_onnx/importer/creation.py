"""Operators that make tensors or change their type: Shape, Size, Range, ConstantOfShape, Cast, CastLike.

Shape and Size give integer tensors on the host, whatever the device of x: what is computed from them are shapes again.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from genie_onnx.importer.calls import Call
from genie_onnx.importer.operation import NodeReader, Operation

TORCH_TYPES: dict[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}


def to_torch(array: np.ndarray) -> Tensor:
    """A copy of the array as a torch tensor of the same type and shape. Raises TypeError where torch has no such type."""
    if array.dtype.name == "bfloat16":  # an ml_dtypes type that torch does not read
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))


def shared_with(array: np.ndarray) -> Tensor:
    """The array as a torch tensor that shares its memory, as long as it is writable and contiguous; else as to_torch."""
    if array.flags.writeable and array.flags.c_contiguous and array.dtype.name != "bfloat16":
        return torch.from_numpy(array)
    return to_torch(array)


class Shape(nn.Module):
    """x.shape[start:end] as int64 on the host."""

    def __init__(self, start: int, end: int | None) -> None:
        super().__init__()
        self.start = start
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor(x.shape[self.start : self.end], dtype=torch.int64)


def shape(node: NodeReader) -> Operation:
    return Operation(Shape(node.integer("start", 0), node.integer("end", 0) if node.has_attribute("end") else None))


def size(node: NodeReader) -> Operation:
    return Operation(Call(_size))


def _size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


def range_(node: NodeReader) -> Operation:
    return Operation(Call(_range), tensors=(), sizes=(0, 1, 2))


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


class ConstantOfShape(nn.Module):
    """A host tensor of the given shape filled with one value."""

    def __init__(self, shape: tuple[int, ...] | None, value: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape = shape
        self.value = value
        self.dtype = dtype

    def forward(self, shape: Tensor | None = None) -> Tensor:
        target = self.shape if shape is None else shape.tolist()
        assert target is not None
        return torch.full(tuple(target), self.value, dtype=self.dtype)


def constant_of_shape(node: NodeReader) -> Operation:
    attribute = node.node.attributes.get("value")
    value = torch.zeros(1) if attribute is None else to_torch(attribute.as_tensor().numpy())
    shape = node.constant_integers(0)
    return Operation(ConstantOfShape(shape, value.item(), value.dtype), tensors=(), sizes=() if shape is not None else (0,))


class Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)

    def extra_repr(self) -> str:
        return f"{self.dtype}"


def cast(node: NodeReader) -> Operation:
    target = ir.DataType(node.integer("to", ir.DataType.FLOAT))
    if target not in TORCH_TYPES:
        raise node.refuse(f"a cast to {target.name}", ", ".join(sorted(kind.name for kind in TORCH_TYPES)))
    return Operation(Cast(TORCH_TYPES[target]))


def cast_like(node: NodeReader) -> Operation:
    return Operation(Call(_cast_like), tensors=(0, 1))


def _cast_like(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)
