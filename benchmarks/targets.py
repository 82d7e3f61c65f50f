"""Files for each target, in the runtimes that read them: parity, integer kernels, speed, the oldest onnxruntime.

    python benchmarks/targets.py BENCH OUT [--models resnet20,mobilenet,rfb] [--bits W8A8,W4A4] [--targets portable,openvino]
                                 [--iters 5] [--old PYTHON] [--python NAME=PATH ...]

Every file is made by `genie-onnx quantize` with a handful of iterations (this is about files, not about accuracy) and judged by
`genie-onnx verify`. A line is appended to OUT/targets.txt as soon as it is there; what OUT has already is not done again. `--old`
is the interpreter of an environment with an old onnxruntime, in which the portable files are to load and to compute the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

CIFAR = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
HALF = ["--mean", "0.5", "--std", "0.5"]
FACES = ["--mean", "0.498", "--std", "0.502"]  # (x - 127) / 128


class Network(NamedTuple):
    """A float model, its data, and what calls for special treatment."""

    model: str
    data: str
    preprocessing: list[str]
    batches: tuple[int, ...]  # at which speed is measured


NETWORKS = {
    "resnet20": Network("cifar/resnet20_folded.onnx", "cifar/calib1024.npz", CIFAR, (1, 32)),
    "mobilenet": Network("imagenet/mobilenet_v1_075_224_bn.onnx", "imagenet/calib", HALF, (1, 32)),
    "rfb": Network("zoo/version-RFB-320.onnx", "samples/faces", FACES, (1,)),
}
RUNTIMES = {
    "portable": "onnxruntime,tvm",
    "portable --round-outputs": "onnxruntime",
    "openvino": "openvino",
    "iree": "iree",
    "rknn": "rknn",
    "qnn": "qnn",
    "tensorrt": "onnxruntime",
    "tidl": "onnxruntime",
    "vitis": "onnxruntime",
}
OLD = """
import sys, numpy as np, onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
x = np.load(sys.argv[2])
np.savez(sys.argv[3], *session.run(None, {session.get_inputs()[0].name: x}))
print(ort.__version__)
"""


def genie(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "genie_onnx", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def parity(report: dict[str, Any]) -> str:
    """Say how many codes flip in the worst layer, and how many layers are in integer kernels."""
    values = report["parity"]["values"]
    worst = max((v["flips"] / v["elements"] for v in values), default=0.0)
    step = max((v["max_step"] for v in values), default=0)
    kernels = report["parity"]["kernels"]
    integer = sum(n for op, n in kernels["integer"].items() if op in ("QLinearConv", "QGemm", "QLinearMatMul"))
    layers = integer + sum(kernels["floating"].values())
    return f"flips in the worst layer {worst:.1e}, largest step {step}, integer layers {integer} of {layers}"


def verified(file: Path, data: Path, preprocessing: list[str], runtimes: str, pythons: list[str]) -> list[str]:
    """Return what `genie-onnx verify` says of each runtime."""
    elsewhere = [part for python in pythons if python.partition("=")[0] in runtimes.split(",") for part in ("--python", python)]
    done = genie("verify", file, "--data", data, *preprocessing, "--with", runtimes, *elsewhere, "-q", "--json")
    if not done.stdout:
        return [done.stderr.strip()]
    found = []
    for row in json.loads(done.stdout)["runtimes"]:
        said = [f"{row['runtime']} {row['version']}"]
        if row["outputs"]:
            worst = max(row["outputs"], key=lambda output: float(output["mean_share"]))
            said.append(f"mean error {100 * worst['mean_share']:.2g} %, max {100 * worst['max_share']:.2g} %")
            said.append(f"integer layers {row['integer_layers']} of {(row['integer_layers'] or 0) + (row['float_layers'] or 0)}")
        found.append(", ".join(said + ([row["problem"]] if row["problem"] else [])))
    return found


def speed(before: Path, after: Path, batch: int, seconds: float = 4.0) -> float:
    """Return how many times as fast `after` is as `before` in onnxruntime, one thread, the shortest of interleaved runs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = [ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in (before, after)]
    shape = [d if isinstance(d, int) else batch for d in sessions[0].get_inputs()[0].shape]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    shortest = [float("inf"), float("inf")]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for k, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: x})
            shortest[k] = min(shortest[k], time.perf_counter() - start)
    return shortest[0] / shortest[1]


def in_old(python: str, file: Path, folder: Path) -> str:
    """Say whether the onnxruntime of `python` loads `file` and computes what the one here does."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    shape = [d if isinstance(d, int) else 2 for d in session.get_inputs()[0].shape]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.save(folder / "x.npy", x)
    command = [python, "-c", OLD, str(file), str(folder / "x.npy"), str(folder / "y.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"old onnxruntime: {done.stderr.strip().splitlines()[-1]}"
    ours = session.run(None, {session.get_inputs()[0].name: x})
    with np.load(folder / "y.npz") as theirs:
        pairs = list(zip(ours, (theirs[key] for key in theirs.files), strict=True))
    error = max(float(np.abs(a - b).mean() / max(np.ptp(a), 1e-12)) for a, b in pairs)
    return f"onnxruntime {done.stdout.strip()}: loads, mean difference {100 * error:.3g} % of the range"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", default=",".join(NETWORKS))
    parser.add_argument("--bits", default="W8A8,W4A8,W4A4,W3A3,W2A4")
    parser.add_argument("--targets", default="portable,openvino")
    parser.add_argument("--iters", default="5")
    parser.add_argument("--old")
    parser.add_argument("--python", action="append", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "targets.txt"
    done = results.read_text(encoding="utf-8") if results.exists() else ""
    for name in options.models.split(","):
        network = NETWORKS[name]
        model, data = options.bench / network.model, options.bench / network.data
        for bits in options.bits.split(","):
            wbits, abits = bits[1:].split("A")
            for target in options.targets.split(","):
                key = f"{name} {bits} {target}:"
                if key in done:
                    continue
                file = options.out / f"{name}_{bits}_{target.replace(' ', '')}.onnx"
                widths = ["--wbits", wbits, "--abits", abits, "--target", *target.split()]
                effort = ["--samples", 16, "--recon-iters", options.iters, "--no-amplify", "-q"]
                made = genie("quantize", model, "-o", file, "--data", data, *network.preprocessing, *widths, *effort)
                parts = [made.stderr.strip().splitlines()[-1]] if made.returncode else []
                if not made.returncode:
                    parts.append(parity(json.loads(file.with_suffix(".report.json").read_text(encoding="utf-8"))))
                    parts += verified(file, data, network.preprocessing, RUNTIMES.get(target, "onnxruntime"), options.python)
                    if target == "portable":
                        parts += [f"batch {n}: {speed(model, file, n):.2f}x" for n in network.batches]
                        parts += [in_old(options.old, file, options.out)] if options.old else []
                line = f"{key} {'; '.join(parts)}"
                with results.open("a", encoding="utf-8") as lines:
                    lines.write(line + "\n")
                print(line, flush=True)


if __name__ == "__main__":
    main()
