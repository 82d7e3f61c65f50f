"""A file against the form of its target: what a compiler that is not at hand would refuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from simulation import everywhere, model, quantised

from genie_onnx.targets import TARGETS, Constraints, Form
from genie_onnx.validate import broken_rules

RNG = np.random.default_rng(3)
TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    c = Conv<pads=[1,1,1,1]>(x, w, b)  y = Conv(c, v, d)
}"""
ARRAYS = {
    name: RNG.standard_normal(shape).astype(np.float32)
    for name, shape in {"w": (4, 3, 3, 3), "b": (4,), "v": (4, 4, 1, 1), "d": (4,)}.items()
}
FEEDS = {"x": RNG.standard_normal((2, 3, 6, 6)).astype(np.float32)}


@pytest.fixture(scope="module")
def portable() -> onnx.ModelProto:
    """Two convolutions at 4 bits, for onnxruntime; both values have negative numbers."""
    return quantised(model(TEXT, **ARRAYS), everywhere(4, 4, "x", "c"), FEEDS).proto


@pytest.mark.parametrize(
    ("form", "constraints", "said"),
    [
        (Form(), Constraints(), None),
        (Form(values="int8", bias="int32"), Constraints(wide_values="symmetric"), "stores UINT8, not INT8"),
        (Form(values="int8"), Constraints(wide_values="symmetric"), "has a zero point, and target test takes none"),
        (Form(bias="float"), Constraints(), "reads INT32 codes; biases have to be floats"),
        (Form(clip="floats"), Constraints(), "clips integers"),
        (Form(largest_opset=16), Constraints(), "opset 17 is above 16"),
        (Form(batch="fixed"), Constraints(), "input 'x' has open dimensions"),
        (Form(), Constraints(scales="power-of-two"), "has a scale that is no power of two"),
        (Form(style="float"), Constraints(), "a float model has DequantizeLinear and QuantizeLinear"),
    ],
)
def test_what_a_target_does_not_take(portable: onnx.ModelProto, form: Form, constraints: Constraints, said: str | None) -> None:
    target = dataclasses.replace(TARGETS["portable"], name="test", form=form, constraints=constraints)
    found = broken_rules(portable, target)
    assert any(said in sentence for sentence in found) if said else found == []


def _negative_scale(proto: onnx.ModelProto) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name == "c_scale")
    tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))


@pytest.mark.parametrize(("damage", "said"), [(_negative_scale, "has a scale that is not above 0")])
def test_a_damaged_file(portable: onnx.ModelProto, damage: Callable[[onnx.ModelProto], None], said: str) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(portable)
    damage(proto)
    assert any(said in sentence for sentence in broken_rules(proto, TARGETS["portable"]))


@pytest.fixture(scope="module")
def quant_file() -> onnx.ModelProto:
    """The same network in QONNX form, of one image."""
    proto = model(TEXT.replace("float[N,", "float[1,"), **ARRAYS)
    return quantised(proto, everywhere(4, 4, "x", "c"), FEEDS, "qonnx").proto


def _tensor(proto: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))


def _attribute(proto: onnx.ModelProto, operator: str, name: str) -> None:
    node = next(node for node in proto.graph.node if node.op_type == operator)
    node.attribute.remove(next(a for a in node.attribute if a.name == name))


QUANT_DAMAGES: list[tuple[Callable[[onnx.ModelProto], object], str]] = [
    (lambda p: _tensor(p, "w", lambda a: a * np.float32(1.1)), "numbers of 'w'"),
    (
        lambda p: _tensor(p, "c_zero_point", lambda a: a + np.float32(1)),
        "'c_Quant' has a zero point, and target qonnx takes none",
    ),
    (lambda p: _tensor(p, "c_scale", lambda a: -a), "'c_Quant' has a scale that is not above 0"),
    (lambda p: _tensor(p, "w_bits", lambda a: a + np.float32(0.5)), "'w_Quant' has 4.5 bits"),
    (lambda p: _attribute(p, "Quant", "rounding_mode"), "it has to say signed, narrow=0 and rounding_mode=ROUND"),
    (lambda p: _attribute(p, "Conv", "group"), "leaves group to their defaults"),
    (lambda p: p.graph.input[0].type.tensor_type.shape.dim[0].Clear(), "input 'x' has open dimensions"),
    (lambda p: p.graph.node.add(op_type="QuantizeLinear", input=["x", "c_scale"], output=["q"]), "it has QuantizeLinear; grids"),
]


@pytest.mark.parametrize(("damage", "said"), QUANT_DAMAGES, ids=[said for _, said in QUANT_DAMAGES])
def test_a_damaged_quant_file(quant_file: onnx.ModelProto, damage: Callable[[onnx.ModelProto], object], said: str) -> None:
    qonnx = dataclasses.replace(TARGETS["qonnx"], constraints=Constraints(value_grid="unshifted"))  # min-max weights are affine
    proto = onnx.ModelProto()
    proto.CopyFrom(quant_file)
    assert broken_rules(proto, qonnx) == []
    damage(proto)
    assert any(said in sentence for sentence in broken_rules(proto, qonnx))


def test_scales_of_quant_nodes(quant_file: onnx.ModelProto) -> None:
    assert any("no power of two" in said for said in broken_rules(quant_file, TARGETS["hls4ml"]))
