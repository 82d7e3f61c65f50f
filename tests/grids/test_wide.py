"""Values that no grid can hold: layers beside them stay in float, others do not, and channels that can be scaled are scaled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from selecting_nets import config
from simulation import model as onnx_model

import genie_onnx
from genie_onnx import QuantizeConfig
from genie_onnx.events import Notice
from genie_onnx.targets import TARGETS
from genie_onnx.validate import run as run_onnx

BEHIND = {
    "silu": "g = Sigmoid(a) v = Mul(a, g)",
    "hard swish": "v = HardSwish(a)",
    "gelu": "v = Gelu(a)",
    "relu": "v = Relu(a)",
    "leaky": "v = LeakyRelu<alpha=0.1>(a)",
}
PINNED = ("silu", "hard swish", "gelu")  # what follows does not commute with scaling


def network(activation: str = "silu", ratio: float = 3000.0, *, read: float | None = None) -> onnx.ModelProto:
    """Half of the channels of the first layer are `ratio` times as large; the next one weighs them by 1 / `read` (all alike)."""
    rng = np.random.default_rng(5)
    large = np.where(np.arange(8) < 4, 1.0, ratio).astype(np.float32)
    inverse = np.where(np.arange(8) < 4, 1.0, 1 / (read or ratio)).astype(np.float32)
    tensors = {
        "w1": rng.standard_normal((8, 3, 3, 3)).astype(np.float32) * large[:, None, None, None] / 5,
        "w2": rng.standard_normal((8, 8, 3, 3)).astype(np.float32) * inverse[None, :, None, None] / 8,
        "w3": rng.standard_normal((8, 8, 3, 3)).astype(np.float32) / 8,
        "w4": rng.standard_normal((5, 8)).astype(np.float32),
    }
    return onnx_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        net (float[N, 3, 12, 12] image) => (float[N, 5] scores) {{
            a = Conv<pads=[1,1,1,1]>(image, w1)
            {BEHIND[activation]}
            b = Conv<pads=[1,1,1,1]>(v, w2)
            c = Relu(b)
            d = Conv<pads=[1,1,1,1]>(c, w3)
            e = Relu(d)
            f = GlobalAveragePool(e)
            h = Flatten(f)
            scores = Gemm<transB=1>(h, w4)
        }}""",
        **tensors,
    )


def run(model: onnx.ModelProto, path: Path, images: Path, settings: QuantizeConfig) -> tuple[genie_onnx.Result, list[str]]:
    """The result and the notices of a run."""
    told: list[genie_onnx.Event] = []
    result = genie_onnx.quantize(model, path, config=settings, data=images, progress=told.append)
    return result, [event.text for event in told if isinstance(event, Notice)]


def sqnr(model: onnx.ModelProto, result: genie_onnx.Result, images: Path) -> float:
    """The SQNR of the output in dB, on `images`."""
    x = np.load(images)
    if onnx.load(result.output).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1:  # a target of fixed batch
        pairs = [
            (run_onnx(model, {"image": row})["scores"], run_onnx(result.output, {"image": row})["scores"]) for row in x[:, None]
        ]
        y, z = (np.concatenate(part) for part in zip(*pairs, strict=True))
    else:
        y, z = (run_onnx(file, {"image": x})["scores"] for file in (model, result.output))
    return float(10 * np.log10((y**2).sum() / ((z - y) ** 2).sum()))


@pytest.mark.parametrize(
    ("activation", "target"),
    [
        *((activation, "portable") for activation in PINNED),
        *(("silu", target) for target in ("openvino", "tensorrt", "qnn", "vitis")),
    ],
)
def test_channels_of_other_sizes_behind_what_pins_them_leave_their_layers_in_float(
    activation: str, target: str, images: Path, tmp_path: Path
) -> None:
    settings, model = config(8, target=TARGETS[target]), network(activation)
    result, notices = run(model, tmp_path / "q.onnx", images, settings)
    assert result.report.parity["ok"]
    assert any("'v' at 8 bits" in text for text in notices)
    kept = result.report.kept_float
    assert len(kept) <= 2  # what reads v, and with a SiLU what writes the other value that a grid would have to hold
    assert any("it reads 'v'" in why for why in kept.values())
    assert sqnr(model, result, images) > 25  # all but one code of half of the channels were lost
    assert "v" not in result.report.activations


def test_without_the_float_layers_little_would_be_left(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    kept, _ = run(model, tmp_path / "kept.onnx", images, config(8))
    monkeypatch.setattr("genie_onnx.grids.own_choice.wide_values", lambda *_: ())
    lost, _ = run(model, tmp_path / "lost.onnx", images, config(8))
    assert not lost.report.kept_float
    assert sqnr(model, lost, images) < sqnr(model, kept, images) - 20


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_channels_of_one_size_stay_in_integers(activation: str, bits: int, images: Path, tmp_path: Path) -> None:
    result, _ = run(network(activation, ratio=1), tmp_path / "q.onnx", images, config(bits))
    assert not result.report.kept_float


def test_small_channels_that_nothing_depends_on_may_be_lost(images: Path, tmp_path: Path) -> None:
    model = network(read=1.0)
    result, _ = run(model, tmp_path / "q.onnx", images, config(8))
    assert not result.report.kept_float
    assert sqnr(model, result, images) > 25


@pytest.mark.parametrize("activation", ["relu", "leaky"])
def test_channels_that_can_be_scaled_are_left_to_equalisation(activation: str, images: Path, tmp_path: Path) -> None:
    result, _ = run(network(activation, ratio=30), tmp_path / "q.onnx", images, config(4))
    assert not result.report.kept_float


def test_a_run_that_goes_on_keeps_them(images: Path, tmp_path: Path) -> None:
    whole, _ = run(network(), tmp_path / "whole.onnx", images, config(8))
    again = genie_onnx.quantize(network(), tmp_path / "again.onnx", config=config(8), data=images, run_dir=whole.run_dir)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert again.report.kept_float == whole.report.kept_float
    assert '"wide"' in (whole.run_dir / "own_grids.json").read_text()
