"""The imported network is held against onnxruntime: a misread operator is named, last bits that a function blows up are none."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from simulation import model

from genie_onnx.config import PlacementConfig
from genie_onnx.errors import RunError
from genie_onnx.preparation.prepare import Prepared, check_import, prepare

RNG = np.random.default_rng(4)
W = (RNG.standard_normal((4, 3, 3, 3)) / 5).astype(np.float32)


def _net(tail: str, scale: float = 1) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,8,8] x) => (float[N,4,8,8] y) {{
        c = Conv<pads = [1,1,1,1]>(x, w, b) {tail} }}"""
    return model(text, w=W * np.float32(scale), b=np.full(4, -13, np.float32))


def _prepared(tail: str, scale: float = 1) -> Prepared:
    return prepare(_net(tail, scale), PlacementConfig())


def _read_as(read: Prepared, as_if: Prepared) -> Prepared:
    read.__dict__["network"] = as_if.network  # a cached property, computed from the graph otherwise
    return read


LOG = "s = Sigmoid(c) y = Log(s)"


def test_what_a_log_makes_of_last_bits_is_no_misreading() -> None:
    check_import(_prepared(LOG), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("read_as", [(LOG, 1.1), ("s = Exp(c) t = Neg(s) y = Neg(t)", 1)], ids=["a weight", "an operator"])
def test_a_misread_network_is_refused(read_as: tuple[str, float]) -> None:
    wrong = _read_as(_prepared(LOG), _prepared(*read_as))
    with pytest.raises(RunError, match="was read wrongly"):
        check_import(wrong, torch.Generator().manual_seed(0))
