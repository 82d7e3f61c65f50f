"""Network: names, extraction, sharing, and what is refused."""

from __future__ import annotations

import copy
import pickle
import sys
import types

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from importer.against_onnxruntime import LATEST, cases, check, feeds, network, parse, relative_error, session

from genie_onnx.errors import ModelError
from genie_onnx.graph.ops import SUPPORTED_OPS
from genie_onnx.importer import fallback, import_graph
from genie_onnx.importer.resize import torch_mode
from genie_onnx.importer.table import CONVERTERS

_BLOCK = """(float[N,3,8,8] x) => (float y, float z)
    <float[4,3,3,3] w, float[4] b, float[4,4,3,3] v, float[4,4,1,1] u, int64[2] s = {0,-1}> {
    a = Conv<pads=[1,1,1,1]>(x, w, b)
    r = Relu(a)
    c = Conv<pads=[1,1,1,1]>(r, v)
    d = Conv(r, u)
    e = Add(c, d)
    y = Relu(e)
    p = GlobalAveragePool(y)
    z = Reshape(p, s)
}"""


def _inputs(batch: int = 2) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in feeds(parse(_BLOCK), batch).items()}


def test_values_have_the_names_of_the_file() -> None:
    imported = network(parse(_BLOCK))
    assert imported.inputs == ("x",)
    assert imported.outputs == ("y", "z")
    assert set(imported.nodes) == set("xwbvu" + "arcdeypz")
    assert [node.target for node in imported.module.graph.nodes if node.op == "call_module"] == [
        "n00000_Conv",
        "n00001_Relu",
        "n00002_Conv",
        "n00003_Conv",
        "n00004_Add",
        "n00005_Relu",
        "n00006_GlobalAveragePool",
        "n00007_Reshape",
    ]
    assert not imported.module.training
    assert not any(parameter.requires_grad for parameter in imported.module.parameters())


def test_extracts_chained_together_equal_the_whole() -> None:
    imported, inputs = network(parse(_BLOCK)), _inputs()
    whole = imported(inputs)
    first = imported.extract(["x"], ["r"])
    second = imported.extract(["r"], ["e"])
    third = imported.extract(["e"], ["y", "z"])
    found = third(second(first(inputs)))
    assert list(found) == ["y", "z"]
    for name, value in whole.items():
        assert torch.equal(found[name], value), name


def test_an_extract_leaves_out_what_it_does_not_need_and_shares_the_rest() -> None:
    imported = network(parse(_BLOCK))
    part = imported.extract(["r"], ["c"])
    assert set(part.nodes) == {"r", "v", "c"}
    assert [name for name, _ in part.module.named_children()] == ["n00002_Conv"]
    (shared,) = part.module.parameters()
    assert shared is imported.module.get_parameter(str(imported.nodes["v"].target))


def test_an_initializer_among_the_inputs_is_an_argument() -> None:
    imported, inputs = network(parse(_BLOCK)), _inputs()
    part = imported.extract(["x", "w", "b"], ["a"])
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    bias = torch.zeros(4)
    found = part({**inputs, "w": weight, "b": bias})["a"]
    torch.testing.assert_close(found, torch.nn.functional.conv2d(inputs["x"], weight, bias, padding=1))
    assert torch.autograd.grad(found.sum(), weight)[0].abs().sum() > 0
    assert not list(part.module.parameters())


def test_inputs_and_initializers_can_be_outputs_and_unused_inputs_stay() -> None:
    imported, inputs = network(parse(_BLOCK)), _inputs()
    part = imported.extract(["x", "e"], ["x", "w", "a"])
    assert part.inputs == ("x", "e")
    found = part({**inputs, "e": torch.empty(0)})
    assert found["x"] is inputs["x"]
    assert found["w"].shape == (4, 3, 3, 3)


def test_an_extract_of_an_extract() -> None:
    imported, inputs = network(parse(_BLOCK)), _inputs()
    part = imported.extract(["x", "u"], ["e"]).extract(["r", "u"], ["e"])
    values = imported.extract(["x"], ["r", "e"])(inputs)
    weight = imported.module.get_parameter(str(imported.nodes["u"].target))
    assert torch.equal(part({"r": values["r"], "u": weight})["e"], values["e"])


def test_impossible_extracts_are_refused() -> None:
    imported = network(parse(_BLOCK))
    with pytest.raises(ValueError, match="no value named 'nonsense'"):
        imported.extract(["nonsense"], ["y"])
    with pytest.raises(ValueError, match="'x' is needed too"):
        imported.extract(["c"], ["y"])


@pytest.mark.parametrize("names", ["training", "forward", "graph", "self", "class", "a.b/c:0", "1", "input_0"])
def test_names_that_are_taken_in_torch_and_python(names: str) -> None:
    """As node, value and initializer names at once, beside those that differ from them by one character only."""
    original = parse("(float[N,3] x) => (float y) <float[3] w> { a = Add(x, w)  b = Mul(a, w)  y = Sub(b, w) }")
    model = copy.deepcopy(original)
    renamed = {"a": names, "w": f"{names}_", "b": f"{names}/"}
    for node in model.graph.node:
        node.name = names
        for values in (node.input, node.output):
            values[:] = [renamed.get(value, value) for value in values]
    model.graph.initializer[0].name = renamed["w"]
    imported = network(model)
    assert set(imported.nodes) == {"x", "y", *renamed.values()}
    inputs = feeds(model, 2)
    (wanted,) = session(original).run(None, inputs)
    assert relative_error(imported({"x": torch.from_numpy(inputs["x"])})["y"].numpy(), wanted) < 1e-6


@cases(
    {
        "output_is_input": "(float[N,3] x) => (float x, float y) { y = Relu(x) }",
        "same_value_for_two_operands": "(float[N,3] x) => (float y) { y = Mul(x, x) }",
        "output_inside": "(float[N,3] x) => (float a, float y) { a = Relu(x)  y = Neg(a) }",
    }
)
def test_unusual_wiring(text: str, opset: int) -> None:
    check(text, opset)


def test_a_constant_output() -> None:
    model = parse("(float[N,3] x) => (float y, float w) <float[3] w> { y = Add(x, w) }")
    assert network(model)({"x": torch.zeros(1, 3)})["w"].shape == (3,)


def test_networks_are_copied_and_pickled() -> None:
    text = """(float[N,3,8,8] x) => (float y) <float[4,3,3,3] w, float[4] z = {1, 1, 1.7, 2.6}> {
        a = Conv(x, w)  b = Resize<mode="linear">(a, "", z)  c = HardSwish(b)
        d = ReduceMax<keepdims=0>(c)  s = Shape(c)  y = Expand(d, s) }"""
    imported = network(parse(text, 17))
    x = torch.randn(1, 3, 8, 8)
    for module in (copy.deepcopy(imported.module), pickle.loads(pickle.dumps(imported.module))):
        assert torch.equal(module(x)[0], imported({"x": x})["y"])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_networks_compile_to_one_graph(mode: str) -> None:
    text = f"""(float[N,3,8,8] x) => (float y) <float[4,3,3,3] w, float[4] z = {{1, 1, 2, 2}}, int64[2] s = {{0, -1}}> {{
        a = Conv<pads=[0,0,1,1], strides=[2,2]>(x, w)  b = Resize<mode="{mode}">(a, "", z)
        c = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(b)
        d = Transpose<perm=[0,2,3,1]>(c)  y = Reshape(d, s) }}"""
    imported = network(parse(text))
    torch.compiler.assume_constant_result(torch_mode)
    compiled = torch.compile(imported.module, backend="eager", fullgraph=True)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(compiled(x), imported.module(x))


def test_weights_share_the_memory_of_the_model() -> None:
    """All networks of a model hold its weights together once; what is read-only, or subnormal somewhere, is copied."""
    text = "(float[N,3] x) => (float y) <float[3] w, float[3] b = {1, 2, 3}> { a = Add(x, w) y = Mul(a, b) }"
    model = ir.serde.deserialize_model(parse(text))
    array = np.float32([1, 0, 1e-30])
    model.graph.initializers["w"].const_value = ir.tensor(array)

    def weight(name: str = "w") -> torch.Tensor:
        imported = import_graph(model)
        return imported.module.get_parameter(str(imported.nodes[name].target))

    assert weight().data_ptr() == weight().data_ptr() == array.ctypes.data
    assert weight("b").tolist() == [1, 2, 3]
    array[2] = 1e-40
    assert weight().tolist() == [1, 0, 0]
    assert array[2] > 0


def test_every_problem_is_listed_at_once() -> None:
    text = '(float[N,3,8,8] x) => (float y) { a = LRN<size=2>(x)  b = Gelu<approximate="none">(a)  c = Det(b)  y = Celu(c) }'
    model = parse(text)
    model.graph.node[0].name, model.graph.node[2].name = "first", "second"
    with pytest.raises(ModelError) as caught:
        network(model)
    assert len(caught.value.problems) == 2
    assert "'first'" in caught.value.problems[0]
    assert "size=2" in caught.value.problems[0]
    assert "'second'" in caught.value.problems[1]
    assert "Cut the model before this node" in caught.value.problems[1]


def test_foreign_domains_are_refused() -> None:
    imports = '<ir_version: 10, opset_import: ["" : 17, "com.example" : 1]>'
    model = onnx.parser.parse_model(f"{imports} g (float[N,3] x) => (float[N,3] y) {{ y = com.example.Relu(x) }}")
    with pytest.raises(ModelError, match=r"com\.example::Relu"):
        network(model)


def test_old_opsets_are_refused() -> None:
    with pytest.raises(ModelError, match="opset 12"):
        network(parse("(float[N,3] x) => (float y) { y = Relu(x) }", 12))


def test_a_used_optional_output_is_refused() -> None:
    """onnx2torch would hand out the first image of the batch here."""
    text = "(float[N,3,8,8] x) => (float y, int64 i) { y, i = MaxPool<kernel_shape=[2,2]>(x) }"
    with pytest.raises(ModelError, match="optional output 'i' is used"):
        network(parse(text))
    check("(float[N,3,8,8] x) => (float y) { y, i = MaxPool<kernel_shape=[2,2]>(x) }", LATEST)


def test_every_operator_that_graphs_may_have_can_be_imported() -> None:
    assert SUPPORTED_OPS - CONVERTERS.keys() - fallback.VETTED == set()
    assert not CONVERTERS.keys() & fallback.VETTED


_FALLBACK = {
    "Acos": "(float[N,3] x) => (float y) { t = Tanh(x)  y = Acos(t) }",
    "Asin": "(float[N,3] x) => (float y) { t = Tanh(x)  y = Asin(t) }",
    "Atan": "(float[N,3] x) => (float y) { y = Atan(x) }",
    "Tan": "(float[N,3] positive) => (float y) { y = Tan(positive) }",
    "Einsum": '(float[N,2,3] a, float[N,3,4] b) => (float y) { y = Einsum<equation="nij,njk->nki">(a, b) }',
}


@cases(_FALLBACK)
def test_operators_left_to_onnx2torch(text: str, opset: int) -> None:
    check(text, opset)


@cases({"EyeLike": "(float[3,4] x) => (float y) { y = EyeLike<k=-1>(x) }"})
def test_operators_left_to_onnx2torch_without_gradient(text: str, opset: int) -> None:
    check(text, opset, gradient=False)


@pytest.mark.parametrize("state", ["absent", "broken", "working"])
def test_torchvision_does_not_matter(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx2torch imports it; whatever happens then, sys.modules ends without a stand-in."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("onnx2torch", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    fallback.onnx2torch.cache_clear()
    if state == "absent":
        monkeypatch.setitem(sys.modules, "torchvision", None)
    elif state == "broken":
        monkeypatch.setattr(fallback.importlib, "import_module", _broken_torchvision)
    else:
        vision, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
        ops.roi_align = vision.ops = ops
        monkeypatch.setitem(sys.modules, "torchvision", vision)
        monkeypatch.setitem(sys.modules, "torchvision.ops", ops)
    before = sys.modules.get("torchvision")
    library = fallback.onnx2torch()
    assert library["registry"].get_converter("Einsum", 12)
    if state == "working":
        assert sys.modules["torchvision"] is before
    else:
        assert sys.modules.get("torchvision") is None
    fallback.onnx2torch.cache_clear()


def _broken_torchvision(name: str, package: str | None = None) -> types.ModuleType:
    if name.startswith("torchvision"):
        raise RuntimeError("operator torchvision::nms does not exist")
    __import__(name)
    return sys.modules[name]
