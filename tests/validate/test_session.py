"""Running models: any value as output, fixed batches, kernels counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from simulation import model

from genie_onnx.errors import DataError, RunError
from genie_onnx.validate import KernelCounts, Session, has_cuda, integer_kernels, lend, run

X = np.arange(10, dtype=np.float32).reshape(5, 2)
ONE = np.float32([1, 2])


def _model(batch: str = "N") -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
        g (float[{batch},2] x) => (float[{batch},2] y) {{ a = Add(x, one) b = Neg(a) y = Exp(b) }}"""
    return model(text, one=ONE)


@pytest.mark.parametrize("optimise", [True, False])
def test_any_value_may_be_asked_for(optimise: bool) -> None:
    found = run(_model(), {"x": X}, ["b", "one", "x", "y"], optimise)
    assert list(found) == ["b", "one", "x", "y"]
    np.testing.assert_array_equal(found["b"], -(X + ONE))
    np.testing.assert_array_equal(found["one"], [1, 2])
    np.testing.assert_array_equal(found["x"], X)


def test_the_model_may_be_a_path_bytes_or_a_proto(tmp_path: Path) -> None:
    onnx.save(_model(), tmp_path / "m.onnx")
    for source in (tmp_path / "m.onnx", _model().SerializeToString(), _model()):
        np.testing.assert_allclose(run(source, {"x": X})["y"], np.exp(-(X + ONE)), rtol=1e-6)
        np.testing.assert_array_equal(run(source, {"x": X}, ["a"])["a"], X + ONE)


@pytest.mark.parametrize("optimise", [True, False])
def test_the_weights_of_a_graph_are_lent(optimise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the model's own memory, and the session computes with them as with those of a file, fused or not."""
    monkeypatch.setattr(lend, "LARGE", 16)
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,2,4,4] x) => (float[N,5] y)
        <float[4] s = {1, 2, 3, 4}, int64[2] rows = {0, -1}> {
            a = Conv(x, w) n = BatchNormalization(a, s, s, m, s) r = Relu(n) f = Reshape(r, rows) y = MatMul(f, v) }"""
    random = np.random.default_rng(0)
    w, m, v = (random.standard_normal(shape).astype(np.float32) for shape in ((4, 2, 3, 3), 4, (16, 5)))
    proto = model(text, w=w, m=m, v=v)
    graph = ir.from_proto(proto)
    graph.graph.initializers["v"].const_value = ir.tensor(v)
    message, lent = lend.lend_weights(graph)
    assert set(lent) == {"w", "m", "v", "s"}
    assert lent["v"].data_ptr() == v.ctypes.data
    assert not any(array.tobytes() in message.SerializeToString() for array in (w, m, v))
    assert ir.to_proto(graph) == ir.to_proto(ir.from_proto(proto))
    feeds = {"x": random.standard_normal((3, 2, 4, 4)).astype(np.float32)}
    for outputs in (None, ["n", "y"]):
        found, expected = (run(source, feeds, outputs, optimise) for source in (graph, proto))
        assert all(np.array_equal(found[name], array) for name, array in expected.items())


def test_exposing_values_leaves_the_model_alone() -> None:
    proto = _model()
    before = proto.SerializeToString()
    run(proto, {"x": X}, ["a"])
    assert proto.SerializeToString() == before


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_a_fixed_batch_is_run_in_parts(batch: int) -> None:
    found = run(_model(str(batch)), {"x": X}, ["b", "y"])
    np.testing.assert_array_equal(found["b"], -(X + ONE))
    assert found["y"].shape == (5, 2)


def test_an_output_without_samples_needs_the_fixed_batch() -> None:
    with pytest.raises(DataError, match=r"'z' has shape \(3,\)"):
        run(
            model(
                """<ir_version: 8, opset_import: ["" : 13]>
                g (float[2,2] x) => (float[2,2] y, float[3] z) { y = Neg(x) s = ReduceSum<keepdims=0>(x) z = Add(s, w) }""",
                w=np.float32([1, 2, 3]),
            ),
            {"x": X},
        )


def test_an_output_that_no_input_reaches_is_the_same_for_all_batches() -> None:
    found = run(
        model(
            """<ir_version: 8, opset_import: ["" : 13]>
            g (float[2,2] x) => (float[2,2] y, float[3] z) { y = Neg(x) z = Neg(w) }""",
            w=np.float32([1, 2, 3]),
        ),
        {"x": X},
    )
    np.testing.assert_array_equal(found["y"], -X)
    np.testing.assert_array_equal(found["z"], [-1, -2, -3])


def test_wrong_names_are_refused() -> None:
    with pytest.raises(DataError, match="no value 'c'"):
        run(_model(), {"x": X}, ["a", "c"])
    with pytest.raises(DataError, match=r"inputs are \['x'\], the data is for \['image'\]"):
        run(_model(), {"image": X})


def test_a_session_serves_many_batches() -> None:
    session = Session(_model(), ["a"])
    assert (session.inputs, session.outputs) == (("x",), ("a",))
    for size in (1, 3):
        assert session({"x": X[:size]})["a"].shape == (size, 2)


@pytest.mark.skipif(has_cuda(), reason="this onnxruntime has CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_is_not_there_is_no_cpu() -> None:
    """onnxruntime would take the CPU with a warning."""
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,2] x) => (float[N,2] y) { y = Neg(x) }"""
    with pytest.raises(RunError, match="cannot use CUDA here"):
        Session(model(text), provider="cuda")


def test_kernels_of_a_float_model() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,2,4,4] x) => (float[N,2,4,4] y) { a = Conv(x, w) y = Exp(a) }"""
    counts = integer_kernels(model(text, w=np.ones((2, 2, 3, 3), np.float32)))
    assert counts == KernelCounts(integer={}, floating={"Conv": 1})
    assert counts.to_json() == {"integer": {}, "floating": {"Conv": 1}, "layers": None, "float_layers": {}}
