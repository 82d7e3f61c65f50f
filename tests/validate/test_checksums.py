"""What is written of a file is found again in it after harmless rewriting, and each damage is named with node and value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from simulation import model, quantised

from genie_onnx.config import PlacementConfig
from genie_onnx.errors import ModelError
from genie_onnx.placement import place
from genie_onnx.validate import changes, with_checksums
from genie_onnx.validate.checksums import KEY

RNG = np.random.default_rng(3)
TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,8,8] x) => (float[N,5] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a) d = Conv<pads=[1,1,1,1]>(r, w2, b2) s = Add(d, r) t = Relu(s)
    m = GlobalAveragePool(t) f = Flatten(m) y = Gemm<transB=1>(f, w3, b3) }"""
SHAPES = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (5, 8), "b3": (5,)}
X = {"x": RNG.standard_normal((4, 3, 8, 8)).astype(np.float32)}


def file(target: str = "portable", bits: int = 4) -> onnx.ModelProto:
    """A quantised file as it is written."""
    proto = model(TEXT, **{name: RNG.standard_normal(shape).astype(np.float32) * 0.2 for name, shape in SHAPES.items()})
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    settings = PlacementConfig(wbits=bits, abits=bits, setting="qdrop")
    return with_checksums(quantised(proto, lambda deploy: place(deploy, settings), X, target).proto)


def tensor(proto: onnx.ModelProto, name: str) -> TensorProto:
    return next(t for t in proto.graph.initializer if t.name == name)


def edited(proto: onnx.ModelProto, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    """The file with other numbers in one tensor."""
    found = tensor(proto, name)
    found.CopyFrom(numpy_helper.from_array(np.asarray(edit(numpy_helper.to_array(found).copy())), name))
    return proto


def said(proto: onnx.ModelProto) -> list[str]:
    found = changes(proto)
    assert found is not None
    return list(found.values())


@pytest.mark.parametrize("target", ["portable", "int4", "iree", "encodings", "qonnx"])
def test_a_file_as_it_was_written(target: str) -> None:
    written = file(target)
    assert said(written) == []
    assert said(onnx.ModelProto.FromString(written.SerializeToString())) == []
    assert with_checksums(written) == written  # nothing of the table itself is in it
    assert written.ByteSize() < 1.25 * file_without(written).ByteSize()


def file_without(proto: onnx.ModelProto) -> onnx.ModelProto:
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    kept = [entry for entry in proto.metadata_props if entry.key != KEY]
    del bare.metadata_props[:]
    bare.metadata_props.extend(kept)
    return bare


@pytest.mark.parametrize(
    ("name", "edit", "expected"),
    [
        ("r_scale", lambda a: a * 2, "'r_quant', Quant 'r_Quant': another scale"),
        ("r_bits", lambda a: a + 1, "'r_quant', Quant 'r_Quant': other bits (5 in the file)"),
        ("w2_zero_point", lambda a: a + 1, "Quant 'w2_Quant': another zero point"),
        ("w2", lambda a: -a, "'w2': other numbers"),
    ],
)
def test_changed_quant_nodes(name: str, edit: Callable[[np.ndarray], np.ndarray], expected: str) -> None:
    found = said(edited(file("qonnx"), name, edit))
    assert len(found) == 1
    assert expected in found[0]


def test_a_file_without_the_table_is_unchecked() -> None:
    assert changes(file_without(file())) is None


def merged(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Every tensor under another name, equal ones as one: what simplifiers do."""
    names: dict[bytes, str] = {}
    new = {}
    for found in proto.graph.initializer:
        content = str(found.data_type).encode() + str(found.dims).encode() + numpy_helper.to_array(found).tobytes()
        new[found.name] = names.setdefault(content, f"constant_{len(names)}")
    kept: dict[str, TensorProto] = {}
    for found in proto.graph.initializer:
        found.name = new[found.name]
        kept.setdefault(found.name, found)
    copies = [TensorProto.FromString(t.SerializeToString()) for t in kept.values()]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(copies)
    for node in proto.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
    return proto


def as_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Scales and zero points as nodes."""
    small = [t for t in proto.graph.initializer if t.data_type != TensorProto.INT32 and not len(t.dims)]
    copies = [TensorProto.FromString(t.SerializeToString()) for t in small]
    kept = [TensorProto.FromString(t.SerializeToString()) for t in proto.graph.initializer if t not in small]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in copies] + list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def wider(proto: onnx.ModelProto) -> onnx.ModelProto:
    """INT4 codes in INT8."""
    for found in proto.graph.initializer:
        if found.data_type in (TensorProto.INT4, TensorProto.UINT4):
            found.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(found).astype(np.int8), found.name))
    return proto


def raised(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.version_converter.convert_version(proto, 23)


@pytest.mark.parametrize("target", ["portable", "int4", "iree", "encodings"])
@pytest.mark.parametrize("harmless", [merged, as_constants, wider, raised])
def test_harmless_rewriting(harmless: Callable[[onnx.ModelProto], onnx.ModelProto], target: str) -> None:
    assert said(harmless(file(target))) == []


@pytest.mark.parametrize("target", ["portable", "int4", "iree", "encodings"])
@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_files_that_onnxruntime_optimised(level: str, target: str, tmp_path: Path) -> None:
    """Most nodes are gone in them; what they compute with is not."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(tmp_path / "fast.onnx")
    options.log_severity_level = 3  # it warns that such a file is for this machine
    ort.InferenceSession(file(target).SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert said(onnx.load(tmp_path / "fast.onnx")) == []


def one_code(codes: np.ndarray) -> np.ndarray:
    codes.flat[3] += 1 if codes.flat[3] <= 0 else -1
    return codes


def last(scales: np.ndarray) -> np.ndarray:
    scales.reshape(-1)[-1] = np.nextafter(scales.reshape(-1)[-1], np.float32(1), dtype=np.float32)
    return scales


@pytest.mark.parametrize(
    ("name", "edit", "sentence"),
    [
        ("w2_quantized", one_code, "'w2', DequantizeLinear 'w2_DequantizeLinear': other codes"),
        ("b2_quantized", one_code, "'b2', DequantizeLinear 'b2_DequantizeLinear': other codes"),
        ("w2_scale", last, "'w2', DequantizeLinear 'w2_DequantizeLinear': another scale"),
        ("b2_scale", last, "'b2', DequantizeLinear 'b2_DequantizeLinear': another scale"),
        ("r_scale", last, "'r_rounded', QuantizeLinear 'r_QuantizeLinear': another scale (0."),
        ("x_zero_point", lambda z: z + np.uint8(1), "'x_rounded', QuantizeLinear 'x_QuantizeLinear': another zero point ("),
        ("r_max", lambda top: top + np.uint8(1), "'r_quantized', Clip 'r_Clip': another upper bound (16 in the file)"),
    ],
)
def test_one_number_is_named(name: str, edit: Callable[[np.ndarray], np.ndarray], sentence: str) -> None:
    written = file()
    if name == "x_zero_point" and "x_rounded" not in {o for n in written.graph.node for o in n.output}:
        sentence = sentence.replace("x_rounded", "x_quantized")  # the input has 8 bits
    (only,) = said(edited(written, name, edit))
    assert only.startswith(sentence)


def test_a_weight_in_floats_is_named() -> None:
    assert said(edited(file("encodings"), "w2", lambda w: w * np.float32(1.01))) == ["'w2': other numbers"]


def own_reader(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A DequantizeLinear on a grid of its own."""
    reader = next(n for n in proto.graph.node if n.name == "r_DequantizeLinear")
    scale = numpy_helper.from_array(numpy_helper.to_array(tensor(proto, "r_scale")) * np.float32(2), "double")
    proto.graph.initializer.append(scale)
    reader.input[1] = "double"
    return proto


def without_clip(proto: onnx.ModelProto) -> onnx.ModelProto:
    clip = next(n for n in proto.graph.node if n.name == "r_Clip")
    for node in proto.graph.node:
        node.input[:] = [clip.input[0] if name == clip.output[0] else name for name in node.input]
    tensor(proto, "r_max").CopyFrom(numpy_helper.from_array(np.uint8(15), "r_max"))
    proto.graph.node.remove(clip)
    return proto


def folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A weight as floats again."""
    node = next(n for n in proto.graph.node if n.name == "w2_DequantizeLinear")
    codes, scale = (numpy_helper.to_array(tensor(proto, name)) for name in node.input[:2])
    proto.graph.initializer.append(numpy_helper.from_array(codes * scale.reshape(-1, 1, 1, 1), "w2"))
    proto.graph.node.remove(node)
    return proto


def rounded_again(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A second quantiser: the last layer's output on a grid of its own."""
    proto.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.5), "s_again"), numpy_helper.from_array(np.uint8(0), "z_again")]
    )
    layer = next(n for n in proto.graph.node if n.name == "node_y")
    layer.output[0] = "y_float"
    proto.graph.node.append(helper.make_node("QuantizeLinear", ["y_float", "s_again", "z_again"], ["y_q"], name="again"))
    proto.graph.node.append(helper.make_node("DequantizeLinear", ["y_q", "s_again", "z_again"], ["y"]))
    return proto


def at_run_time(proto: onnx.ModelProto) -> onnx.ModelProto:
    proto.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["y"], ["q", "s", "z"], name="dynamic"))
    return proto


def in_half(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Layers in float16 between Casts, Q/DQ as they were: converters with a block list do that."""
    layer = next(n for n in proto.graph.node if n.name == "node_y")
    cast = helper.make_node("Cast", [layer.input[0]], ["half"], to=TensorProto.FLOAT16)
    layer.input[0] = "half"
    proto.graph.node.insert(0, cast)
    return proto


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            own_reader,
            "'r_dequantized', DequantizeLinear 'r_DequantizeLinear': another grid than that of the QuantizeLinear before it",
        ),
        (folded, "'w2': its DequantizeLinear is gone, and its scale and codes are nowhere in the file"),
        (rounded_again, "'y_q', QuantizeLinear 'again': a grid that was not written (another scale (0.5 in the file))"),
        (at_run_time, "'q', DynamicQuantizeLinear 'dynamic': the file was quantised again, at run time"),
        (in_half, "1 tensors and Cast nodes are half precision: the file was converted to float16 afterwards"),
    ],
)
def test_other_structure_is_named(damage: Callable[[onnx.ModelProto], onnx.ModelProto], sentence: str) -> None:
    assert said(damage(file())) == [sentence]


def test_a_clip_that_is_gone_is_named() -> None:
    assert any(text.startswith("'r_quantized': its Clip is gone") for text in said(without_clip(file())))


@pytest.mark.parametrize("target", ["portable", "encodings"])
def test_powers_of_two_survive_float16_and_are_named_all_the_same(target: str) -> None:
    """Their numbers are the same; what layers compute in is not."""
    written = file(target)
    for found in written.graph.initializer:
        if found.data_type == TensorProto.FLOAT:
            found.CopyFrom(
                numpy_helper.from_array(np.exp2(np.round(np.log2(np.abs(numpy_helper.to_array(found)) + 1e-3))), found.name)
            )
    written = with_checksums(written)
    assert said(written) == []
    for found in written.graph.initializer:
        if found.data_type == TensorProto.FLOAT:
            found.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(found).astype(np.float16), found.name))
    assert len(said(written)) > 3
    assert "FLOAT16" in said(written)[1]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"halves":0,"nodes":{"a":"Qab"}}', '{"halves":0,"nodes":{"a":""}}', "[" * 10_000]
)
def test_a_damaged_table_is_refused(text: str) -> None:
    proto = file_without(file())
    proto.metadata_props.add(key=KEY, value=text)
    with pytest.raises(ModelError, match=r"metadata 'genie_onnx\.checksums' are damaged"):
        changes(proto)


def test_a_strange_table_of_weights_is_no_traceback() -> None:
    proto = file("encodings")
    for entry in proto.metadata_props:
        if entry.key == "genie_onnx.weights":
            entry.value = json.dumps({"w2": 3})
    assert said(proto) == []  # they are found by their content
