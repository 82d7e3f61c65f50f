"""Driver (worker.py) of LiteRT: its interpreter on a .tflite file that genie-onnx wrote, images and outputs laid out as in ONNX.

Outputs are those of the default kernels (XNNPACK), or of the built-in ones where those refuse the file. Codes inside are those of
the built-in kernels, which round in fixed point as those for microcontrollers do.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

_BUILTIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def version() -> str:
    """Return the version of the runtime."""
    return installed("ai-edge-litert")


class Model:
    """A model file in the interpreter."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Load it. Its shapes are fixed."""
        self._data = Path(path).read_bytes()
        self._places: dict[str, Any] = _places(self._data)
        self._refused = ""
        try:
            self._fast = self._interpreter(OpResolverType.AUTO)
        except RuntimeError as error:
            self._refused = str(error).strip().splitlines()[-1]
            self._fast = self._interpreter(_BUILTIN)
        self._open = self._interpreter(_BUILTIN, experimental_preserve_all_tensors=True)

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""
        self._run(self._fast, feeds)
        found = []
        for details, order in zip(self._fast.get_output_details(), self._places["outputs"].values()):  # noqa: B905 - Python 3.9
            array, (scale, zero_point) = self._fast.get_tensor(details["index"]), details["quantization"]
            if array.dtype == np.int8:
                array = (array.astype(np.float32) - zero_point) * np.float32(scale)
            found.append(_in_onnx_order(array, order))
        return found

    def codes(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the codes inside, as the ONNX file has them."""
        self._run(self._open, feeds)
        return {
            name: _in_onnx_order(self._open.get_tensor(number).astype(np.int16) - offset, order)
            for name, (number, order, offset) in self._places["codes"].items()
        }

    def notes(self) -> list[str]:
        """Say which kernels ran."""
        return [f"its default kernels refuse the file ({self._refused}): these are its built-in ones"] if self._refused else []

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Return operators as "CONV_2D int8": name, and the type they yield."""
        types = {tensor["index"]: np.dtype(tensor["dtype"]).name for tensor in self._open.get_tensor_details()}
        operators = self._open._get_ops_details()
        return dict(Counter(f"{operator['op_name']} {types[operator['outputs'][0]]}" for operator in operators))

    def _interpreter(self, resolver: OpResolverType, **more: Any) -> Interpreter:
        interpreter = Interpreter(model_content=self._data, experimental_op_resolver_type=resolver, num_threads=1, **more)
        interpreter.allocate_tensors()
        return interpreter

    def _run(self, interpreter: Interpreter, feeds: Mapping[str, np.ndarray]) -> None:
        for details, (name, order) in zip(interpreter.get_input_details(), self._places["inputs"].items()):  # noqa: B905
            array, (scale, zero_point) = feeds[name].transpose(order), details["quantization"]
            if details["dtype"] == np.int8:
                array = np.clip(np.rint(array / np.float32(scale)) + zero_point, -128, 127)
            interpreter.set_tensor(details["index"], np.ascontiguousarray(array.astype(details["dtype"])))
        interpreter.invoke()


def _in_onnx_order(array: np.ndarray, order: list[int]) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(np.argsort(order)))


def _places(data: bytes) -> dict[str, Any]:
    model = schema.Model.GetRootAs(data)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == b"genie_onnx.places":
            found: dict[str, Any] = json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
            return found
    raise ValueError("the file is none of genie-onnx: it does not say how it is laid out")
