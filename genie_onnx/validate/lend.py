"""A float model handed to onnxruntime without a copy of its large weights.

    ir.Model -> a message in which large float32 initializers are declared only, and their arrays, lent to the session

Through a message, a session holds three copies while it loads (the message, what it parses, its own tensors), and one for good.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from genie_onnx.graph.detach import LARGE


def lend_weights(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, ort.OrtValue]]:
    """Return the message and the values by initializer name; `model` is left as it is, and is to stay so while they are used."""
    declared = model.clone()
    weights = {}
    for name, value in declared.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes < LARGE or value.is_graph_input():
            continue
        shape = ir.Shape(tensor.shape.numpy())
        weights[name] = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor.numpy()))
        value.const_value = ir.ExternalTensor("lent", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
    return ir.to_proto(declared), weights
