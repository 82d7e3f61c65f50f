"""Driver (worker.py) of IREE: imported by its ONNX tool, compiled by llvm-cpu for this CPU, run in this thread."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path

import iree.runtime
import numpy as np
import onnx
from iree.compiler.tools import compile_file
from iree.compiler.tools.import_onnx import __main__ as importer

FLAGS = (
    "--iree-llvmcpu-target-cpu=host",
    "--iree-llvmcpu-fail-on-out-of-bounds-stack-allocation=false",  # quantised convolutions need more than its limit
)


def version() -> str:
    """Return the version of the compiler."""
    return installed("iree-base-compiler")


class Model:
    """A model file in IREE."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Import and compile it with its inputs fixed to these shapes."""
        proto = onnx.load(path)
        constants = {tensor.name for tensor in proto.graph.initializer}
        inputs = [value for value in proto.graph.input if value.name not in constants]
        self._inputs = [value.name for value in inputs]
        _fix(inputs, list(proto.graph.output), shapes)
        del proto.graph.value_info[:]  # shapes of an open batch
        with tempfile.TemporaryDirectory() as folder:
            fixed, module = Path(folder) / "model.onnx", Path(folder) / "model.mlir"
            onnx.save(proto, fixed)
            importer.main(importer.parse_arguments([str(fixed), "-o", str(module)]))
            binary = compile_file(str(module), target_backends=["llvm-cpu"], input_type="onnx", extra_args=list(FLAGS))
        context = iree.runtime.SystemContext(config=iree.runtime.Config("local-sync"))
        loaded = iree.runtime.VmModule.copy_buffer(context.instance, binary)
        context.add_vm_module(loaded)
        (name,) = (name for name in loaded.function_names if not name.startswith("__") and not name.endswith("$async"))
        self._function = context.modules[loaded.name][name]

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""
        found = self._function(*(feeds[name] for name in self._inputs))
        return [np.asarray(array) for array in (found if isinstance(found, tuple | list) else [found])]

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """IREE does not tell: everything is fused into loops."""
        return {}


def _fix(inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write the sizes of `shapes` where dimensions of the inputs are open, and where outputs name the same dimension."""
    sizes = {}
    for value in inputs:
        for dimension, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            sizes[dimension.dim_param] = size
            dimension.dim_value = size
    for value in outputs:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in sizes and not dimension.HasField("dim_value"):
                dimension.dim_value = sizes[dimension.dim_param]
