"""Driver (worker.py) of onnxruntime's QNN provider with Qualcomm's HTP library, which emulates the processor on x86.

Nothing may fall back to the CPU: a file of which one node is not taken does not load.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_qnn as qnn

PROVIDER = "QNNExecutionProvider"


def version() -> str:
    """Return the version of the provider."""
    return str(qnn.__version__)


class Model:
    """A model file on the HTP."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Compile it for inputs of these shapes; an open batch is fixed to theirs."""
        if PROVIDER not in {device.ep_name for device in ort.get_ep_devices()}:
            ort.register_execution_provider_library(PROVIDER, qnn.get_library_path())
        devices = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER][:1]
        inputs = {value.name: value.type.tensor_type.shape.dim for value in onnx.load(path).graph.input if value.name in shapes}
        opened = {d.dim_param: size for name, dims in inputs.items() for d, size in zip(dims, shapes[name]) if d.dim_param}  # noqa: B905
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors
        for dimension, size in opened.items():
            options.add_free_dimension_override_by_name(dimension, size)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_provider_for_devices(devices, {"backend_path": qnn.get_qnn_htp_path()})
        self._session = ort.InferenceSession(path, options)

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""
        return list(self._session.run(None, dict(feeds)))

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """The HTP does not tell: it gets the whole file."""
        return {}
