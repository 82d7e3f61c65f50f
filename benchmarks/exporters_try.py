"""One exported file as a new user would try it: `genie-onnx inspect FILE`, then `genie-onnx quantize FILE`.

taken      both ended well (quantize with 0, or with 3: the result is of no use, as random weights may have it), the file is
           there, and its interface is that of the float file
refused    inspect ended with 2 and a sentence, as is right for this file
red        anything else: a wrong refusal, a failed run, a traceback, a signal, a limit, another interface
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from exporters_process import Ended, run
from exporters_recipes import Net

SETTINGS = "--samples 8 --distill-iters 5 --recon-iters 3 --wbits 4 --abits 8 --quiet"
LOOK = Path(__file__).with_name("exporters_look.py")
THREADS = {"OMP_NUM_THREADS": "1"}
LAYERS = re.compile(r"layers in integer kernels[^:]*: (\d+) of (\d+)")
USELESS = 3


def tried(model: Path, net: Net, folder: Path, seconds: float, memory: int, keep: bool) -> dict[str, Any]:
    """Return what was found; what the commands printed stays in `folder`, and what quantize wrote if `keep`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    product = [sys.executable, "-m", "genie_onnx"]
    inspected = run([*product, "inspect", str(model), *net.flags], folder, "inspect", seconds, memory, THREADS)
    result = {"inspect": str(inspected), **looked(folder, model)}
    message = text(folder / "inspect.err")
    if inspected.rc != 0:
        right = inspected.rc == 2 and message and "Traceback" not in message and net.refusal
        return result | {"status": "refused" if right else "red", "message": message or "no word"}

    output = folder / f"{net.name}.quant.onnx"
    command = [*product, "quantize", str(model), "-o", str(output), *SETTINGS.split(), *net.flags]
    quantized = run(command, folder, "quantize", seconds, memory, THREADS)
    message = text(folder / "quantize.err")
    result |= {"quantize": str(quantized), "wall": quantized.wall, "cpu": quantized.cpu, "mb": quantized.mb}
    written = sorted(folder.glob("*.quant*.onnx"))
    result |= measured(folder) | (looked(folder, model, written[0]) if len(written) == 1 else {})
    problem = problem_of(quantized, message, result)
    if not keep:
        shutil.rmtree(output.with_suffix(".genie"), ignore_errors=True)
        for made in written:
            made.unlink()
    return result | {"status": "red" if problem else "taken", "message": problem}


def problem_of(quantized: Ended, message: str, result: dict[str, Any]) -> str:
    """Return what is wrong with the run of quantize; empty if nothing is."""
    if quantized.rc not in (0, USELESS):
        return message or f"no word ({quantized})"
    if "Traceback" in message:
        return message
    if "interface" not in result:
        return "no file was written"
    return "" if result["interface"] == "same" else f"interface: {result['interface']}"


def looked(folder: Path, *files: Path) -> dict[str, Any]:
    """Return what exporters_look.py says of the files; in a process too, for onnxruntime may not survive a file."""
    ended = run([sys.executable, str(LOOK), *map(str, files)], folder, "look", 300, variables=THREADS)
    found: dict[str, Any] = json.loads((folder / "look.out").read_text()) if ended.rc == 0 else {}
    return found


def measured(folder: Path) -> dict[str, Any]:
    """Return the figures that quantize printed and reported."""
    found: dict[str, Any] = {}
    for report in folder.glob("*.report.json"):
        parity = json.loads(report.read_text(encoding="utf-8"))["parity"]
        found |= {"flips": parity["flip_rate"], "whole_flips": parity["whole_flip_rate"]}
    layers = LAYERS.search((folder / "quantize.out").read_text(encoding="utf-8", errors="replace"))
    if layers:
        found |= {"integer": int(layers[1]), "layers": int(layers[2])}
    return found


def text(path: Path) -> str:
    """Return the last lines of what was printed, as one line."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    first = "Traceback ... " if any(line.startswith("Traceback") for line in lines) else ""
    return (first + " / ".join(lines[-1:] if first else lines[-6:]))[:800]
