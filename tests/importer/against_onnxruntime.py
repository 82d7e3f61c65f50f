"""Runs small ONNX-text graphs in onnxruntime and as imported networks, and compares values, types, shapes and gradients."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from genie_onnx.importer import Network, import_graph

LATEST = 25
BOTH = (13, LATEST)
_DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64, 10: np.float16, 2: np.uint8, 3: np.int8}


def cases(texts: dict[str, str], opsets: tuple[int, ...] = BOTH) -> pytest.MarkDecorator:
    """Parametrises (text, opset) over the graphs and opsets, with ids such as `group4-opset13`."""
    rows = [pytest.param(text, opset, id=f"{name}-opset{opset}") for name, text in texts.items() for opset in opsets]
    return pytest.mark.parametrize(("text", "opset"), rows)


def parse(text: str, opset: int = LATEST) -> onnx.ModelProto:
    """A model of `text`: "(inputs) => (outputs) <constants> { nodes }". Constants without a value get random ones.

    A constant whose name contains "positive" is between 0.5 and 1.5, any other normal. Output shapes are left open.
    """
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {text}')
    random = np.random.default_rng(0)
    for info in list(model.graph.value_info):
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        values = random.uniform(0.5, 1.5, shape) if "positive" in info.name else random.standard_normal(shape)
        dtype = _DTYPES[info.type.tensor_type.elem_type]
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(dtype), name=info.name))
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model


def network(model: onnx.ModelProto) -> Network:
    """The model imported without any rewriting but shape inference."""
    return import_graph(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(model)))


def feeds(model: onnx.ModelProto, batch: int) -> dict[str, np.ndarray]:
    """Random inputs; symbolic dimensions become `batch`. Normal floats, or 0.5..1.5 for names with "positive"; integers -2..2."""
    random = np.random.default_rng(batch)
    made = {}
    for info in model.graph.input:
        shape = [dim.dim_value if dim.HasField("dim_value") else batch for dim in info.type.tensor_type.shape.dim]
        dtype = _DTYPES[info.type.tensor_type.elem_type]
        if np.issubdtype(dtype, np.floating):
            values = random.uniform(0.5, 1.5, shape) if "positive" in info.name else random.standard_normal(shape) * 2
        else:
            values = random.integers(-2, 3, shape) if dtype != np.bool_ else random.integers(0, 2, shape)
        made[info.name] = np.asarray(values).astype(dtype)
    return made


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """onnxruntime on the CPU without graph optimisation, so that every operator runs as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """max |found - wanted| / max |wanted|; equal infinities and NaNs count as equal."""
    found, wanted = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    finite = np.abs(wanted[np.isfinite(wanted)])
    return float(np.where(same, 0.0, np.abs(found - wanted)).max(initial=0.0) / max(finite.max(initial=0.0), 1e-6))


def check(text: str, opset: int, *, tolerance: float = 2e-6, gradient: bool = True) -> None:
    """Asserts that the imported graph equals onnxruntime at batch 1 and 4, and that its gradient is that of finite differences.

    The tolerance is relative to the largest value of an output: a few float32 roundings (1.2e-7 each) of sums in another order.
    """
    model = parse(text, opset)
    runtime, imported = session(model), network(model)
    for batch in (1, 4):
        inputs = feeds(model, batch)
        wanted = dict(zip(imported.outputs, runtime.run(None, inputs), strict=True))
        found = imported({name: torch.from_numpy(value) for name, value in inputs.items()})
        for name, value in wanted.items():
            what = f"{name} at batch {batch}"
            assert found[name].numpy().dtype == value.dtype, what
            assert tuple(found[name].shape) == value.shape, what
            error = relative_error(found[name].numpy(), value)
            assert error <= tolerance, f"{what}: relative error {error:.2e}"
    if gradient:
        check_gradient(imported, feeds(model, 2))


def check_gradient(imported: Network, inputs: dict[str, np.ndarray]) -> None:
    """Compares the gradient of a random sum of all outputs, along a random direction, with finite differences."""
    imported.module.double()
    generator = torch.Generator().manual_seed(0)
    at = {name: torch.from_numpy(v) for name, v in inputs.items()}
    at = {name: v.double() if v.is_floating_point() else v for name, v in at.items()}
    floats = {name: v.requires_grad_() for name, v in at.items() if v.is_floating_point()}
    weights: dict[str, torch.Tensor] = {}

    def objective(points: dict[str, torch.Tensor]) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for name, value in imported(points).items():
            weights.setdefault(name, torch.randn(value.shape, generator=generator, dtype=torch.float64))
            total = total + (value * weights[name]).sum()
        return total

    gradients = torch.autograd.grad(objective(at), list(floats.values()))
    directions = {name: torch.randn(v.shape, generator=generator, dtype=torch.float64) for name, v in floats.items()}
    expected = sum((g * directions[name]).sum().item() for name, g in zip(floats, gradients, strict=True))
    step = 1e-6
    with torch.no_grad():
        ahead = objective({name: v + step * directions[name] if name in floats else v for name, v in at.items()})
        behind = objective({name: v - step * directions[name] if name in floats else v for name, v in at.items()})
    measured = (ahead - behind).item() / (2 * step)
    assert measured == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert expected != 0
