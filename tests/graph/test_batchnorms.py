"""The census: which values have known moments, and which moments."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import parse

from genie_onnx.graph import batchnorms, fold_batchnorm, load, normalise

NET = (
    "g (float[N,2,4,4] x, float[3,2,3,3] w, float[3] g1, float[3] b1, float[3] m1, float[3] var1,"
    " float[3] g2, float[3] b2, float[3] m2, float[3] var2) => (float[] y)"
    "{ c = Conv(x, w) n = BatchNormalization<epsilon=0.25>(c, g1, b1, m1, var1) r = Relu(n)"
    "  y = BatchNormalization(r, g2, b2, m2, var2) }"
)


def test_mean_and_std_of_the_inputs() -> None:
    """In topological order, named by the BN's input; std has epsilon in it (its default 1e-5 too) and is not the variance."""
    graph = normalise(load(parse(NET)))
    first, second = batchnorms(graph)
    assert [(b.node, b.value) for b in (first, second)] == [("BatchNormalization_n", "c"), ("BatchNormalization_y", "r")]
    arrays = {name: v.const_value.numpy().astype(np.float64) for name, v in graph.graph.initializers.items()}
    for found, mean, var, eps in ((first, "m1", "var1", 0.25), (second, "m2", "var2", 1e-5)):
        assert found.mean.dtype == found.std.dtype == np.float32
        np.testing.assert_array_equal(found.mean, arrays[mean].astype(np.float32))
        np.testing.assert_allclose(found.std, np.sqrt(arrays[var] + eps), rtol=1e-7)


@pytest.mark.parametrize(
    ("mean", "var", "measured"),
    [([0, 0, 0], [1, 1, 1], False), ([0, 0, 0.1], [1, 1, 1], True), ([0, 0, 0], [1, 1, 2], True)],
    ids=str,
)
def test_a_layer_in_its_first_state_has_measured_nothing(mean: list[float], var: list[float], measured: bool) -> None:
    """Epsilon makes its deviation 1.000005, not 1."""
    proto = parse(NET, m2=np.array(mean, np.float32), var2=np.array(var, np.float32))
    assert [b.measured for b in batchnorms(normalise(load(proto)))] == [True, measured]


def test_folding_takes_statistics_away() -> None:
    """What folds is gone from the census, what stays is in it."""
    folded = fold_batchnorm(normalise(load(parse(NET))))
    assert [b.value for b in batchnorms(folded)] == ["r"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_useless_statistics_are_left_out(bad: float) -> None:
    """A variance that no data has cannot be matched."""
    proto = parse(NET, m2=np.array([0, bad if not np.isfinite(bad) else 0, 0], np.float32))
    if np.isfinite(bad):
        (tensor,) = [t for t in proto.graph.initializer if t.name == "var2"]
        tensor.raw_data = np.array([1, bad, 1], np.float32).tobytes()
    assert [b.value for b in batchnorms(normalise(load(proto)))] == ["c"]


def test_computed_statistics_and_constant_inputs_are_left_out() -> None:
    """A BN of a weight, or with moments of the batch at hand, says nothing about images."""
    proto = parse(
        "g (float[N,2,4,4] x, float[2] gamma, float[2] beta, float[2] mean, float[2] var) => (float[] y)"
        "{ m = ReduceMean<axes=[0,2,3], keepdims=0>(x) y = BatchNormalization(x, gamma, beta, m, var) }"
    )
    assert batchnorms(normalise(load(proto))) == ()
