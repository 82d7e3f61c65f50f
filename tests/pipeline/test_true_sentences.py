"""What a run prints of parity and of integer kernels: true of heads, of attention, and of functions that saturate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from genie_onnx_cli import show
from genie_onnx_cli.main import main
from simulation import model

QUICK = ["--samples", "8", "--images", "procedural", "--recon-iters", "0", "--wbits", "4", "--abits", "8", "-q"]
RNG = np.random.default_rng(0)


def quantized(proto: onnx.ModelProto, folder: Path, *options: str) -> tuple[str, Path]:
    """Quantize `proto` by the command line; return what was printed, and the file."""
    onnx.save(proto, folder / "net.onnx")
    result = CliRunner().invoke(main, ["quantize", str(folder / "net.onnx"), *QUICK, *options])
    assert result.exit_code == 0, result.output
    return result.stdout, folder / "net.quant.onnx"


def saturated(tail: str, bias: float, channels: int = 1) -> onnx.ModelProto:
    """Three convolutions, the last at `bias`, and what is behind them."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,16,16] x) => (float[1,{channels},16,16] y) {{
        a = Conv<pads = [1,1,1,1]>(x, w1) r = Relu(a) b = Conv<pads = [1,1,1,1]>(r, w2) s = Relu(b)
        c = Conv<pads = [1,1,1,1]>(s, w3, b3) {tail} }}"""
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (channels, 8, 3, 3)}
    he = {n: RNG.standard_normal(s) * np.sqrt(2 / np.prod(s[1:])) * (0.3 if n == "w3" else 1) for n, s in shapes.items()}
    return model(text, **{n: a.astype(np.float32) for n, a in he.items()}, b3=np.full(channels, bias, np.float32))


@pytest.mark.parametrize(
    ("tail", "bias"),
    [("y = Sigmoid(c)", -12), ("s1 = Sigmoid(c) y = Log(s1)", -13), ("y = Exp(c)", -30)],
    ids=["sigmoid", "log", "exp"],
)
def test_a_saturated_output_is_no_alarm(tail: str, bias: float, tmp_path: Path) -> None:
    """Simulated in torch, run in onnxruntime."""
    printed, _ = quantized(saturated(tail, bias), tmp_path)
    assert "the file computes what was simulated" in printed
    assert "layers in integer kernels of onnxruntime: 2 of 3\n  float: Conv_c: it is a last layer" in printed


def test_encodings_of_a_saturated_output(tmp_path: Path) -> None:
    printed, _ = quantized(saturated("y = Sigmoid(c)", -12), tmp_path, "--target", "encodings")
    assert "the file computes what was simulated (3 weights identical)" in printed


def test_attention_is_no_layer(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,8,8] x) => (float[N,5] y) {
        a = Conv<pads = [1,1,1,1]>(x, w1) r = Relu(a)
        shape = Constant<value = int64[3] {0, 8, -1}>() f = Reshape(r, shape) t = Transpose<perm = [0,2,1]>(f)
        q = MatMul(t, wq) k = MatMul(t, wk) kt = Transpose<perm = [0,2,1]>(k) qk = MatMul(q, kt) p = Softmax<axis = -1>(qk)
        v = MatMul(p, t) m = ReduceMean<axes = [1], keepdims = 0>(v) y = Gemm<transB = 1>(m, wg) }"""
    shapes = {"w1": (8, 3, 3, 3), "wq": (8, 8), "wk": (8, 8), "wg": (5, 8)}
    proto = model(text, **{n: (RNG.standard_normal(s) / 3).astype(np.float32) for n, s in shapes.items()})
    printed, file = quantized(proto, tmp_path)
    lines = "layers in integer kernels of onnxruntime: 4 of 4\n"
    products = "  float, and no layers: 2 products (MatMul_qk, MatMul_v): it multiplies two computed values, and has no weight\n"
    assert lines + products in printed
    assert "heads" not in printed
    assert lines + products in CliRunner().invoke(main, ["inspect", str(tmp_path / "net.onnx")]).stdout
    verified = CliRunner().invoke(main, ["verify", str(file), "--with", "onnxruntime", "--samples", "2"]).stdout
    assert "4 of 4" in verified
    assert lines in verified
    assert "2 products have no weight" in (tmp_path / "net.quant.genie" / "report.html").read_text(encoding="utf-8")


def test_flips_over_the_whole_network_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"ok": True, "samples": 8, "weights": 3, "values": [1], "flip_rate": 6.3e-7, "whole_flip_rate": 0.14, "outputs": []}
    show.parity(found)
    assert "over the whole network 14 % of the codes differ: one that lies on the boundary" in capsys.readouterr().out
    show.parity({**found, "whole_flip_rate": 1e-5})
    assert "whole network" not in capsys.readouterr().out


def test_reasons_that_many_share_are_said_once() -> None:
    assert list(show.grouped({"a": "x", "b": "y", "c": "x", "d": "x"}, "layers")) == ["3 layers (a, c, ...): x", "b: y"]
    assert list(show.grouped({"a": "x", "c": "x", "d": "x"}, "layers", every=True)) == ["3 layers (a, c, d): x"]
