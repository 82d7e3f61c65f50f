"""Models that are not quite what is supported, and are brought there: half precision, inputs beside the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from onnx import TensorProto, numpy_helper
from small_bn_net import SHAPE, small_bn_net

QUICK = ["--samples", "8", "--images", "procedural", "--recon-iters", "2", "-q"]


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


def half(path: Path) -> Path:
    """The small network in float16, its input and output too."""
    proto = small_bn_net()
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(proto, path)
    return path


def with_a_scale(path: Path) -> Path:
    """The small network with a second input that its output is multiplied by."""
    proto = small_bn_net()
    last = proto.graph.node[-1]
    last.output[0] = "plain"
    proto.graph.node.append(onnx.helper.make_node("Mul", ["plain", "scale"], ["scores"]))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1, 1]))
    onnx.save(proto, path)
    return path


def outputs(path: Path) -> np.ndarray:
    """Run a file on zeros."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": np.ones((2, *SHAPE), np.float32)})[0])


def test_a_float16_model_is_quantized_as_float32(tmp_path: Path) -> None:
    result = call("quantize", half(tmp_path / "half.onnx"), *QUICK)
    assert result.exit_code == 0, result.output
    assert "note: The model is FLOAT16; it is read as float32, with the same weights." in result.stdout
    file = onnx.load(tmp_path / "half.quant.onnx")
    assert file.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert {t.data_type for t in file.graph.initializer} & {TensorProto.FLOAT16} == set()
    assert outputs(tmp_path / "half.quant.onnx").dtype == np.float32
    labels = tmp_path / "test.npz"
    np.savez(labels, images=np.zeros((4, *SHAPE), np.float32), labels=np.arange(4))
    assert call("evaluate", tmp_path / "half.onnx", "--data", labels).exit_code == 0


def test_an_input_beside_the_image_is_given_a_constant(tmp_path: Path) -> None:
    model = with_a_scale(tmp_path / "scaled.onnx")
    refused = call("quantize", model)
    assert refused.exit_code == 2
    assert "--set-input scale=1" in refused.stderr
    for factor in (1, 3):
        result = call("quantize", model, "--set-input", f"scale={factor}", "-o", tmp_path / f"{factor}.onnx", *QUICK)
        assert result.exit_code == 0, result.output
        assert f"note: Input 'scale' is {float(factor)} for good (--set-input)" in result.stdout
    assert [v.name for v in onnx.load(tmp_path / "3.onnx").graph.input] == ["image"]
    np.testing.assert_allclose(outputs(tmp_path / "3.onnx"), 3 * outputs(tmp_path / "1.onnx"), rtol=1e-5)
    assert "for good" in call("inspect", model, "--set-input", "scale=2").stdout
    assert call("distill", model, "--set-input", "scale=2", "--samples", 2, "--distill-iters", 1, "-q").exit_code == 0
    assert "has 2 inputs" in call("evaluate", model, "--data", tmp_path).stderr


def test_values_of_inputs_are_parsed(tmp_path: Path) -> None:
    model = with_a_scale(tmp_path / "scaled.onnx")
    for text, problem in {
        "scale": "is not NAME=VALUE",
        "scale=a": "is not a list of numbers",
        "scal=1": "it has 'scale'",
    }.items():
        result = call("quantize", model, "--set-input", text)
        assert result.exit_code == 2
        assert problem in result.stderr


def test_an_input_of_minus_ones_is_open(tmp_path: Path) -> None:
    """As older Paddle exporters write it: taken at any size, and written as open."""
    proto = small_bn_net()
    for value, sizes in ((proto.graph.input[0], (-1, SHAPE[0], -1, -1)), (proto.graph.output[0], (-1, -1))):
        value.type.CopyFrom(onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, sizes))
    onnx.save(proto, tmp_path / "paddle.onnx")
    assert "--input-size HxW" in call("inspect", tmp_path / "paddle.onnx").stderr
    size = ("--input-size", f"{SHAPE[1]}x{SHAPE[2]}")
    assert "image [?, 3, ?, ?]" in call("inspect", tmp_path / "paddle.onnx", *size).stdout
    result = call("quantize", tmp_path / "paddle.onnx", *size, *QUICK)
    assert result.exit_code == 0, result.output
    file = onnx.load(tmp_path / "paddle.quant.onnx")
    assert [d.WhichOneof("value") for d in file.graph.input[0].type.tensor_type.shape.dim] == [None, "dim_value", None, None]
    assert all(d.dim_value >= 0 for d in file.graph.output[0].type.tensor_type.shape.dim)
    assert len(outputs(tmp_path / "paddle.quant.onnx")) == 2
