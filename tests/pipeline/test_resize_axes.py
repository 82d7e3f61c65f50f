"""Channels-last networks with a Resize or Pad of named axes, which onnxruntime's optimizer takes wrongly: quantized, and judged
against the float model all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import genie_onnx
from genie_onnx.errors import RunError
from genie_onnx.validate import Session

QUICK = genie_onnx.QuantizeConfig(
    samples=4,
    distill=genie_onnx.DistillConfig(iterations=1, refine_iterations=1),
    reconstruct=genie_onnx.ReconstructConfig(iterations=1, batch_size=2),
    placement=genie_onnx.PlacementConfig(wbits=8, abits=8),
    device="cpu",
)
RESIZES = {  # all enlarge 6 x 8 to 12 x 16
    "sizes": ("<int64[2] k = {16, 12}>", 'r = Resize<axes = [3, 2], mode = "nearest">(t, , , k)'),
    "scales": ("<float[2] k = {2, 2}>", 'r = Resize<axes = [2, 3], mode = "linear">(t, , k)'),
    "all, not in order": ("<float[4] k = {1, 1, 2, 2}>", 'r = Resize<axes = [0, 1, 3, 2], mode = "nearest">(t, , k)'),
    "pads": ("<int64[4] k = {4, 3, 4, 3}, int64[2] a = {3, 2}, float v = {0}>", "r = Pad(t, k, v, a)"),
}


def _model(case: str) -> onnx.ModelProto:
    values, node = RESIZES[case]
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> g (float[N,6,8,3] x) => (float[N,12,16,4] y) {values} {{
        t = Transpose<perm = [0, 3, 1, 2]>(x) {node} u = Transpose<perm = [0, 2, 3, 1]>(r) y = MatMul(u, w) }}"""
    )
    w = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    return proto


@pytest.mark.parametrize("case", RESIZES)
def test_it_is_quantized_and_judged(case: str, tmp_path: Path) -> None:
    onnx.save(_model(case), tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((4, 6, 8, 3)).astype(np.float32)
    expected = Session(tmp_path / "m.onnx", optimise=False)({"x": x})["y"]
    result = genie_onnx.quantize(tmp_path / "m.onnx", tmp_path / "q.onnx", config=QUICK)
    assert result.quality.level == "good"
    found = Session(tmp_path / "q.onnx")({"x": x})["y"]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    compared = genie_onnx.compare(tmp_path / "m.onnx", tmp_path / "q.onnx", samples=4)
    assert min(output.sqnr_db for output in compared.outputs) > 25


def test_of_the_float_file_evaluate_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    onnx.save(_model("sizes"), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", images=np.zeros((2, 3, 6, 8), np.float32), labels=np.zeros(2, np.int64))
    with pytest.raises(genie_onnx.GenieError) as raised:
        genie_onnx.evaluate([tmp_path / "m.onnx"], tmp_path / "data.npz")
    text = str(raised.value)
    assert "Resize: " in text
    assert "ORT_DISABLE_ALL" in text
    assert "\n" not in text
    assert "ONNXRuntimeError" not in text


@pytest.mark.parametrize("optimise", [True, False])
def test_the_float_file_itself_is_told_apart(optimise: bool, tmp_path: Path) -> None:
    """The day onnxruntime takes it, this fails, and genie_onnx.graph.without_axes can go."""
    onnx.save(_model("sizes"), tmp_path / "m.onnx")
    if optimise:
        with pytest.raises(RunError, match="a fault of onnxruntime"):
            Session(tmp_path / "m.onnx")
    else:
        Session(tmp_path / "m.onnx", optimise=False)


def test_what_onnxruntime_cannot_run_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused as what was handed in, with what onnxruntime says of it; memory that runs out is no fault of the model."""

    def fails(*args: object, **kwargs: object) -> dict[str, np.ndarray]:
        raise RunError(message)

    monkeypatch.setattr("genie_onnx.preparation.prepare.run", fails)
    message = "onnxruntime 9.9 cannot load the model: Relu 'r': it has no kernel"
    with pytest.raises(genie_onnx.InputError, match="Relu 'r': it has no kernel"):
        genie_onnx.quantize(_model("scales"), tmp_path / "q.onnx", config=QUICK)
    message = "onnxruntime 9.9 cannot run the model: Failed to allocate memory for requested buffer of size 8"
    with pytest.raises(RunError, match="not enough memory"):
        genie_onnx.quantize(_model("scales"), tmp_path / "q.onnx", config=QUICK)
