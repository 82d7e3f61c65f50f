"""Files of finished runs in AIMET, MNN and OpenCV, held against the QDQ file node by node: a line of targets.jsonl each.

    python benchmarks/targets_tools.py RUN.genie ... --images IMAGES.npy --name resnet20 --bits W4A4 --python aimet=PATH ...

RUN was made with `--target encodings --format aimet`, whose numbers the other forms can have. IMAGES are inputs of the model as
it takes them. Without `--python NAME=PATH` a tool is left out; what makes such an environment: genie-onnx doctor --targets.
MNN's converter installs packages by itself when it is first run: give it an environment of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort

import genie_onnx

JSONL = Path(__file__).parent / "targets.jsonl"
AIMET = """
import json, sys, time, numpy as np, onnx
from aimet_onnx.quantsim import QuantizationSimModel, load_encodings_to_sim
file, images, out = sys.argv[1:]
started = time.monotonic()
model, x = onnx.load(file), np.load(images)
name = model.graph.input[0].name
sim = QuantizationSimModel(model, dummy_input={name: x[:1]}, quant_scheme="min_max")
table = file.replace(".onnx", ".aimet.json")
load_encodings_to_sim(sim, table, strict=False)
seconds = time.monotonic() - started
read = json.load(open(table))
wanted = read["param_encodings"] + read["activation_encodings"]
same = 0
for entry in wanted:
    quantizer = sim.qc_quantize_op_dict.get(entry["name"])
    grid = quantizer.get_encodings() if quantizer is not None and quantizer.enabled else None
    same += bool(grid) and grid[0].bw == entry["bw"] and np.allclose([g.delta for g in grid], entry["scale"], rtol=1e-6) \\
        and np.array_equal(np.rint([g.offset for g in grid]), entry["offset"])
np.save(out, np.concatenate([sim.session.run(None, {name: x[i:i + 1]})[0] for i in range(len(x))]))
print(json.dumps({"codes": same == len(wanted), "said": f"{same} of {len(wanted)} encodings", "convert_s": seconds}))
"""
MNN = """
import json, sys, numpy as np
import MNN.expr as expr, MNN.nn as nn
file, images, out, read, written = sys.argv[1:]
x = np.load(images)
net = nn.load_module_from_file(file, [read], [written])
found = []
for i in range(len(x)):
    answer = net.forward([expr.const(x[i:i + 1].copy(), list(x[i:i + 1].shape), expr.NCHW)])
    answer = answer[0] if isinstance(answer, (list, tuple)) else answer
    found.append(np.array(expr.convert(answer, expr.NCHW).read()).reshape(1, -1))
np.save(out, np.concatenate(found))
"""
OPENCV = """
import json, sys, time, numpy as np, cv2
file, images, out = sys.argv[1:]
started = time.monotonic()
x = np.load(images)
old = cv2.__version__.startswith("4")
net = cv2.dnn.readNetFromONNX(file) if old else cv2.dnn.readNetFromONNX(file, cv2.dnn.ENGINE_CLASSIC)
seconds = time.monotonic() - started
found = []
for i in range(len(x)):
    net.setInput(x[i:i + 1])
    found.append(net.forward().reshape(1, -1).copy())
np.save(out, np.concatenate(found))
print(seconds)
"""
CHILD = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, flush=True)
sys.exit(code)
"""  # small itself: what a process takes counts from its parent's size on
VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
PACKAGES = {"aimet": "aimet-onnx", "mnn": "MNN", "opencv": "opencv-python-headless"}


def exported(run: Path, folder: Path, *target: str) -> Path:
    """Return the file of a finished run for a target."""
    path = folder / f"{'-'.join(target).replace('--', '')}.onnx"
    command = [sys.executable, "-m", "genie_onnx", "export", run, "-o", path, "-q", "--accept-useless", "--target", *target]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return path


def reference_file(run: Path, folder: Path, tool: str) -> Path:
    """Return the QDQ file of a run: with float biases where the tool has these, else as it runs in onnxruntime."""
    portable = genie_onnx.TARGETS["portable"]
    bias: Literal["float", "int32"] = "float" if tool == "aimet" else "int32"
    row = dataclasses.replace(portable, form=dataclasses.replace(portable.form, bias=bias))
    wanted = genie_onnx.Requirements(accept_useless=True)
    return genie_onnx.export(run, row, folder / f"reference-{bias}.onnx", requirements=wanted).output


def simulated(file: Path, x: np.ndarray) -> np.ndarray:
    """Return the first output of a QDQ file, computed node by node as it is written."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))])


def timed(command: list[Any], env: dict[str, str] | None = None) -> tuple[str, float, float]:
    """Run a command; return what it printed, its seconds, and its peak in MiB."""
    started = time.monotonic()
    whole = [sys.executable, "-c", CHILD, *map(str, command)]
    done = subprocess.run(whole, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    printed, _, peak = done.stdout.rpartition("peak ")
    return printed, time.monotonic() - started, int(peak) / 1024


def mnn(python: str, file: Path, images: Path, out: Path) -> dict[str, Any]:
    """Convert with the parameters beside `file`, run, and read scales and kinds of convolutions back from the converted file."""
    proto = onnx.load(file)
    converter, converted, dump = Path(python).parent / "mnnconvert", file.with_suffix(".mnn"), file.with_suffix(".dump.json")
    table = file.with_suffix(".mnn.json")
    env = {**os.environ, "PATH": f"{converter.parent}:{os.environ['PATH']}"}
    convert = ["-f", "ONNX", "--modelFile", file, "--MNNModel", converted, "--bizCode", "genie", "--compressionParamsFile", table]
    _, seconds, peak = timed([converter, *convert], env)
    timed([converter, "-f", "MNN", "--modelFile", converted, "--JsonFile", dump], env)
    timed([python, "-c", MNN, converted, images, out, proto.graph.input[0].name, proto.graph.output[0].name], env)
    wanted = {e["opName"]: e["weight"][0]["scales"] for e in json.loads(table.read_text())["algo"][0]["quantParams"]["layer"]}
    operators = json.loads(dump.read_text())["oplists"]
    layers = [op["main"] for op in operators if op["type"] in ("Convolution", "ConvolutionDepthwise")]
    integer = [layer for layer in layers if layer.get("symmetricQuan", {}).get("outputDataType") == "DT_INT8"]
    scales = sorted(float(s) for layer in integer for s in layer["quanParameter"]["alpha"])
    same = bool(np.allclose(scales, sorted(s for own in wanted.values() for s in own), rtol=1e-3, atol=1e-6))  # printed so
    said = f"{len(integer)} of {len(layers)} layers"
    return {"codes": same, "said": said, "convert_s": seconds, "peak_mib": peak, "size": converted.stat().st_size}


def tried(tool: str, python: str, run: Path, images: Path, folder: Path) -> dict[str, Any]:
    """Return what was found of one tool."""
    out = folder / "out.npy"
    if tool == "mnn":
        file = exported(run, folder, "encodings", "--format", "mnn")
        found = mnn(python, file, images, out)
    elif tool == "aimet":
        file = exported(run, folder, "encodings", "--format", "aimet")
        printed, _, peak = timed([python, "-c", AIMET, file, images, out])
        found = {**json.loads(printed.splitlines()[-1]), "peak_mib": peak, "size": file.stat().st_size}
    else:
        file = exported(run, folder, "opencv")
        printed, _, peak = timed([python, "-c", OPENCV, file, images, out])
        found = {"codes": True, "said": "0", "convert_s": float(printed), "peak_mib": peak, "size": file.stat().st_size}
    return {**found, "target": "opencv" if tool == "opencv" else f"encodings --format {tool}", "output": np.load(out)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--bits", required=True)
    parser.add_argument("--python", action="append", default=[])
    options = parser.parse_args()
    x = np.load(options.images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for entry in options.python:
            tool, _, python = entry.partition("=")
            reference = simulated(reference_file(options.run, folder, tool), x)
            found = tried(tool, python, options.run, options.images, folder)
            version = subprocess.run([python, "-c", VERSION, PACKAGES[tool]], check=True, capture_output=True, text=True)
            output = found["output"].reshape(reference.shape)
            row = {
                "target": found["target"],
                "tool": tool,
                "version": version.stdout.strip(),
                "model": options.name,
                "bits": options.bits,
                "images": len(x),
                "agreement": float((output.argmax(1) == reference.argmax(1)).mean()),
                "largest_error": float(np.abs(output - reference).max() / np.ptp(reference)),
                "codes_exact": found["codes"],
                "integer_operators": found["said"],
                "size_bytes": found["size"],
                "convert_s": round(found["convert_s"], 1),
                "peak_mib": round(found["peak_mib"]),
                "date": datetime.date.today().isoformat(),
            }
            with JSONL.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
