"""What the libraries say where memory runs out becomes one sentence; everything else passes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from genie_onnx.errors import RunError
from genie_onnx.memory import memory_errors
from genie_onnx.validate import run

TERABYTES = 2**45
EXPAND = f"""
<ir_version: 8, opset_import: ["" : 17]>
g (float[N] x) => (float[N, {TERABYTES}] y) <int64[2] s = {{1, {TERABYTES}}}> {{ u = Unsqueeze(x, a) y = Expand(u, s) }}
"""


def expand() -> None:
    model = onnx.parser.parse_model(EXPAND)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "a"))
    run(model, {"x": np.zeros(1, np.float32)}, optimise=False)


@pytest.mark.parametrize(
    "take", [lambda: np.empty(TERABYTES), lambda: torch.empty(TERABYTES), expand], ids=["numpy", "torch", "onnxruntime"]
)
def test_every_library_is_understood(take: object) -> None:
    with pytest.raises(RunError, match="not enough memory"), memory_errors():
        take()  # type: ignore[operator]


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory_errors():
        raise RuntimeError("a shape that does not fit")
