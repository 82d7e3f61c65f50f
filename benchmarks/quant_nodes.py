"""Files with Quant nodes in the tools that read them, against the simulation: what lands in benchmarks/targets.jsonl.

    python benchmarks/quant_nodes.py MODEL DATA OUT --target qonnx --python PATH [--bits 8,8 4,8 4,4 2,2] [--images 60]

PATH is a Python that has the tool. Of each width one line of JSON is appended to --lines. The numbers of a file say nothing of
accuracy here: they are rounded in closed form on 64 procedural images. The simulation is the same codes in QDQ form, run node by
node in onnxruntime. Seconds of conversion are CPU seconds of the process of `genie-onnx export`, Python's start
and imports included: what it takes on an idle core. Memory is the peak of that process.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import genie_onnx
from genie_onnx import TARGETS, DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.validate import Session
from genie_onnx.validate.runtimes import RUNTIMES, ask, judge

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="npz of images [N, C, H, W] as the model takes them, or of bytes")
    parser.add_argument("out", type=Path)
    parser.add_argument("--target", default="qonnx", choices=["qonnx", "hls4ml"])
    parser.add_argument("--tool", help="where it is not the one of the target's name")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--bits", nargs="+", default=["8,8", "4,8", "4,4", "2,2"])
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--mean", type=float, nargs="+", default=[0.0])
    parser.add_argument("--std", type=float, nargs="+", default=[1.0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--lines", type=Path, default=HERE / "targets.jsonl")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    x = images(options.data, options.images, options.mean, options.std)
    for bits in options.bits:
        wbits, abits = map(int, bits.split(","))
        line = measured(options, wbits, abits, x)
        with options.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def images(path: Path, count: int, mean: list[float], std: list[float]) -> np.ndarray:
    """Return the first `count` images of `path`, bytes as (x / 255 - mean) / std."""
    with np.load(path, allow_pickle=False) as arrays:
        x = next(arrays[name] for name in arrays.files if arrays[name].ndim == 4)[:count]
    if x.dtype == np.uint8:
        x = x.transpose(0, 3, 1, 2) if x.shape[-1] in (1, 3) else x
        x = (x.astype(np.float32) / 255 - np.array(mean, np.float32)[:, None, None]) / np.array(std, np.float32)[:, None, None]
    return np.ascontiguousarray(x, np.float32)


def measured(options: argparse.Namespace, wbits: int, abits: int, x: np.ndarray) -> dict[str, object]:
    """Return the line of one width."""
    target = TARGETS[options.target]
    twin = dataclasses.replace(target, form=target.form.in_onnx)
    stem = f"{options.model.stem}.w{wbits}a{abits}.{target.name}"
    config = QuantizeConfig(
        target=twin,
        placement=PlacementConfig(wbits=wbits, abits=abits),
        samples=64,
        images="procedural",
        distill=DistillConfig(iterations=2),
        reconstruct=ReconstructConfig(iterations=0),
        mean=tuple(options.mean),
        std=tuple(options.std),
    )
    made = genie_onnx.quantize(options.model, options.out / f"{stem}.qdq.onnx", config=config)
    output = options.out / f"{stem}.onnx"
    command = [
        sys.executable,
        "-m",
        "genie_onnx",
        "export",
        str(made.run_dir),
        "--target",
        target.name,
        "-o",
        str(output),
        "-q",
        "--accept-useless",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    qdq, file = onnx.load(made.output), onnx.load(output)
    name = file.graph.input[0].name
    batches = x[:, None]
    session = Session(qdq, optimise=False)
    runs = [session({name: batch}) for batch in batches]
    reference = {key: np.stack([run[key] for run in runs]) for key in session.outputs}
    tool = options.tool or target.name
    answer = ask(RUNTIMES[tool], output, {name: batches}, python=options.python, seconds=options.seconds)
    found = judge(tool, answer, reference)
    worst = found.worst
    return {
        "target": target.name,
        "tool": tool,
        "version": found.version,
        "model": options.model.name,
        "bits": f"W{wbits}A{abits}",
        "images": len(x),
        "problem": found.problem,
        "agreement": None if worst is None else worst.agreement,
        "largest_error": None if worst is None else worst.max_error,
        "codes_exact": same_codes(qdq, file),
        "integer_operators": None if found.integer_layers is None else str(found.integer_layers),
        "size_bytes": output.stat().st_size,
        "convert_s": round(seconds, 1),
        "peak_mib": round(after.ru_maxrss / 1024),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def same_codes(qdq: onnx.ModelProto, file: onnx.ModelProto) -> bool:
    """Whether each weight of `file` is, in steps of the scale of its Quant node, the codes that `qdq` stores, at that scale."""
    tensors, codes = ({t.name: numpy_helper.to_array(t) for t in proto.graph.initializer} for proto in (file, qdq))
    weights = {node.input[0]: node for node in file.graph.node if node.op_type == "Quant" and node.input[0] in tensors}
    table = json.loads(next(entry.value for entry in qdq.metadata_props if entry.key == "genie_onnx.weights"))
    same = []
    for name, entry in table.items():
        scale = tensors[weights[name].input[1]]
        stored = codes[entry["codes"]].astype(np.float32)
        steps = np.rint(tensors[name] / scale)
        same.append(np.array_equal(steps, stored) and np.array_equal(scale.ravel(), codes[f"{name}_scale"].ravel()))
    return all(same) and bool(same)


if __name__ == "__main__":
    main()
