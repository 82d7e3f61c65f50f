"""What a user recognises: names, dims, documentation, metadata, opset; and files on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from simulation import everywhere, model, quantised

from genie_onnx.errors import ConfigError
from genie_onnx.exporter import export, fix_shapes, save
from genie_onnx.targets import TARGETS
from genie_onnx.validate import run

RNG = np.random.default_rng(3)
X = {"image": RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)}


def _user(batch: str = "batch", opset: int = 13, ir_version: int = 8) -> onnx.ModelProto:
    text = f"""<ir_version: {ir_version}, opset_import: ["" : {opset}], producer_name: "trainer", producer_version: "7",
        domain: "org.example", model_version: 3, doc_string: "a net", metadata_props: ["author": "someone"]>
        net (float[{batch},3,8,8] image) => (float[{batch},4,6,6] features, float[{batch},144] scores) {{
            features = Conv(image, w, b)
            shape = Constant<value = int64[2] {{0, -1}}>()
            a = Relu(features)
            scores = Reshape(a, shape)
        }}"""
    w, b = RNG.standard_normal((4, 3, 3, 3)), RNG.standard_normal(4)
    proto = model(text, w=w.astype(np.float32), b=b.astype(np.float32))
    proto.graph.doc_string = "the graph"
    proto.graph.input[0].doc_string = "RGB"
    return proto


PLACE = everywhere(4, 4, "image", "a=scores")


@pytest.mark.parametrize("target", ["portable", "int4"])
@pytest.mark.parametrize("batch", ["batch", "1"])
def test_interface_is_the_users(batch: str, target: str) -> None:
    user = _user(batch)
    proto = quantised(user, PLACE, X, target, metadata={"version": "0.1", "images": "procedural"}).proto
    for ours, theirs in ((proto.graph.input, user.graph.input), (proto.graph.output, user.graph.output)):
        assert [v.SerializeToString() for v in ours] == [v.SerializeToString() for v in theirs]
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(proto, field) == getattr(user, field), field
    assert (proto.graph.name, proto.graph.doc_string) == ("net", "the graph")
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata["author"] == "someone"
    assert metadata["genie_onnx.version"] == "0.1"
    assert metadata["genie_onnx.images"] == "procedural"
    weight = json.loads(metadata["genie_onnx.weights"])["w"]
    assert (weight["bits"], weight["codes"]) == (4, "w_quantized")
    scores = json.loads(metadata["genie_onnx.activations"])["scores"]
    assert (scores["bits"], scores["codes"]) == (4, "scores_quantized")
    assert weight["min"] < 0 < weight["max"]
    assert scores["max"] - scores["min"] > 0


@pytest.mark.parametrize(("opset", "ir_version"), [(13, 7), (17, 8), (21, 10)])
def test_opset_is_kept_and_ir_version_the_oldest_that_holds_it(opset: int, ir_version: int) -> None:
    proto = quantised(_user(opset=opset, ir_version=10), PLACE, X).proto
    assert (proto.opset_import[0].version, proto.ir_version) == (opset, ir_version)


def test_int4_raises_the_opset_and_keeps_names() -> None:
    case = quantised(_user(), PLACE, X, "int4")
    assert (case.proto.opset_import[0].version, case.proto.ir_version) == (21, 10)
    before = {n.name for n in case.deploy.graph}
    assert before <= {n.name for n in case.proto.graph.node}


@pytest.mark.parametrize("target", ["portable", "int4"])
@pytest.mark.parametrize("batch", ["batch", "1"])
def test_every_value_has_a_true_shape(batch: str, target: str) -> None:
    proto = quantised(_user(batch), PLACE, X, target).proto
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    shapes = {v.name: v.type.tensor_type.shape for v in proto.graph.value_info}
    made = {name for node in proto.graph.node for name in node.output} - {o.name for o in proto.graph.output}
    assert made <= set(shapes)
    batch_dim = shapes["image_quantized"].dim[0]
    assert (batch_dim.dim_value, batch_dim.dim_param) == ((1, "") if batch == "1" else (0, "batch"))


def test_fixed_batch_runs_in_that_batch() -> None:
    case = quantised(_user("1"), PLACE, X)
    found, expected = run(case.proto, X), case.simulate(X).outputs
    assert found["scores"].shape == (2, 144)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_export_leaves_its_inputs_alone() -> None:
    case = quantised(_user(), PLACE, X)
    before = [ir.to_proto(m).SerializeToString(deterministic=True) for m in (case.deploy, case.user)]
    for target in ("portable", "int4"):
        export(case.deploy, case.user, case.placement, case.codes, TARGETS[target], {"images": "none"})
    assert [ir.to_proto(m).SerializeToString(deterministic=True) for m in (case.deploy, case.user)] == before


def test_save_writes_the_whole_file_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = quantised(_user(), PLACE, X).proto
    path = tmp_path / "model.quant.onnx"
    assert save(proto, path) == (path,)
    assert onnx.load(path) == proto
    first = path.read_bytes()

    def fails(self: Path, data: bytes) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(OSError, match="disk full"):
        save(proto, path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def test_save_refuses_to_replace_the_input(tmp_path: Path) -> None:
    proto = _user()
    source = tmp_path / "model.onnx"
    onnx.save(proto, source)
    (tmp_path / "link.onnx").symlink_to(source)
    before = source.read_bytes()
    for target in (source, tmp_path / "link.onnx"):
        with pytest.raises(ConfigError, match="would overwrite the input"):
            save(proto, target, inputs=[source])
    assert source.read_bytes() == before


def test_large_models_get_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genie_onnx.exporter.files.PROTOBUF_LIMIT", 1000)
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }"""
    feeds = {"x": RNG.standard_normal((2, 64)).astype(np.float32)}
    case = quantised(model(text, w=RNG.standard_normal((64, 64)).astype(np.float32)), everywhere(4, 4, "x"), feeds)
    expected = run(case.proto, feeds)
    path = tmp_path / "model.onnx"
    assert save(case.proto, path) == (path, tmp_path / "model.onnx.data")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    np.testing.assert_array_equal(run(path, feeds)["y"], expected["y"])


DECLARED = {  # what a user's file may say of an output that is [N, 1, H, W]
    "symbols": ["a", "b", "c", "d"],
    "numbers": ["a", 1, 8, 8],
    "unnamed": [None, None, None, None],
    "one number": [None, 1, None, None],
    "below zero": [-1, 1, -1, 8],
}
DECLARED_INPUT = {
    "named": ["n", 3, "h", "w"],
    "unnamed": [None, 3, None, None],
    "below zero": [-1, 3, 8, 8],
    "fixed": [1, 3, 8, 8],
}


def _declaring(opset: int, image: list[str | int | None], outputs: list[str | int | None]) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
        net (float[n,3,h,w] image) => (float[n,4,h,w] features, float[n,1,h,w] map) {{
            features = Conv<pads = [1,1,1,1]>(image, w) r = Relu(features)
            c = ConvTranspose(r, v) map = Sigmoid(c) }}"""
    shapes = {"w": (4, 3, 3, 3), "v": (4, 1, 1, 1)}
    user = model(text, **{name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})
    rows = [image, *([channels if d == 1 else d for d in outputs] for channels in (4, 1))]
    for value, dims in zip((user.graph.input[0], *user.graph.output), rows, strict=True):
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, dims))
    return user


def _dims(value: onnx.ValueInfoProto) -> list[str | int | None]:
    found = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in value.type.tensor_type.shape.dim]
    return [None if d == -1 else d for d in found]  # which has no meaning in ONNX


def _seen(proto: onnx.ModelProto) -> list[list[str | int | None]]:
    """The outputs as onnxruntime tells them, which takes names from values in between where an output has none."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [output.shape for output in session.get_outputs()]


@pytest.mark.parametrize("target", ["portable", "int4", "encodings"])
@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("image", DECLARED_INPUT)
@pytest.mark.parametrize("declared", DECLARED)
def test_declared_dimensions_stay(declared: str, image: str, opset: int, target: str) -> None:
    """Also where inference, or the conversion to another opset, finds a number or makes a name for what the file leaves open."""
    user = _declaring(opset, DECLARED_INPUT[image], DECLARED[declared])
    values = () if target == "encodings" else ("image", "r")
    proto = quantised(user, everywhere(4, 4, *values), X, target).proto
    for ours, theirs in zip((*proto.graph.input, *proto.graph.output), (*user.graph.input, *user.graph.output), strict=True):
        assert (ours.name, _dims(ours)) == (theirs.name, _dims(theirs))
    assert _seen(proto) == _seen(user)
    assert run(proto, X)["map"].shape == (2, 1, 8, 8)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    ("image", "features"),
    [("named", ["n", 4, "h", "w"]), ("unnamed", [None, 4, None, None]), ("fixed", [1, 4, 8, 8])],
)
def test_an_output_without_dimensions_gets_no_invented_names(image: str, features: list[str | int | None], opset: int) -> None:
    """It has to have some, to be valid ONNX: the numbers of inference, and names of the input's."""
    user = _declaring(opset, DECLARED_INPUT[image], DECLARED["unnamed"])
    for output in user.graph.output:
        output.type.tensor_type.ClearField("shape")
    proto = quantised(user, everywhere(4, 4, "image", "r"), X).proto
    onnx.checker.check_model(proto, full_check=True)
    found = _dims(proto.graph.output[0])
    assert all(ours in (theirs, None) for ours, theirs in zip(found, features, strict=True))
    assert found[:2] == features[:2]


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("declared", DECLARED)
def test_fixed_shapes_have_numbers_where_these_are_known(declared: str, opset: int) -> None:
    user = _declaring(opset, DECLARED_INPUT["named"], DECLARED[declared])
    proto = fix_shapes(quantised(user, everywhere(8, 8, "image", "r"), X).proto, (3, 8, 8))
    assert [_dims(v) for v in (*proto.graph.input, *proto.graph.output)] == [[1, 3, 8, 8], [1, 4, 8, 8], [1, 1, 8, 8]]


def test_fixed_shapes_leave_open_what_only_a_run_can_tell() -> None:
    """The number of what is kept depends on the image; its rank and its other dimension do not."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[n,3,h,w] image) => (int64[k, kept] where) {
        c = Conv(image, w) z = NonZero(c) where = Identity(z) }"""
    user = model(text, w=RNG.standard_normal((4, 3, 3, 3)).astype(np.float32))
    proto = fix_shapes(quantised(user, everywhere(8, 8, "image"), X).proto, (3, 8, 8))
    assert [_dims(v) for v in proto.graph.output] == [[4, "kept"]]
