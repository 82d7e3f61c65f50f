"""Driver (worker.py) of OpenVINO on the CPU: one thread, floats as float32.

By default OpenVINO computes what is float in bfloat16 on CPUs that can, which would be judged here in place of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import openvino


def version() -> str:
    """Return the version of the runtime."""
    return str(openvino.__version__).split("-")[0]


class Model:
    """A model file in OpenVINO."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Compile it for inputs of these shapes."""
        core = openvino.Core()
        model = core.read_model(path)
        model.reshape({name: list(shape) for name, shape in shapes.items()})
        self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""
        found = self._compiled(dict(feeds))
        return [np.array(found[output]) for output in self._compiled.outputs]

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Return layers of the compiled model as "Convolution u8": kind, and the type it computes in."""
        nodes = [node.rt_info for node in self._compiled.get_runtime_model().get_ops()]
        return dict(Counter(f"{info['layerType'].astype(str)} {info['runtimePrecision'].astype(str)}" for info in nodes))
