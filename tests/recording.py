"""A CUDA graph played on a CPU: the operators of one call are recorded, and run again on the same tensors, without any Python.

What a step decides in Python, or binds to a name anew, is lost in a replay, exactly as on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._local_scalar_dense.default:
            raise AssertionError("the step reads a number back: a GPU would have to wait")
        self.calls.append((func, args, kwargs or {}, result))
        return result


class Recorded(Generic[T]):
    """`step` as compute._Captured treats it: called as it is at first, then recorded, then replayed."""

    def __init__(self, step: Callable[..., T], warm_up: int = 2) -> None:
        self._step, self._left = step, warm_up
        self._inputs: list[Tensor] = []
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any], Any]] | None = None

    def __call__(self, *inputs: Tensor) -> T:
        if self._left:
            self._left -= 1
            return self._step(*inputs)
        if self._calls is None:
            self._inputs = [x.clone() for x in inputs]
            with _Recorder() as recorder:
                self._result = self._step(*self._inputs)
            self._calls = recorder.calls
            return self._result
        for own, new in zip(self._inputs, inputs, strict=True):
            own.copy_(new)
        with torch.no_grad():
            for func, args, kwargs, before in self._calls:
                for old, new in zip(tree_leaves(before), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.view(new.shape).copy_(new)  # squeeze_ and its like have changed it since
        return self._result
