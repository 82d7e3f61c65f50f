"""Names of .tflite files, weights without -128, and what is refused before a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from litert_nets import PIECES, exported, net

from genie_onnx.delivery.narrow import with_narrow_weights
from genie_onnx.delivery.tflite_file import onnx_path, qdq_output, require_own, tflite_path, to_tflite
from genie_onnx.errors import ConfigError
from genie_onnx.qparams import QParams, QTensor
from genie_onnx.reconstruct import Codes
from genie_onnx.targets import TARGETS


@pytest.mark.parametrize("name", ["model.onnx", "model.quant.onnx"])
def test_both_files_lie_beside_each_other(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.touch()
    assert tflite_path(file) == tmp_path / "model.tflite"
    assert onnx_path(tmp_path / "model.tflite") == file


def test_the_file_that_was_judged_never_takes_the_place_of_the_float_model(tmp_path: Path) -> None:
    assert qdq_output(tmp_path / "digits.tflite", TARGETS["litert"]) == tmp_path / "digits.quant.onnx"
    assert qdq_output("other.onnx", TARGETS["litert"]) == "other.onnx"
    assert qdq_output(None, TARGETS["litert"]) is None


def test_a_tflite_file_of_others_is_replaced_only_where_it_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tflite")
    judged, beside = tmp_path / "model.quant.onnx", tmp_path / "model.tflite"
    require_own(judged, None)
    beside.write_bytes(b"a float model")
    with pytest.raises(ConfigError, match="genie-onnx did not write it"):
        require_own(judged, None)
    with pytest.raises(ConfigError, match="genie-onnx did not write it"):
        require_own(judged, judged)
    require_own(judged, beside)
    proto, _ = exported(
        net(*PIECES["Conv, stride 2"]), 8, 8, np.random.default_rng(0).standard_normal((2, 3, 10, 9)).astype(np.float32)
    )
    beside.write_bytes(to_tflite(proto))
    require_own(judged, None)


def test_other_targets_have_no_tflite_file() -> None:
    with pytest.raises(ConfigError, match="target portable has none"):
        qdq_output("model.tflite", TARGETS["portable"])


def test_narrow_weights_have_no_code_of_minus_128() -> None:
    def weight(bits: int) -> QTensor:
        grid = QParams(bits=bits, scale=np.ones((), np.float32), zero_point=np.asarray(2 ** (bits - 1), np.int64))
        return QTensor(codes=np.asarray([0, 1, 2, 2**bits - 1], np.uint8), qparams=grid)

    codes = Codes(weights={"wide": weight(8), "four": weight(4)})
    found = with_narrow_weights(codes, TARGETS["litert"].constraints)
    assert found.weights["wide"].centred().tolist() == [-127, -127, -126, 127]
    assert found.weights["four"] is codes.weights["four"]
    assert with_narrow_weights(codes, TARGETS["portable"].constraints) is codes
