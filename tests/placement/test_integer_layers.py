"""Why layers compute in float: said of each layer with weights before there is a file, and true of the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from simulation import model, quantised

from genie_onnx.config import PlacementConfig
from genie_onnx.placement import Placement, integer_layers, place
from genie_onnx.placement.integer_layers import HEAD, NO_KERNEL, OUTPUT, UNROUNDED
from genie_onnx.targets import PORTABLE, TARGETS
from genie_onnx.validate import integer_kernels

RNG = np.random.default_rng(2)
X = {"x": RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)}
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,3,8,8] x) => (float[N,8,8,8] mid, float[N,4,16,16] up, float[N,64,64] map, float[N,5] scores, float[N,4] box) {
        a = Conv<pads = [1,1,1,1]>(x, w1) r = Relu(a)
        b = Conv<pads = [1,1,1,1]>(r, w2) mid = Relu(b)
        c = Conv<pads = [1,1,1,1]>(mid, w3) s = Relu(c)
        u = ConvTranspose<strides = [2,2]>(s, wt) up = Sigmoid(u)
        shape = Constant<value = int64[3] {0, 8, -1}>() f = Reshape(s, shape) t = Transpose<perm = [0,2,1]>(f)
        q = MatMul(t, wq) k = MatMul(t, wk) kt = Transpose<perm = [0,2,1]>(k) map = MatMul(q, kt)
        p = Softmax<axis = -1>(map) v = MatMul(p, t) d = MatMul(v, wd) m = ReduceMean<axes = [1], keepdims = 0>(d)
        scores = Gemm<transB = 1>(m, wg)
        h = Conv(s, wh) e = Exp(h) g = GlobalAveragePool(e) box = Flatten(g)
    }"""
SHAPES = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 8, 3, 3), "wt": (8, 4, 2, 2), "wh": (4, 8, 1, 1)}
MATRICES = {"wq": (8, 8), "wk": (8, 8), "wd": (8, 8), "wg": (5, 8)}
WEIGHTS = {name: (RNG.standard_normal(s) / 4).astype(np.float32) for name, s in (SHAPES | MATRICES).items()}
NET = model(TEXT, **WEIGHTS)
for node in NET.graph.node:
    node.name = node.output[0]


def _placer(config: PlacementConfig, target: str) -> Callable[[ir.Model], Placement]:
    return lambda deploy: place(deploy, config, TARGETS[target].constraints)


CONFIGS = {
    "full": PlacementConfig(),
    "kept": PlacementConfig(keep_float=("c",)),
    "kept_activation": PlacementConfig(keep_float=("e",)),
    "eight_bits": PlacementConfig(wbits=8, abits=8),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_said_of_a_graph_is_true_of_its_file(name: str) -> None:
    case = quantised(NET, _placer(CONFIGS[name], "portable"), X)
    said = integer_layers(case.deploy, case.placement, PORTABLE.constraints)
    found = integer_kernels(case.proto)
    assert found.float_layers == {layer: why for layer, why in said.items() if why}
    assert found.layers == len(said) == 9, "products of two computed values are none"
    assert {"map", "v"} == set(case.placement.float_nodes) - set(said)


def test_each_layer_has_its_own_reason() -> None:
    case = quantised(NET, _placer(CONFIGS["full"], "portable"), X)
    said = {layer: why for layer, why in integer_layers(case.deploy, case.placement, PORTABLE.constraints).items() if why}
    assert said == {"b": OUTPUT, "u": NO_KERNEL, "h": HEAD}
    kept = quantised(NET, _placer(CONFIGS["kept"], "portable"), X)
    said = integer_layers(kept.deploy, kept.placement, PORTABLE.constraints)
    assert said["c"] == "asked for with --keep-float 'c'"


def test_heads_that_are_rounded_have_no_reason() -> None:
    rounded = dataclasses.replace(PORTABLE.constraints, outputs="rounded")
    deploy = quantised(NET, _placer(CONFIGS["full"], "portable"), X).deploy
    assert HEAD in integer_layers(deploy, place(deploy, CONFIGS["full"]), PORTABLE.constraints).values()
    layers = integer_layers(deploy, place(deploy, CONFIGS["full"], rounded), rounded)
    assert HEAD not in layers.values()


def test_inputs_that_are_not_rounded() -> None:
    config = PlacementConfig(points="layer-inputs")
    case = quantised(NET, _placer(config, "portable"), X)
    said = integer_layers(case.deploy, case.placement, PORTABLE.constraints)
    assert said["a"] == UNROUNDED
    assert set(integer_kernels(case.proto).float_layers) == {layer for layer, why in said.items() if why}
