"""What onnxruntime raises is said in one sentence, with the node and what to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from genie_onnx.errors import RunError
from genie_onnx.validate import Session, run
from genie_onnx.validate.runtime_errors import explained, runtime_errors

X = np.zeros((1, 3, 8, 8), np.float32)
IMAGE = "float[N,C,H,W] x"
OTHER_OPSET = "update onnxruntime, or export at another opset"


def _net(body: str, opset: int = 17, inputs: str = IMAGE, output: str = "float y") -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({output}) {body}')


def _newer_ir() -> onnx.ModelProto:
    model = _net("{ y = Relu(x) }")
    model.ir_version = 99
    return model


def _custom() -> onnx.ModelProto:
    model = _net('{ ["n"] y = Relu(x) }')
    model.graph.node[0].op_type, model.graph.node[0].domain = "Foo", "com.acme"
    model.opset_import.append(onnx.helper.make_opsetid("com.acme", 1))
    return model


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str, str]] = {
    "operator of a later opset": (
        lambda: _net('{ ["n"] y = Gelu(x) }'),
        "Gelu 'n': it knows no such operator of opset 17",
        "opset that",
    ),
    "no kernel": (
        lambda: _net('{ ["n"] y = Relu(x) }', inputs="bfloat16[N] x", output="bfloat16[N] y"),
        "Relu 'n': it has no kernel for this operator of opset 14",
        "float32",
    ),
    "wrong type": (lambda: _net('<int64[1] s = {7}> { ["n"] y = Add(x, s) }'), "Add 'n': Type parameter (T)", OTHER_OPSET),
    "another domain": (_custom, "Foo: it knows no such operator of domain com.acme", "without it"),
    "newer format": (_newer_ir, "Unsupported model IR version: 99", "Update onnxruntime"),
    "newer opset": (lambda: _net("{ y = Relu(x) }", 99), "Opset 99 is under development", "Update onnxruntime"),
    "shapes that do not fit": (
        lambda: _net('{ ["n"] y = Concat<axis = 7>(x, x) }', output="float[a,b,c,d] y"),
        "Concat 'n': axis must be in",
        OTHER_OPSET,
    ),
    "no such value": (lambda: _net("{ y = Relu(q) }"), "Node input 'q' is not a graph input", OTHER_OPSET),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("optimise", [True, False])
def test_what_cannot_be_loaded_is_said_in_one_sentence(kind: str, optimise: bool) -> None:
    make, reason, way = REFUSED[kind]
    with pytest.raises(RunError) as raised:
        Session(make(), optimise=optimise)
    text = _sentence(raised.value)
    assert reason in text
    assert "cannot load the model: " in text
    assert way in text


def _sentence(error: RunError) -> str:
    text = str(error)
    assert text.startswith("onnxruntime ")
    assert not any(
        noise in text for noise in ("\n", "ONNXRuntimeError", "onnxruntime_src", "::", "Status Message", "ShapeInference")
    )
    return text


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        (
            '<int64[2] s = {7, 7}> { ["n"] y = Reshape(x, s) }',
            IMAGE,
            "Reshape 'n': input_shape_size == requested_shape_size was false",
        ),
        ('<float[2,5,1,1] w = {0,0,0,0,0,0,0,0,0,0}> { ["n"] y = Conv(x, w) }', IMAGE, "Conv 'n': Input channels C is not equal"),
        ('{ ["n"] y = Relu(x) }', "float[N,4,8,8] x", "Got invalid dimensions for input: x"),
        ('{ ["n"] y = Relu(x) }', "float[N] x", "Invalid rank for input: x Got: 4 Expected: 1"),
        ('{ ["n"] y = Relu(x) }', "double[N,C,H,W] x", "Unexpected input data type"),
    ],
)
def test_what_fails_in_a_run_is_said_in_one_sentence(body: str, inputs: str, reason: str) -> None:
    model = _net(body, inputs=inputs, output="double y" if "double" in inputs else "float y")
    with pytest.raises(RunError) as raised:
        run(model, {"x": X})
    assert "cannot run the model: " + reason in _sentence(raised.value)


RESIZES = {  # findings/onnxruntime-transpose-optimizer-forgets-resize-axes.sh
    "load": "<int64[2] k = {{8, 12}}> {{ {before} r = Resize<axes = [2, 3]>(t, , , k) {after} }}",
    "run": "<float[2] k = {{2, 2}}> {{ {before} r = Resize<axes = [2, 3]>(t, , k) {after} }}",
}


@pytest.mark.parametrize("doing", RESIZES)
def test_a_fault_of_its_optimiser_is_named_as_one(doing: str) -> None:
    around = {"before": "t = Transpose<perm = [0, 3, 1, 2]>(x)", "after": "y = Transpose<perm = [0, 2, 3, 1]>(r)"}
    model = _net(RESIZES[doing].format(**around), 18, "float[1,4,6,2] x", "float[A,B,C,D] y")
    feeds = {"x": np.zeros((1, 4, 6, 2), np.float32)}
    assert run(model, feeds, optimise=False)["y"].shape == (1, 8, 12, 2)
    with pytest.raises(
        RunError, match=f"cannot {doing} the model: .*With its graph optimisations off it does: this is a fault of onnx"
    ):
        run(model, feeds)


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(KeyError), runtime_errors("run"):
        raise KeyError("x")


def test_what_is_not_known_stays_as_it_is_and_memory_has_a_way_out_elsewhere() -> None:
    assert explained("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : the moon is full.\n").reason == "the moon is full"
    found = explained(
        "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena"
        "::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 8"
    )
    assert (found.reason, found.way) == ("Failed to allocate memory for requested buffer of size 8", "")
