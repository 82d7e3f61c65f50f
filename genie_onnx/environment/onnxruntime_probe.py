"""What onnxruntime computes on: its providers, and whether that of CUDA can be loaded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx.parser
import onnxruntime as ort

from genie_onnx.environment.finding import Finding, note, ok
from genie_onnx.environment.machine import has_driver

CUDA = "CUDAExecutionProvider"
_TINY = '<ir_version: 8, opset_import: ["" : 13]> tiny (float[4] x) => (float[4] y) { y = Abs(x) }'


def probe() -> Iterator[Finding]:
    """onnxruntime's providers; that of CUDA is tried where there is a driver. Only `evaluate` uses it."""
    providers = [name.removesuffix("ExecutionProvider") for name in ort.get_available_providers()]
    listed = f"onnxruntime {ort.__version__} has {', '.join(providers)}"
    proto = onnx.parser.parse_model(_TINY).SerializeToString()
    on_cpu = ort.InferenceSession(proto, _quiet(), providers=["CPUExecutionProvider"])
    on_cpu.run(None, {"x": np.ones(4, np.float32)})
    if not has_driver():
        yield ok("onnxruntime", listed)
    elif CUDA not in ort.get_available_providers():
        yield note("onnxruntime", f"{listed}: this package has no kernels for the GPU, files are judged on the CPU")
    elif CUDA in ort.InferenceSession(proto, _quiet(), providers=[CUDA, "CPUExecutionProvider"]).get_providers():
        yield ok("onnxruntime", f"{listed}; CUDA works")
    else:
        wanted = getattr(ort, "cuda_version", "") or "another version than is there"
        yield note(
            "onnxruntime",
            f"{listed}, but cannot load its CUDA kernels: it is built for CUDA {wanted} and cuDNN 9. Files are judged on the "
            "CPU, which is slower and nothing else",
            'python -m pip install "onnxruntime-gpu[cuda,cudnn]", or the version for your CUDA '
            "(https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html)",
        )


def _quiet() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what is missing is said in our words
    return options
