"""Every file that cannot be used ends in one clear line; every byte read was claimed and is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import difference, image, parse, run

from genie_onnx.errors import ModelError
from genie_onnx.graph import check, load, normalise, query

NET = "g (float[N,2,4,4] x, float[3,2,1,1] w) => (float[] y) { y = Conv(x, w) }"


def refusal(source: Path | onnx.ModelProto) -> str:
    """The message of the ModelError, which must be one line."""
    with pytest.raises(ModelError) as error:
        load(source)
    assert len(error.value.problems) == 1
    assert "\n" not in str(error.value)
    return str(error.value)


def saved(folder: Path, proto: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model whose weight lies in weights.bin beside it."""
    path = tmp_path / "model.onnx"
    onnx.save_model(
        parse(NET), path, save_as_external_data=True, location="weights.bin", size_threshold=0, convert_attribute=False
    )
    return path


def test_path_string_and_message_load_alike(tmp_path: Path) -> None:
    """The same graph from each; a message handed in is not changed."""
    proto = parse(NET)
    before = proto.SerializeToString()
    path = saved(tmp_path, proto)
    texts = {ir.to_proto(load(source)).SerializeToString(deterministic=True) for source in (path, str(path), proto)}
    assert len(texts) == 1
    assert proto.SerializeToString() == before


def test_files_that_are_no_models(tmp_path: Path) -> None:
    """Missing, a directory, empty, text, another format, truncated anywhere, random bytes."""
    assert refusal(tmp_path / "missing.onnx").endswith("missing.onnx: no such file.")
    assert "is a directory" in refusal(tmp_path)
    path = tmp_path / "file.onnx"
    whole = parse(NET).SerializeToString()
    contents = {
        b"": "the file is empty",
        b"hello, this is text\n" * 20: "not an ONNX",
        b'{"irVersion": "8"}': "not an ONNX",
        b"PK\x03\x04" + bytes(200): "not an ONNX",
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.": "not an ONNX",  # a pickle is not run
        np.random.default_rng(0).bytes(500): "not an ONNX",
        whole[: len(whole) // 2]: "truncated",
        whole[:-3]: "truncated",
        whole[:2]: "no graph",
    }
    for content, reason in contents.items():
        path.write_bytes(content)
        assert reason in refusal(path), content[:20]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    """No permission is one line too."""
    path = saved(tmp_path, parse(NET))
    path.chmod(0)
    assert "cannot be read" in refusal(path)


def test_versions() -> None:
    """Too new names what this onnx knows; too old names the oldest; none at all is damage."""
    newest = onnx.defs.onnx_opset_version()
    assert f"opset {newest + 1} is newer than onnx {onnx.__version__} knows ({newest})" in refusal(parse(NET, opset=newest + 1))
    assert "IR version 99 is newer" in refusal(parse(NET, ir_version=99))
    assert "opset 6 is older than 7" in refusal(parse(NET, opset=6))
    proto = parse(NET)
    del proto.opset_import[:]
    assert "does not say which version" in refusal(proto)


def test_empty_graphs() -> None:
    """No outputs, no nodes."""
    proto = parse(NET)
    del proto.graph.output[:]
    assert "no outputs" in refusal(proto)
    proto = parse(NET)
    del proto.graph.node[:]
    assert "no nodes" in refusal(proto)


def test_contradictory_graphs() -> None:
    """Two producers of one value; a cycle."""
    assert "the graph cannot be read" in refusal(parse("g (float[N] x) => (float[] y) { y = Relu(x) y = Neg(x) }"))
    assert "the graph cannot be read" in refusal(parse("g (float[N] x) => (float[] y) { a = Add(x, b) b = Relu(a) y = Neg(b) }"))


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 where a name belongs."""
    path = tmp_path / "model.onnx"
    path.write_bytes(parse(NET).SerializeToString().replace(b"Conv", b"C\xff\xfev"))
    assert "not valid text" in refusal(path)


@pytest.mark.parametrize("dims", [[3, 2, 1, 1000000000000], [3, 2, 1, -1], [5, 2, 1, 1], [3], [1]])
@pytest.mark.parametrize("raw", [True, False])
def test_lying_headers(dims: list[int], raw: bool) -> None:
    """A tensor has as many bytes as its shape says, or the file is refused before anything is allocated."""
    proto = parse(NET)
    tensor = proto.graph.initializer[0]
    if not raw:
        tensor.float_data.extend(np.frombuffer(tensor.raw_data, np.float32))
        tensor.ClearField("raw_data")
    assert load(proto).graph.initializers["w"].const_value.numpy().shape == (3, 2, 1, 1)
    del tensor.dims[:]
    tensor.dims.extend(dims)
    assert "tensor 'w'" in refusal(proto)


@pytest.mark.parametrize(
    "dtype", [ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.FLOAT16, ir.DataType.BOOL, ir.DataType.COMPLEX64]
)
@pytest.mark.parametrize("raw", [True, False])
def test_tensors_of_every_width_pass(dtype: ir.DataType, raw: bool) -> None:
    """Odd counts of packed 4-bit numbers, 16-bit ones in 32-bit fields, complex ones in two."""
    if raw:
        tensor = onnx.TensorProto(name="k", data_type=dtype.value, dims=[5], raw_data=bytes((5 * dtype.bitwidth + 7) // 8))
    else:
        tensor = onnx.helper.make_tensor("k", dtype.value, [5], np.ones(5))
    proto = parse(NET, opset=21, ir_version=10)
    proto.graph.initializer.append(tensor)
    assert "k" in load(proto).graph.initializers


def test_external_data_is_read(external: Path) -> None:
    """Weights beside the model are found from any working directory; the graph needs the file no more."""
    user = load(external)
    (external.parent / "weights.bin").unlink()
    x = image(2, 2, 4, 4)
    assert difference(run(parse(NET), x), run(normalise(user), x)) == 0


def test_external_data_of_an_old_opset(tmp_path: Path) -> None:
    """Raising the opset works on weights beside the model too."""
    path = tmp_path / "model.onnx"
    text = "g (float[N,2,4,4] x, float[3,2,1,1] w) => (float[] y) { c = Conv(x, w) y = Clip<min=0.0>(c) }"
    old = parse(text, opset=9, ir_version=4)
    onnx.save_model(
        parse(text, opset=9, ir_version=4), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    x = image(2, 2, 4, 4)
    assert difference(run(old, x), run(load(path), x)) == 0


def test_external_data_that_is_not_there(external: Path) -> None:
    """Missing, too short, or a message that came without its folder."""
    weights = external.parent / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "ends beyond the end of 'weights.bin'" in refusal(external)
    weights.unlink()
    assert "'weights.bin', which is missing" in refusal(external)
    assert "was not read from a path" in refusal(onnx.load(external, load_external_data=False))


@pytest.mark.parametrize("how", ["parent", "absolute", "symlink", "hardlink"])
def test_external_data_outside_the_folder_is_not_read(external: Path, tmp_path_factory: pytest.TempPathFactory, how: str) -> None:
    """However the location gets out of the model's folder."""
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.bin"
    secret.write_bytes(bytes(100))
    inside = external.parent / "inside.bin"
    location = {"parent": os.path.relpath(secret, external.parent), "absolute": str(secret)}.get(how, "inside.bin")
    if how == "symlink":
        inside.symlink_to(secret)
    elif how == "hardlink":
        inside.hardlink_to(secret)
    proto = onnx.load(external, load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = location
    external.write_bytes(proto.SerializeToString())
    assert "such files are not read" in refusal(external)


@pytest.mark.parametrize("location", ["w" * 300, "loop.bin", "weights.bin\0.txt"])
def test_external_data_in_what_cannot_be_a_file(external: Path, location: str) -> None:
    """Too long a name, a link to itself, a zero byte."""
    (external.parent / "loop.bin").symlink_to(external.parent / "loop.bin")
    proto = onnx.load(external, load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = location
    external.write_bytes(proto.SerializeToString())
    assert "which cannot be a file" in refusal(external)


@pytest.mark.parametrize(("key", "value"), [("offset", "1000000"), ("offset", "-4"), ("length", "8")])
def test_external_data_with_a_lying_entry(external: Path, key: str, value: str) -> None:
    """Offsets and lengths are held against shape and file."""
    proto = onnx.load(external, load_external_data=False)
    entries = proto.graph.initializer[0].external_data
    for entry in [e for e in entries if e.key == key]:
        entries.remove(entry)
    entries.add(key=key, value=value)
    external.write_bytes(proto.SerializeToString())
    assert "tensor 'w'" in refusal(external)


def test_sparse_initializers_are_refused() -> None:
    """onnx_ir would drop them without a word."""
    proto = parse(NET)
    values = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, [1], [1.0])
    indices = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0])
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [3]))
    assert "sparse initializers ('s') are not supported" in refusal(proto)


def test_local_functions_are_inlined() -> None:
    """A function that the file defines itself is no custom operator."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "custom" : 1]> g (float[N,2] x) => (float[N,2] y) { y = custom.twice (x) }'
        '<domain: "custom", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }'
    )
    user = load(proto)
    assert [node.op_type for node in user.graph] == ["Add"]
    assert not user.functions
    x = image(3, 2)
    np.testing.assert_array_equal(run(user, x)["y"], 2 * x)
    assert query.input_shape(normalise(user)) == (None, 2)


def test_what_is_done_to_the_graph_later_leaves_the_message_alone() -> None:
    model = parse("g (float[N,4,2,2] x) => (float[N,4,2,2] y) { c = Constant<value = float[1] {2.0}>() y = Mul(x, c) }")
    before = model.SerializeToString(deterministic=True)
    normalise(load(model))
    assert model.SerializeToString(deterministic=True) == before


def layers(*called: str) -> onnx.ModelProto:
    """A model whose function `a` calls those named, one after the other; `b` is two nodes, `c` calls `a`."""
    nodes = " ".join(f"t{i + 1} = f.{name} (t{i})" for i, name in enumerate(called))
    imports = 'opset_import: ["" : 17, "f" : 1]'
    return onnx.parser.parse_model(
        f"<ir_version: 8, {imports}> g (float[N,2] x) => (float[N,2] y) {{ y = f.a (x) }}"
        f'<domain: "f", {imports}> a (t0) => (t{len(called)}) {{ {nodes} }}'
        f'<domain: "f", {imports}> b (t) => (v) {{ u = Neg(t) v = Relu(u) }}'
        f'<domain: "f", {imports}> c (t) => (v) {{ v = f.a (t) }}'
    )


def test_functions_that_cannot_be_inlined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Circles have no end; a few functions that call each other can stand for more nodes than memory holds."""
    assert "call each other in a circle ('" in refusal(layers("b", "c"))
    assert "call each other in a circle ('a' -> 'a')" in refusal(layers("a"))
    monkeypatch.setattr("genie_onnx.graph.functions.MAX_NODES", 6)
    assert len(load(layers("b", "b", "b")).graph) == 6
    assert "8 nodes once its functions are inlined; at most 6" in refusal(layers("b", "b", "b", "b"))


def test_a_graph_without_a_name_gets_one() -> None:
    proto = parse(NET)
    proto.graph.ClearField("name")
    assert ir.to_proto(load(proto)).graph.name


def test_large_weights_are_not_copied_whenever_they_are_read(tmp_path: Path) -> None:
    """As they would be in a message; other tensors, and those of attributes, are what they were."""
    text = """g (float[N,2,4,4] x) => (float[] y) <float[1] b = {2}> {
        c = Constant<value = float[1] {3}>() a = Conv(x, w) s = Add(a, b) y = Mul(s, c) }"""
    proto = parse(text)
    w = np.random.default_rng(0).standard_normal((20000, 2, 1, 1)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    loaded = load(saved(tmp_path, proto))
    large = loaded.graph.initializers["w"]
    np.testing.assert_array_equal(query.constant(large), w)
    assert np.shares_memory(query.constant(large), query.constant(large))
    (constant,) = (n.attributes["value"].as_tensor() for n in loaded.graph if n.op_type == "Constant")
    assert constant.numpy().tolist() == [3]
    assert query.constant(loaded.graph.initializers["b"]).tolist() == [2]


@pytest.mark.parametrize(
    ("image_dims", "out_dims"),
    [((-1, 3, -1, -1), (-1, 2, -1, -1)), ((-1, 3, 6, 6), (-1, 2, -1, -1)), ((-7, 3, 6, -2), (-1, 2, 6, -3))],
)
def test_dimensions_below_zero_are_open(image_dims: tuple[int, ...], out_dims: tuple[int, ...]) -> None:
    """In inputs, outputs and values in between; of old opsets, which onnx's converter raises, too."""
    text = "g (float[N,3,6,6] x, float[2,3,1,1] w) => (float[N,2,6,6] y) <float[N,2,6,6] c> { c = Conv(x, w) y = Relu(c) }"
    for opset in (11, 17):
        proto = parse(text, opset=opset)
        graph = proto.graph
        for value, sizes in ((graph.input[0], image_dims), (graph.output[0], out_dims), (graph.value_info[0], (-1, 2, -1, -1))):
            value.type.CopyFrom(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, sizes))
        model = load(proto)
        assert query.dims(model.graph.inputs[0]) == tuple(None if d < 0 else d for d in image_dims)
        assert query.dims(model.graph.outputs[0]) == tuple(None if d < 0 else d for d in out_dims)
        x = image(2, 3, 6, 6)
        assert difference(run(check(model), x), run(parse(text, opset=opset), x)) == 0
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == image_dims[0]  # the message handed in is as it was


@pytest.mark.parametrize("opset", [7, 11, 12, 13, 17])
def test_the_declared_interface_is_read_as_it_is(opset: int) -> None:
    """onnx's version converter infers shapes, and writes names and numbers where the file has none."""
    imports = f'["" : {opset}]'
    proto = onnx.parser.parse_model(
        f"<ir_version: 7, opset_import: {imports}> g (float[n,3,8,8] x) => (float[n,3,8,8] y, float[n,3] p) {{"
        "a = Relu(x) y = Tanh(a) g = GlobalAveragePool(a) p = Flatten<axis = 1>(g) }"
    )
    for value, open_dims in ((proto.graph.input[0], (0,)), (proto.graph.output[0], (0, 2)), (proto.graph.output[1], (0, 1))):
        for axis in open_dims:
            value.type.tensor_type.shape.dim[axis].Clear()
    proto.graph.output[1].doc_string = "pooled"
    model = load(proto)
    assert [list(v.shape) for v in (*model.graph.inputs, *model.graph.outputs)] == [
        [ir.SymbolicDim(None), 3, 8, 8],
        [ir.SymbolicDim(None), 3, ir.SymbolicDim(None), 8],
        [ir.SymbolicDim(None)] * 2,
    ]
    assert model.graph.outputs[1].doc_string == "pooled"
