"""onnxruntime loads what we write without a word: its own messages at its default log level, read from a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from simulation import Codes, minmax_codes, minmax_grid, model, quantised

from genie_onnx import graph
from genie_onnx.config import PlacementConfig
from genie_onnx.exporter import fix_shapes
from genie_onnx.placement import place
from genie_onnx.targets import TARGETS, Target

RNG = np.random.default_rng(4)
X = {"x": RNG.standard_normal((4, 3, 8, 8)).astype(np.float32)}
ARRAYS: dict[str, np.ndarray] = {
    **{name: np.float32(bound) for name, bound in (("zero", 0), ("six", 0.6), ("low", -0.3), ("high", 0.8), ("three", 3))},
    **{name: np.int64(values) for name, values in (("starts", [2]), ("ends", [8]), ("axes", [1]), ("flat", [0, -1]))},
    **{"pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1]), "halves": np.int64([4, 4]), "channel": np.int64([1])},
    **{"scales": np.float32([1, 1, 2, 2]), "slope": np.float32(RNG.uniform(0, 0.3, (8, 1, 1)))},
    **{name: RNG.uniform(0.5, 1.5, 8).astype(np.float32) for name in ("gamma", "var")},
    **{name: RNG.standard_normal(8).astype(np.float32) for name in ("beta", "mean")},
}
SHAPES = {
    **{"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "b2": (8,), "w3": (6, 8, 1, 1), "b3": (6,)},
    **{"w4": (8, 8, 3, 3), "w5": (8, 8, 2, 2), "fw": (5, 6), "fb": (5,), "mw": (6, 5)},
}
HEAD = "m = GlobalAveragePool(z) f = Flatten(m) y = Gemm<transB=1>(f, fw, fb)"
BN = "BatchNormalization"
# value z is the last one of 6 channels; r is what stands behind the first convolution
NETS = {
    "clip": f"a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Clip(a, zero, six) z = Conv(r, w3, b3) {HEAD}",
    "clip own bounds": f"a = Conv(x, w1, b1) q = Clip(a, low, high) r = Clip(q, zero, three) z = Conv(r, w3, b3) {HEAD}",
    "clip shared": f"""a = Conv(x, w1, b1) r = Clip(a, zero, six) d = Conv<pads=[1,1,1,1], group=8>(r, w2, b2)
        e = Clip(d, zero, six) z = Conv(e, w3, b3) {HEAD}""",
    "relu": f"a = Conv(x, w1, b1) r = Relu(a) z = Conv(r, w3, b3) {HEAD}",
    "batchnorm": f"""a = Conv(x, w1, b1) n = {BN}(a, gamma, beta, mean, var) r = Clip(n, zero, six)
        d = Conv<pads=[1,1,1,1], group=8>(r, w2) e = {BN}(d, gamma, beta, mean, var) h = HardSwish(e)
        z = Conv(h, w3, b3) {HEAD}""",
    "batchnorm first": f"a = Conv(x, w1) n = {BN}(a, gamma, beta, mean, var) r = Relu(n) z = Conv(r, w3) {HEAD}",
    "pad": f"""a = Conv(x, w1, b1) r = Clip(a, zero, six) p = Pad(r, pads, zero) q = MaxPool<kernel_shape=[2,2]>(p)
        v = Pad<mode="reflect">(q, pads) z = Conv(v, w3, b3) {HEAD}""",
    "resize": f"""a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1, b1) r = LeakyRelu<alpha=0.1>(a)
        u = ConvTranspose<strides=[2,2]>(r, w5) v = Resize<mode="nearest">(r,, scales) t = Add(u, v)
        z = Conv(t, w3, b3) {HEAD}""",
    "concat": f"""a = Conv(x, w1, b1) r = Relu(a) p = MaxPool<kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1]>(r)
        q = Conv(r, w3, b3) c = Concat<axis=1>(p, q) s = Slice(c, starts, ends, axes) z = Relu(s) {HEAD}""",
    "gate": f"a = Conv(x, w1, b1) s = Sigmoid(a) g = Mul(a, s) k = PRelu(g, slope) z = Conv(k, w3, b3) {HEAD}",
    "split": f"""a = Conv(x, w1, b1) r = Clip(a, zero, six) c, d = Split<axis=1>(r, halves) j = Concat<axis=1>(d, c)
        p = AveragePool<kernel_shape=[2,2]>(j) z = Conv(p, w3, b3) {HEAD}""",
    "tokens": """a = Conv(x, w1, b1) r = Clip(a, zero, six) z = Conv(r, w3, b3) i = GlobalAveragePool(z) f = Reshape(i, flat)
        y = MatMul(f, mw)""",
    "tied": f"""a = Conv(x, w1, b1) r = Clip(a, zero, six) d = Conv<pads=[1,1,1,1]>(r, w4) k = Conv<pads=[1,1,1,1]>(d, w4)
        z = Conv(k, w3) {HEAD}""",
    "rounded output": "a = Conv(x, w1, b1) r = Clip(a, zero, six) y = Conv(r, w3, b3)",
}
LOAD = """
import sys
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for name in sys.argv[1:]:
    print(name, file=sys.stderr, flush=True)
    onnxruntime.InferenceSession(name, options, providers=["CPUExecutionProvider"])
"""


def said_at_load(files: list[Path]) -> list[str]:
    """What onnxruntime writes when it loads `files`, each with default options, beside the names of the files."""
    done = subprocess.run([sys.executable, "-c", LOAD, *map(str, files)], capture_output=True, text=True, check=True)
    return [line for line in done.stderr.splitlines() if line not in set(map(str, files))]


def net(body: str) -> onnx.ModelProto:
    """The network; it has an initializer that it does not read, and some that are listed among its inputs."""
    words = set(body.replace(",", " ").replace(")", " ").replace("(", " ").split())
    arrays = {
        **ARRAYS,
        **{name: (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32) for name, shape in SHAPES.items()},
    }
    text = f'<ir_version: 8, opset_import: ["" : 14]> g (float[N,3,8,8] x) => (float y) {{ {body} }}'
    proto = model(text, **{name: array for name, array in arrays.items() if name in words}, stray=np.float32([1]))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w1", onnx.TensorProto.FLOAT, [8, 3, 3, 3]))
    return proto


def written(proto: onnx.ModelProto, target: Target, bits: int) -> onnx.ModelProto:
    """The file for `target` at `bits`, or at the nearest width that it holds."""
    constraints = target.constraints
    settings = PlacementConfig(wbits=bits, abits=max(bits, constraints.value_bits[0]), setting="qdrop")
    deploy = graph.fold_batchnorm(graph.normalise(graph.load(proto)))
    placement = place(deploy, settings, constraints)
    codes = minmax_codes(deploy, placement, X)
    if constraints.wide_values == "symmetric":
        wide = {name: minmax_grid(np.float32([-2, 2]), 8, symmetric=True) for name, g in codes.activations.items() if g.bits == 8}
        codes = Codes(codes.weights, {**codes.activations, **wide})
    file = quantised(proto, lambda _: placement, X, target.name, codes).proto
    return fix_shapes(file, (3, 8, 8)) if target.form.batch == "fixed" else file


@pytest.mark.parametrize("target", TARGETS)
def test_no_warning_at_the_default_log_level(target: str, tmp_path: Path) -> None:
    files = []
    for kind, body in NETS.items():
        for bits in (4, 8):
            files.append(tmp_path / f"{kind.replace(' ', '_')}_{bits}.onnx")
            onnx.save(written(net(body), TARGETS[target], bits), files[-1])
    assert said_at_load(files) == []


def test_a_warning_would_be_seen(tmp_path: Path) -> None:
    """What we do not write: an initializer that nothing reads."""
    proto = written(net(NETS["clip"]), TARGETS["portable"], 4)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(6), "bound"))
    onnx.save(proto, tmp_path / "net.onnx")
    (line,) = said_at_load([tmp_path / "net.onnx"])
    assert "bound" in line


@pytest.mark.parametrize("target", ["portable", "encodings"])
def test_what_is_read_stays(target: str) -> None:
    """One bound of several Clips, of which one stays; an initializer that is an output."""
    body = "a = Conv(x, w1, b1) r = Clip(a, zero, six) z = Conv(r, w3, b3) y = Clip(z, zero, six)"
    file = written(net(body), TARGETS[target], 4)
    names = {tensor.name for tensor in file.graph.initializer}
    assert {"zero", "six"} <= names
    assert "stray" not in names
    read = {name for node in file.graph.node for name in node.input}
    assert names <= read
