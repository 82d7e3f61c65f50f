"""Driver (worker.py) of hls4ml: the C++ that it writes for an FPGA, compiled by g++ and run on the fixed-point types of Vivado.

    file -> cleanup -> channels last -> Gemm as MatMul and Add -> cleanup -> hls4ml -> g++ -> predict

Types of what no Quant node rounds get as many fractional bits as the numbers of the file need, and those of the image enough for
any float32 above 2^-16: else the C++ would cut bits off that the file has.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version as installed

import hls4ml
import numpy as np
import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model

BACKEND = "Vivado"
WHOLE_BITS = 24  # of a sum, left of the point
IMAGE = "fixed<64,24>"


def version() -> str:
    """Return the version of the package."""
    return installed("hls4ml")


class Model:
    """A model file as compiled C++."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Convert and compile it, in the working directory."""
        if shutil.which("g++") is None:
            raise RuntimeError("there is no g++, which compiles what hls4ml writes")
        ((_, shape),) = shapes.items()
        if shape[0] != 1:
            raise ValueError(f"the batch is {shape[0]}; hls4ml's C++ takes one image at a time")
        self._channels_last = _ready(ModelWrapper(path), list(shape))
        model = self._channels_last
        config = hls4ml.utils.config_from_onnx_model(
            model, granularity="name", backend=BACKEND, default_precision=f"fixed<{WHOLE_BITS + _fraction(model)},{WHOLE_BITS}>"
        )
        config["LayerName"][model.graph.input[0].name]["Precision"]["result"] = IMAGE
        self._outputs = [model.get_tensor_shape(value.name) for value in model.graph.output]
        self._model = hls4ml.converters.convert_from_onnx_model(
            model, output_dir="hls", io_type="io_parallel", backend=BACKEND, hls_config=config
        )
        self._model.compile()

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""
        (image,) = feeds.values()
        found = self._model.predict(np.ascontiguousarray(image))
        arrays = found if isinstance(found, list) else [found]
        return [np.asarray(array, np.float32).reshape(shape) for array, shape in zip(arrays, self._outputs)]  # noqa: B905

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Return layers as "Conv2D fixed": all compute in numbers of fixed point."""
        return {f"{kind} fixed": count for kind, count in Counter(layer.class_name for layer in self._model.get_layers()).items()}


def _ready(model: ModelWrapper, shape: list[int]) -> ModelWrapper:
    """Return `model` in the form that hls4ml takes; its input stays as it is."""
    (image,) = (value.name for value in model.graph.input)
    if model.get_tensor_shape(image) != shape:
        raise ValueError(f"the input is {model.get_tensor_shape(image)}, not {shape}: it has to be fixed")
    model = cleanup_model(model)
    model = model.transform(ConvertToChannelsLastAndClean()).transform(GemmToMatMul())
    model = cleanup_model(model)
    scalars = {tensor.name for tensor in model.graph.initializer if not tensor.dims or set(tensor.dims) == {1}}
    addends = {name for node in model.graph.node if node.op_type == "Add" for name in node.input}
    for tensor in list(model.graph.initializer):
        if tensor.name in scalars or tensor.name in addends:  # [1], and [C] of a bias
            model.set_initializer(tensor.name, onnx.numpy_helper.to_array(tensor).reshape(-1))
    return model


def _fraction(model: ModelWrapper) -> int:
    """Return how many bits right of the point the constants of `model` need, at least 16."""
    quantised = {node.input[0] for node in model.graph.node if node.op_type == "Quant"}
    bits = [16]
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float32).reshape(-1)
        array = array[array != 0]
        if tensor.name in quantised or not array.size:
            continue
        mantissas, exponents = np.frexp(array)
        whole = np.abs(mantissas * 2.0**24).astype(np.int64)
        bits.append(int((24 - exponents - np.log2(whole & -whole)).max()))
    return max(bits)
