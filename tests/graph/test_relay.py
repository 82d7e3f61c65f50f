"""cancel_transposes leaves fewer Transposes or nothing changed, and always the same numbers."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import image, ops, parse, run

from genie_onnx.graph import load, normalise, simplify

FIRST, LAST = "Transpose<perm=[0,3,1,2]>", "Transpose<perm=[0,2,3,1]>"
SIZE = (4, 5, 6)
WEIGHTS = "float[4,4,1,1] w, float[4] k, float[5,6,4] m, float[1] one"
# nodes from c = Conv(x, w) [N, 4, 5, 6] to y, and what is left of them
CANCEL = {
    "two in a row": (f"l = {LAST}(c) f = {FIRST}(l) y = Relu(f)", ["Relu"]),
    "an output": (f"l = {LAST}(c) y = {FIRST}(l)", []),
    "activation": (f"l = {LAST}(c) r = Relu(l) f = {FIRST}(r) y = Sigmoid(f)", ["Relu", "Sigmoid"]),
    "constants": (
        f"l = {LAST}(c) r = Relu(l) p = Mul(r, k) q = Add(m, p) f = {FIRST}(q) y = Neg(f)",
        ["Relu", "Mul", "Add", "Neg"],
    ),
    "slopes and bounds": (f"l = {LAST}(c) p = PRelu(l, k) q = Clip(p, lo, hi) y = {FIRST}(q)", ["PRelu", "Clip"]),
    "two branches": (
        f"l = {LAST}(c) r = Relu(l) f = {FIRST}(r) d = Conv(f, w) e = {LAST}(d) s = Add(e, r) g = {FIRST}(s) y = Conv(g, w)",
        ["Relu", "Conv", "Add", "Conv"],
    ),
    "padded": (f"l = {LAST}(c) p = Pad(l, pads, half) y = {FIRST}(p)", ["Pad"]),
    "joined": (f"l = {LAST}(c) r = Relu(l) s = Concat<axis=-1>(l, r) y = {FIRST}(s)", ["Relu", "Concat"]),
    "joined rows": (f"l = {LAST}(c) r = Relu(l) s = Concat<axis=1>(l, r) y = {FIRST}(s)", ["Relu", "Concat"]),
    "joined with a constant": (f"l = {LAST}(c) s = Concat<axis=3>(l, l, con) y = {FIRST}(s)", ["Concat"]),
    "split": (f"l = {LAST}(c) a, b = Split<axis=3>(l) s = Mul(a, b) y = {FIRST}(s)", ["Split", "Mul"]),
    "cut": (f"l = {LAST}(c) s = Slice(l, from, to, at) y = {FIRST}(s)", ["Slice"]),
    "softmax": (f"l = {LAST}(c) s = Softmax(l) y = {FIRST}(s)", ["Softmax"]),
    "softmax of rows": (f"l = {LAST}(c) s = Softmax<axis=1>(l) y = {FIRST}(s)", ["Softmax"]),
    "gate": (
        f"l = {LAST}(c) g = ReduceMean<axes=[1,2]>(l) f = {FIRST}(g) d = Conv(f, w) e = {LAST}(d) s = Sigmoid(e) p = Mul(l, s) "
        f"h = {FIRST}(p) y = Conv(h, w)",
        ["ReduceMean", "Conv", "Sigmoid", "Mul", "Conv"],
    ),
    "reduced away": (f"l = {LAST}(c) r = Relu(l) y = ReduceSum<keepdims=0>(r, away)", ["Relu", "ReduceSum"]),
    "reduced to a column": (f"l = {LAST}(c) r = Relu(l) y = ReduceMax<axes=[2,3], keepdims=0>(r)", ["Relu", "ReduceMax"]),
    "channels reduced away": (f"l = {LAST}(c) r = Relu(l) y = ReduceSum<keepdims=0>(r, last)", ["Relu", "ReduceSum"]),
    "another order": ("l = Transpose<perm=[1,3,0,2]>(c) r = Relu(l) y = Transpose<perm=[2,0,3,1]>(r)", ["Relu"]),
}
KEEP = {
    "none undone": (f"r = Relu(c) y = {LAST}(r)", ["Relu", "Transpose"]),
    "read both ways": (
        f"l = {LAST}(c) r = Relu(l) f = {FIRST}(r) d = Neg(f) y = Flatten(r) z = Flatten(d)",
        ["Relu", "Neg", "Flatten", "Transpose", "Flatten"],
    ),
    "rows that change places": (
        f"l = {LAST}(c) r = Relu(l) y = ReduceSum<keepdims=0>(r, rows)",
        ["Transpose", "Relu", "ReduceSum"],
    ),
    "a shape between": (f"l = {LAST}(c) r = Reshape(l, same) y = {FIRST}(r)", ["Transpose", "Reshape", "Transpose"]),
}


def model(nodes: str) -> onnx.ModelProto:
    given = {
        "pads": np.array([0, 1, 0, 2, 0, 0, 3, 0]),
        "half": np.array(0.5, np.float32),
        "lo": np.array(-0.5, np.float32),
        "hi": np.array(0.75, np.float32),
        "con": np.arange(60, dtype=np.float32).reshape(1, 5, 6, 2),
        "from": np.array([1, -3]),
        "to": np.array([3, 9]),
        "at": np.array([-1, 2]),
        "away": np.array([1, -2]),
        "last": np.array([3]),
        "rows": np.array([1]),
        "flat": np.array([-1, 4]),
        "same": np.array([0, 5, 6, 4]),
    }
    kinds = {"f": "float", "i": "int64"}
    used = {name: array for name, array in given.items() if re.search(rf"\b{name}\b", nodes)}
    sizes = {name: f"[{','.join(map(str, array.shape))}]" if array.ndim else "" for name, array in used.items()}
    extra = ", ".join(f"{kinds[array.dtype.kind]}{sizes[name]} {name}" for name, array in used.items())
    outputs = "float[] y, float[] z" if " z =" in nodes else "float[] y"
    batch = 1 if "con" in extra else "N"
    text = f"g (float[{batch},4,5,6] x, {WEIGHTS}{', ' + extra if extra else ''}) => ({outputs}) {{ c = Conv(x, w) {nodes} }}"
    return parse(text, **given)


def simplified(model: ir.Model) -> ir.Model:
    return simplify(normalise(model))


def same(proto: onnx.ModelProto, graph: ir.Model) -> None:
    x = image(1 if proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1 else 3, *SIZE)
    theirs, ours = run(proto, x), run(graph, x)
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-5)
    onnx.checker.check_model(ir.to_proto(graph), full_check=True)


@pytest.mark.parametrize("case", CANCEL)
def test_what_undoes_each_other_is_gone(case: str) -> None:
    nodes, left = CANCEL[case]
    proto = model(nodes)
    graph = simplified(load(proto))
    assert ops(graph) == ["Conv", *left]
    same(proto, graph)


@pytest.mark.parametrize("case", KEEP)
def test_what_gains_nothing_stays(case: str) -> None:
    nodes, left = KEEP[case]
    proto = model(nodes)
    graph = simplified(load(proto))
    assert sorted(ops(graph)) == sorted(["Conv", *left])
    same(proto, graph)


def test_names_are_those_of_the_user() -> None:
    """Nodes keep theirs; a value has the name of what it is now."""
    proto = model(f"l = {LAST}(c) r = Relu(l) s = Sigmoid(r) f = {FIRST}(s) y = Conv(f, w)")
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    graph = simplified(load(proto))
    assert [n.name for n in graph.graph] == ["node_c", "node_r", "node_s", "node_y"]
    assert [str(n.outputs[0].name) for n in graph.graph] == ["c", "r", "f", "y"]


def test_outputs_between_keep_their_layout() -> None:
    """Only where that is worth a Transpose of its own."""
    more = f"a = {FIRST}(z) d = Conv(a, w) e = {LAST}(d) s = Add(e, z) b = {FIRST}(s) y = Conv(b, w)"
    proto = model(f"l = {LAST}(c) z = Relu(l) {more}")
    graph = simplified(load(proto))
    assert sum(n.op_type == "Transpose" for n in graph.graph) == 1
    assert [str(v.name) for v in graph.graph.outputs] == ["y", "z"]
    same(proto, graph)


def test_a_constant_that_others_read_is_not_changed_for_them() -> None:
    others = f"s = {LAST}(c) t = Reshape(s, rows) v = Mul(t, k) z = Relu(v)"
    proto = model(f"l = {LAST}(c) r = Relu(l) p = Mul(r, k) f = {FIRST}(p) y = Relu(f) {others}".replace("rows", "flat"))
    same(proto, simplified(load(proto)))


def test_a_permutation_that_is_none_is_left_alone() -> None:
    """A file may hold anything; onnxruntime is the one to refuse it."""
    proto = model(f"l = {LAST}(c) y = Relu(l)")
    next(n for n in proto.graph.node if n.op_type == "Transpose").attribute[0].ints[:] = [0, 3, 1]
    assert ops(simplified(load(proto))) == ["Conv", "Transpose", "Relu"]
