"""Small models as ONNX text, and their outputs by onnxruntime with its own rewriting switched off."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import numpy_helper

# Sums of a few dozen float32 products in another order, relative to the largest output: 2^-24 times some tens
FLOAT_ROUNDING = 1e-5


def parse(body: str, opset: int = 17, ir_version: int = 8, **arrays: np.ndarray) -> onnx.ModelProto:
    """Parse `g (inputs) => (outputs) { nodes }`. Every input but the first becomes an initializer: the array given under
    its name, else seeded normal numbers of its shape (positive ones where the name starts with `var`)."""
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "custom" : 1]> {body}')
    generator = np.random.default_rng(0)
    for value in list(model.graph.input)[1:]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        array = generator.normal(size=shape).astype(np.float32)
        array = np.abs(array) + np.float32(0.1) if value.name.startswith("var") else array
        array = arrays.get(value.name, array)
        model.graph.initializer.append(numpy_helper.from_array(array, value.name))
        model.graph.input.remove(value)
    return model


def image(*shape: int, seed: int = 1) -> np.ndarray:
    """Seeded normal float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(model: onnx.ModelProto | ir.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the outputs of a model with one input, by name."""
    return _outputs(_session(model), x)


def one_by_one(model: onnx.ModelProto | ir.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the outputs for a batch, computed image by image and joined on axis 0."""
    session = _session(model)
    runs = [_outputs(session, x[i : i + 1]) for i in range(len(x))]
    return {name: np.concatenate([y[name] for y in runs]) for name in runs[0]}


def _session(model: onnx.ModelProto | ir.Model) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    proto = model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _outputs(session: ort.InferenceSession, x: np.ndarray) -> dict[str, np.ndarray]:
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: x}), strict=True))


def difference(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    """Return the largest difference of any output, relative to that output's largest value."""
    assert list(found) == list(expected)
    worst = 0.0
    for name, y in expected.items():
        assert found[name].shape == y.shape, f"{name}: {found[name].shape}, expected {y.shape}"
        worst = max(worst, float(np.abs(found[name].astype(np.float64) - y).max() / max(np.abs(y).max(), 1e-30)))
    return worst


def ops(model: ir.Model) -> list[str]:
    """Return the operators in order."""
    return [node.op_type for node in model.graph]
