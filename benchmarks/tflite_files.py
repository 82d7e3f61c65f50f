"""A .tflite file in LiteRT's two kinds of kernels, against the QDQ file beside it: two lines of targets.jsonl.

    python benchmarks/tflite_files.py MODEL.tflite DATA --model NAME --bits W4A8 --python PATH [--mean ..] [--std ..]

PATH is a Python with ai-edge-litert and ethos-u-vela. The default kernels (XNNPACK) are those of `verify --with litert`; the
built-in ones multiply in fixed point, as those for microcontrollers do. Largest errors are shares of the range of the outputs,
seconds and memory those of a process that loads the QDQ file and converts it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import tflite

import genie_onnx
from genie_onnx.delivery.tflite_file import onnx_path
from genie_onnx.validate import Session
from genie_onnx.validate.runtimes import RUNTIMES

HERE = Path(__file__).parent
CONVERT = """
import sys, time, onnx
proto, started = onnx.load(sys.argv[1]), time.perf_counter()
from genie_onnx.exporter.litert import to_tflite
to_tflite(proto)
seconds = time.perf_counter() - started
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))  # getrusage has the parent's
print(seconds, peak / 1024)
"""
BUILT_IN = """
import importlib.util, sys, numpy as np
driver, file, images, name, out = sys.argv[1:]
spec = importlib.util.spec_from_file_location("driver", driver)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.Model(file, {})
model._fast = model._open
np.save(out, np.stack([model({name: image[None]})[0][0] for image in np.load(images)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("data", type=Path, help="npz of images, as for `verify --data`")
    parser.add_argument("--model", required=True)
    parser.add_argument("--bits", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--mean", type=float, nargs="+")
    parser.add_argument("--std", type=float, nargs="+")
    parser.add_argument("--lines", type=Path, default=HERE / "targets.jsonl")
    options = parser.parse_args()
    with options.lines.open("a", encoding="utf-8") as lines:
        for line in measured(options):
            lines.write(json.dumps(line) + "\n")
            print(line)


def measured(options: argparse.Namespace) -> list[dict[str, object]]:
    """Return a line for each kind of kernels."""
    qdq = onnx_path(options.file)
    found = genie_onnx.verify(
        options.file,
        runtimes=["litert", "vela"],
        pythons=dict.fromkeys(("litert", "vela"), options.python),
        data=options.data,
        samples=options.images,
        mean=options.mean,
        std=options.std,
    )
    litert, vela = found.runtimes
    assert litert.problem is None, litert.problem
    assert vela.problem is None, vela.problem
    assert litert.worst is not None
    layers = f"{litert.integer_layers} of {(litert.integer_layers or 0) + (litert.float_layers or 0)} layers"
    on_npu = vela.notes[0].split(" operators")[0]
    converted = subprocess.run(
        [sys.executable, "-c", CONVERT, str(qdq)], check=True, capture_output=True, text=True
    ).stdout.split()
    same = {
        "version": litert.version,
        "model": options.model,
        "bits": options.bits,
        "images": found.samples,
        "codes_exact": same_codes(onnx.load(qdq), options.file.read_bytes()),
        "size_bytes": options.file.stat().st_size,
        "convert_s": round(float(converted[0]), 2),
        "peak_mib": float(round(float(converted[1]))),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }
    agreement, error = built_in(options, qdq)
    first = {"agreement": litert.worst.agreement, "largest_error": litert.worst.max_share}
    return [
        {
            "target": "litert",
            "tool": "LiteRT",
            **same,
            **first,
            "integer_operators": f"{layers}; on the NPU by Vela {vela.version}: {on_npu}",
        },
        {
            "target": "litert",
            "tool": "LiteRT, built-in kernels",
            **same,
            "agreement": agreement,
            "largest_error": error,
            "integer_operators": layers,
        },
    ]


def built_in(options: argparse.Namespace, qdq: Path) -> tuple[float, float]:
    """Return the agreement of classes, and the largest error as a share of the range, in kernels that multiply in fixed point."""
    with np.load(options.data, allow_pickle=False) as arrays:
        x = next(arrays[name] for name in arrays.files if arrays[name].ndim == 4)[: options.images]
    if x.dtype == np.uint8:
        mean, std = (np.asarray(given or [other], np.float32) for given, other in ((options.mean, 0), (options.std, 1)))
        x = ((x.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
    x = np.ascontiguousarray(x, np.float32)
    session = Session(qdq, optimise=False)
    (name,), (output,) = session.inputs, session.outputs
    expected = np.concatenate([session({name: image[None]})[output] for image in x])
    with tempfile.TemporaryDirectory() as folder:
        images, out = Path(folder) / "images.npy", Path(folder) / "out.npy"
        np.save(images, x)
        arguments = map(str, (RUNTIMES["litert"].driver, options.file, images, name, out))
        subprocess.run([options.python, "-c", BUILT_IN, *arguments], check=True)
        found = np.load(out)
    agreement = float((found.argmax(1) == expected.argmax(1)).mean())
    return agreement, float(np.abs(found - expected).max() / np.ptp(expected))


def same_codes(qdq: onnx.ModelProto, data: bytes) -> bool:
    """Whether the .tflite file `data` has the codes of every weight of `qdq`, whatever order its operator has them in."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in qdq.graph.initializer}
    table = json.loads(next(entry.value for entry in qdq.metadata_props if entry.key == "genie_onnx.weights"))
    model = tflite.Model.GetRootAs(data)
    graph = model.Subgraphs(0)
    tensors = {tensor.Name().decode(): tensor for tensor in map(graph.Tensors, range(graph.TensorsLength()))}
    for name, entry in table.items():
        codes, tensor = stored[entry["codes"]], tensors[name]
        shape = tensor.ShapeAsNumpy()
        found = np.frombuffer(model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes(), np.int8).reshape(shape)
        if codes.ndim == 4:
            found = found.transpose((3, 0, 1, 2) if shape[0] == 1 and codes.shape[1] == 1 else (0, 3, 1, 2))
        if found.shape != codes.shape or (found != codes).any():
            return False
    return True


if __name__ == "__main__":
    main()
