"""Running models: any value as output, fixed batches, kernels counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from simulation import model

from genie_onnx.errors import DataError
from genie_onnx.validate import KernelCounts, Session, integer_kernels, run

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
                g (float[2,2] x) => (float[2,2] y, float[3] z) { y = Neg(x) z = Neg(w) }""",
                w=np.float32([1, 2, 3]),
            ),
            {"x": X},
        )


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


def test_kernels_of_a_float_model() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,2,4,4] x) => (float[N,2,4,4] y) { a = Conv(x, w) y = Exp(a) }"""
    counts = integer_kernels(model(text, w=np.ones((2, 2, 3, 3), np.float32)))
    assert counts == KernelCounts(integer={}, floating={"Conv": 1})
    assert counts.to_json() == {"integer": {}, "floating": {"Conv": 1}}
