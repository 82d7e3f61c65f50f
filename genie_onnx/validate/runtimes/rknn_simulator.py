"""Driver (worker.py) of Rockchip's rknn-toolkit2: built for the RK3588, run in the toolkit's simulator on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed

import numpy as np
from rknn.api import RKNN


def version() -> str:
    """Return the version of the toolkit."""
    return installed("rknn-toolkit2")


class Model:
    """A model file in the simulator."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Load and build it for inputs of these shapes; its own Q/DQ say how it is quantised."""
        self._names = list(shapes)
        self._toolkit = RKNN(verbose=False)
        self._toolkit.config(target_platform="rk3588")
        _demand(
            "load_onnx", self._toolkit.load_onnx(path, inputs=self._names, input_size_list=[list(shapes[n]) for n in self._names])
        )
        _demand("build", self._toolkit.build(do_quantization=False))
        _demand("init_runtime", self._toolkit.init_runtime())

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""
        return list(self._toolkit.inference(inputs=[feeds[name] for name in self._names], data_format="nchw"))

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """The simulator does not tell."""
        return {}


def _demand(step: str, status: int) -> None:
    if status != 0:
        raise RuntimeError(f"{step} of rknn-toolkit2 returned {status}")
