"""Statistics borrowed from another file: the right ones for every folded layer, and none from a file of another network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx_models import parse

from genie_onnx.errors import ConfigError
from genie_onnx.graph import (
    BatchNorm,
    Reference,
    batchnorms,
    borrow,
    fold_batchnorm,
    graph_reference,
    load,
    normalise,
    state_reference,
)

# Plain, depthwise, without BatchNormalization, twice the same weights, transposed with groups, fully connected.
KEPT = normalise(
    load(
        parse(
            """g (float[N,2,6,6] x, float[4,2,3,3] w1, float[4] b1, float[4,1,3,3] w2, float[4,4,1,1] w3, float[4] b3,
                  float[4,2,2,2] wt, float[4] bt, float[4,4] wf, float[4] bf,
                  float[4] g1, float[4] h1, float[4] m1, float[4] var1, float[4] g2, float[4] h2, float[4] m2, float[4] var2,
                  float[4] g4, float[4] h4, float[4] m4, float[4] var4, float[4] g5, float[4] h5, float[4] m5, float[4] var5,
                  float[4] g6, float[4] h6, float[4] m6, float[4] var6) => (float[N,4] y) {
                c1 = Conv (x, w1, b1)              n1 = BatchNormalization <epsilon = 0.001> (c1, g1, h1, m1, var1)
                c2 = Conv <group = 4> (n1, w2)     n2 = BatchNormalization <epsilon = 0.5> (c2, g2, h2, m2, var2)
                c3 = Conv (n2, w3, b3)             r3 = Relu (c3)
                c4 = Conv (r3, w3, b3)             n4 = BatchNormalization (c4, g4, h4, m4, var4)
                t5 = ConvTranspose <group = 2> (n4, wt, bt)  n5 = BatchNormalization (t5, g5, h5, m5, var5)
                p = GlobalAveragePool (n5)         f = Flatten (p)
                f6 = Gemm <alpha = 0.5, beta = 2.0> (f, wf, bf)
                y = BatchNormalization (f6, g6, h6, m6, var6) }""",
            g1=np.array([1, -2, 0, 0.5], np.float32),  # one channel reversed, one switched off
        )
    )
)
FOLDED = fold_batchnorm(KEPT)
FOLDED_VALUES = ("n1", "n2", "n4", "n5", "y")


def initializers(model: ir.Model) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}


def as_state_dict() -> dict[str, np.ndarray]:
    """The same layers as torch would name them, all BatchNorms first, and before them a copy of everything, trained further."""
    of = initializers(KEPT)
    state = {}
    for number in (6, 5, 4, 2, 1):
        parts = {"weight": f"g{number}", "bias": f"h{number}", "running_mean": f"m{number}", "running_var": f"var{number}"}
        state |= {f"net.bn{number}.{part}": of[name] for part, name in parts.items()}
        state[f"net.bn{number}.num_batches_tracked"] = np.array(7, np.int64)
    for number, (weight, bias) in enumerate((("w1", "b1"), ("w2", ""), ("w3", "b3"), ("w3", "b3"), ("wt", "bt")), start=1):
        state[f"net.conv{number}.weight"] = of[weight]
        if bias:
            state[f"net.conv{number}.bias"] = of[bias]
    state |= {"net.fc.weight": 0.5 * of["wf"].T, "net.fc.bias": 2 * of["bf"]}
    floats = {key: array for key, array in state.items() if array.dtype.kind == "f"}
    return {**{f"ema.{key}": 1.01 * array for key, array in floats.items()}, **state}


REFERENCES: dict[str, Callable[[], Reference]] = {
    "onnx": lambda: graph_reference(KEPT, "kept.onnx"),
    "state_dict": lambda: state_reference(as_state_dict(), "net.pt"),
}


@pytest.mark.parametrize("kind", REFERENCES)
def test_statistics_are_those_of_the_file_pushed_through_the_affine(kind: str) -> None:
    """A sample with exactly the mean and variance that a BatchNorm stores is normalised, and measured again."""
    reference = REFERENCES[kind]()
    if kind == "state_dict":  # 0.5 is no epsilon that anyone uses
        reference = replace(reference, norms=tuple(replace(n, epsilons=(*n.epsilons, 0.5)) for n in reference.norms))
    borrowed = borrow(FOLDED, reference)
    assert [b.value for b in borrowed] == list(FOLDED_VALUES)
    arrays = initializers(KEPT)
    for found, number, eps in zip(borrowed, (1, 2, 4, 5, 6), (1e-3, 0.5, 1e-5, 1e-5, 1e-5), strict=True):
        gamma, beta, mean, var = (arrays[f"{part}{number}"].astype(np.float64) for part in ("g", "h", "m", "var"))
        sample = np.random.default_rng(0).standard_normal((1000, 4))
        sample = (sample - sample.mean(0)) / sample.std(0) * np.sqrt(var) + mean
        y = gamma * (sample - mean) / np.sqrt(var + eps) + beta
        np.testing.assert_allclose(found.mean, y.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.std, np.sqrt(y.var(0) + eps), rtol=1e-4)  # as in the census: epsilon is in it
        assert found.measured
        assert (found.std > 0).all()


def test_own_batchnorm_and_statistics_that_were_never_measured() -> None:
    """A layer that kept its BatchNormalization borrows nothing; one in its first state is found, and said to know nothing."""
    half_folded = KEPT.clone()
    stays = next(node for node in half_folded.graph if node.name == "BatchNormalization_n2")
    half_folded.graph.outputs.append(stays.inputs[0])  # read from outside: it cannot be folded
    assert [b.value for b in borrow(fold_batchnorm(half_folded), graph_reference(KEPT, "f"))] == ["n1", "n4", "n5", "y"]
    fresh = KEPT.clone()
    for name, array in (("m1", np.zeros(4, np.float32)), ("var1", np.ones(4, np.float32))):
        fresh.graph.initializers[name].const_value = ir.tensor(array, name=name)
    assert [b.measured for b in borrow(fold_batchnorm(fresh), graph_reference(fresh, "f"))] == [False, True, True, True, True]
    assert [b.measured for b in batchnorms(fresh)] == [False, True, True, True, True]


def with_change(name: str, index: tuple[int, ...], factor: float) -> ir.Model:
    """KEPT with one number of one initializer changed."""
    model = KEPT.clone()
    array = initializers(model)[name].copy()
    array[index] *= factor
    model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return model


@pytest.mark.parametrize(
    ("name", "index", "said"),
    [
        ("w1", (1, 0, 0, 0), "the weight of Conv 'Conv_c1' is not that of any layer"),
        ("b1", (1,), "Conv 'Conv_c1' has the weight of 'Conv_c1' in it, but no BatchNorm"),
        ("w2", (3, 0, 2, 2), "Conv 'Conv_c2'"),
        ("w3", (0, 0, 0, 0), "Conv 'Conv_c3'"),
        ("wt", (2, 1, 0, 0), "ConvTranspose 'ConvTranspose_t5'"),
        ("wf", (3, 3), "Gemm 'Gemm_f6'"),
        ("m4", (0,), "Conv 'Conv_c4' has the weight of 'Conv_c3' in it, but no BatchNorm"),
        ("var5", (0,), "ConvTranspose 'ConvTranspose_t5' has the weight"),
        ("g6", (0,), "Gemm 'Gemm_f6' has the weight"),
        ("h2", (0,), "Conv 'Conv_c2' has the weight"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 5 else "",
)
def test_one_number_off_by_a_hundredth_is_refused_by_name(name: str, index: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=r"other\.onnx") as refused:
        borrow(FOLDED, graph_reference(with_change(name, index, 1.01), "other.onnx"))
    assert len(refused.value.problems) == 1
    assert said in str(refused.value)


def test_a_file_without_statistics_and_a_file_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"folded\.onnx has no BatchNorm statistics"):
        borrow(FOLDED, graph_reference(FOLDED, "folded.onnx"))
    with pytest.raises(ConfigError, match="nothing to borrow"):
        borrow(KEPT, graph_reference(KEPT, "kept.onnx"))
    reference = graph_reference(KEPT, "part.onnx")
    with pytest.raises(ConfigError, match=r"Conv 'Conv_c1' has a weight \[4, 2, 3, 3\], and nothing in it has"):
        borrow(FOLDED, replace(reference, layers=reference.layers[1:]))


def test_every_layer_is_looked_at_although_the_wrong_one_is_the_last() -> None:
    """The statistics of the layers before it fit, and are not given out."""
    with pytest.raises(ConfigError, match="Gemm_f6"):
        borrow(FOLDED, graph_reference(with_change("wf", (0, 0), 2.0), "f"))


@pytest.mark.parametrize(
    ("folded", "kept", "count"),
    [("cifar/resnet20_folded", "cifar/resnet20_bn", 19), ("zoo/fastestdet_352_folded", "zoo/fastestdet_352_bn", 70)],
    ids=["resnet20", "fastestdet"],
)
def test_real_pairs_of_files(bench: Path, folded: str, kept: str, count: int) -> None:
    """Every BatchNorm of the kept file is found in the folded one, in the order of the nodes, as ONNX and as a state_dict."""
    model, other = (normalise(load(bench / f"{name}.onnx")) for name in (folded, kept))
    census = batchnorms(other)
    assert len(census) == count
    for reference in (graph_reference(other, kept), state_reference(initializers(other), kept)):
        borrowed: tuple[BatchNorm, ...] = borrow(model, reference)
        assert len(borrowed) == count
        norms = {norm.name: norm for norm in graph_reference(other, kept).norms}
        for own, found in zip(census, borrowed, strict=True):
            np.testing.assert_array_equal(found.mean, norms[own.node].beta.astype(np.float32))
            eps, variance = norms[own.node].epsilons[0], own.std.astype(np.float64) ** 2
            pushed = norms[own.node].gamma ** 2 * (variance - eps) / variance  # some of these variances are below epsilon
            np.testing.assert_allclose(found.std, np.sqrt(pushed + eps), rtol=1e-3, atol=1e-6)


def test_a_deeper_sibling_is_refused(bench: Path) -> None:
    model, other = (normalise(load(bench / "cifar" / f"{name}.onnx")) for name in ("resnet20_folded", "resnet32_bn"))
    with pytest.raises(ConfigError, match=r"resnet32 does not fit the model: the weight of Conv '/conv1/Conv'"):
        borrow(model, graph_reference(other, "resnet32"))
