"""Driver (worker.py) of the QONNX project's own executor: Quant nodes in numpy, every other node in an onnxruntime session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version as installed

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes


def version() -> str:
    """Return the version of the package."""
    return installed("qonnx")


class Model:
    """A model file in the executor."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Load it; open dimensions are fixed to those of `shapes`."""
        self._model = ModelWrapper(path)
        constants = {tensor.name for tensor in self._model.graph.initializer}
        own = {value.name for value in self._model.graph.input} - constants
        if own != set(shapes):  # the executor would run on zeros
            raise ValueError(f"the inputs are {sorted(own)}, not {sorted(shapes)}")
        if any(self._model.get_tensor_shape(name) != list(shape) for name, shape in shapes.items()):
            for name, shape in shapes.items():
                self._model.set_tensor_shape(name, list(shape))
            self._model = self._model.transform(InferShapes())
        self._outputs = [value.name for value in self._model.graph.output]

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""
        found = execute_onnx(self._model, dict(feeds))
        return [found[name] for name in self._outputs]

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Return how many nodes of each operator there are; all compute in floats."""
        return dict(Counter(node.op_type for node in self._model.graph.node))
