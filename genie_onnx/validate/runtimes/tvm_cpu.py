"""Driver (worker.py) of Apache TVM: relax, compiled by LLVM for any CPU of this kind, untuned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx


def version() -> str:
    """Return the version of the runtime."""
    return str(tvm.__version__)


class Model:
    """A model file in TVM."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Import and compile it for inputs of these shapes."""
        proto = onnx.load(path)
        constants = {tensor.name for tensor in proto.graph.initializer}
        self._inputs = [value.name for value in proto.graph.input if value.name not in constants]
        self._module = from_onnx(proto, shape_dict={name: list(shape) for name, shape in shapes.items()})
        self._machine = relax.VirtualMachine(tvm.compile(self._module, target="llvm"), tvm.cpu())

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""
        found = self._machine["main"](*(tvm.runtime.tensor(feeds[name]) for name in self._inputs))
        return [array.numpy() for array in ([found] if hasattr(found, "numpy") else found)]

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Return operators of the imported graph as "relax.nn.conv2d float32": name, and the type they yield."""
        counts: Counter[str] = Counter()

        def count(expression: object) -> None:
            if isinstance(expression, relax.Call) and isinstance(expression.op, tvm.ir.Op):
                counts[f"{expression.op.name} {getattr(expression.ty, 'dtype', '')}".rstrip()] += 1

        relax.analysis.post_order_visit(self._module["main"], count)
        return dict(counts)
